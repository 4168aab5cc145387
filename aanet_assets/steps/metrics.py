"""The guide's table and its plots."""

import logging
from typing import TYPE_CHECKING, Any

from aanet_assets.steps import pictures
from aanet_assets.steps.aanets import AANET_METRICS, TRAINING_CURVES, aanet_metrics, aanet_models
from aanet_assets.steps.clusters import CLUSTERS, cluster_rows
from aanet_assets.steps.columns import (
    AANET_K,
    AANET_LOSSES,
    AANET_STATUS,
    ACTIVATION_PCA_RANK,
    AVERAGE_L0,
    CLUSTER_ID,
    CLUSTER_RECON_ERROR,
    DECODER_DIR_RANK,
    ELBOWS,
    FALLING,
    LATENT_INDICES,
    N_CLUSTERS_TOTAL,
    N_LATENTS,
    SAE_ID,
    TRAINING,
)
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table
from aanet_assets.study.layout import File

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("aanet")

METRICS_CSV = File("clusters_{n}/consolidated_metrics_n{n}.csv")
CURVES = File("clusters_{n}/training_curves_n{n}.jsonl")
PLOTS = tuple(
    File(f"clusters_{{n}}/plots/{name}_n{{n}}.png")
    for name in (
        "pca_vs_geometric_rank", "decoder_rank_dist", "elbow_strength_dists",
        "recon_vs_arch_unzoomed", "recon_vs_arch_zoomed",
    )
)  # fmt: skip
CONSOLIDATED_METRICS = Table(
    "consolidated_metrics",
    "The guide's table: one row per cluster and k, with elbows, ranks and qualities.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    N_LATENTS,
    LATENT_INDICES,
    AANET_K,
    AANET_STATUS,
    *AANET_LOSSES,
    SAE_ID,
    AVERAGE_L0,
    CLUSTER_RECON_ERROR,
    DECODER_DIR_RANK,
    ACTIVATION_PCA_RANK,
    *ELBOWS,
    *FALLING,
    *TRAINING,
)
_SHOWN = {
    "cluster_id": "cluster",
    "n_latents": "latents",
    "decoder_dir_rank": "rank",
    "activation_pca_rank": "PCA rank",
    "aanet_recon_loss_elbow_k": "recon elbow",
    "aanet_recon_loss_elbow_strength": "strength",
    "aanet_archetypal_loss_elbow_k": "arch. elbow",
    "aanet_archetypal_loss_elbow_strength": "strength ",
}


@step(
    ByN,
    group="1d_metrics",
    job="stage3",
    kinds=("csv", "duckdb"),
    reads=(cluster_rows, aanet_models, aanet_metrics),
    settings=("ks",),
    tables=(CONSOLIDATED_METRICS,),
    files=(METRICS_CSV, CURVES),
    code_version="2",
)
def consolidated_metrics(run: Run[ByN]) -> Outcome:
    """The guide's table: one row per cluster and k, with elbows, ranks and qualities; CSV and SQL.

    Writes the training curves of the same clusters as JSON lines, too. Elbows need three ks.
    """
    from aanet_assets.science.selection.consolidate import consolidate, write_csv
    from aanet_assets.science.selection.curves import write_curves
    from aanet_assets.science.selection.elbows import too_few_ks

    study, csv, curves = run.study, run.path(METRICS_CSV), run.path(CURVES)
    metrics, clusters = run.read(AANET_METRICS).drop(columns="n_clusters_total"), run.read(CLUSTERS)
    table = consolidate(metrics, clusters, n_clusters=run.at.n, sae_id=study.sae.name)
    shown = {}
    if warning := too_few_ks(study.ks, study.selection.mode):
        log.warning(warning)
        shown["warning"] = warning
    write_csv(table, csv)
    write_curves(run.read(TRAINING_CURVES), curves)
    files = [csv, curves, run.write(CONSOLIDATED_METRICS, table)]
    return Outcome(files, {"dagster/row_count": len(table), **shown, **_elbows(table)})


def _elbows(table: "pd.DataFrame") -> dict[str, Any]:
    """What Dagit shows of the guide's table."""
    elbows = table.drop_duplicates("cluster_id")[list(_SHOWN)].rename(columns=_SHOWN)
    return {
        "average_l0": float(table["average_l0"].iloc[0]),
        "elbow_curves": pictures.elbow_curves(table),
        "elbows": pictures.table(elbows),
    }


@consolidated_metrics.checks(
    complete="Every cluster has one row at every k.",
    losses="Losses are not negative, and are there where training succeeded.",
    elbows="Every elbow lies at one of the ks and has a strength.",
    shares="Shares, percentages and explained variances are in range.",
    csv="The CSV file begins with the guide's columns and equals the table.",
    curves="The training curves have one line per cluster and k.",
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.metrics import check_consolidated

    files = run.path(METRICS_CSV), run.path(CURVES)
    return check_consolidated(run.read(CONSOLIDATED_METRICS), *files, run.at.n, run.study.ks)


@step(
    ByN,
    group="2_review",
    job="stage3",
    kinds=("matplotlib",),
    reads=(consolidated_metrics,),
    settings=("selection",),
    files=PLOTS,
    code_version="2",
)
def analysis_plots(run: Run[ByN]) -> Outcome:
    """The five plots to review before choosing thresholds; full size on disk, small ones here."""
    from aanet_assets.review.plots import write_plots

    table, folder = run.read(CONSOLIDATED_METRICS), run.folder(PLOTS[0])
    files = write_plots(table, run.study.selection, run.at.n, folder)
    shown = {file.stem: pictures.thumbnail(file) for file in files}
    return Outcome(files, {"dagster/row_count": table["cluster_id"].nunique(), **shown})


@analysis_plots.checks(drawn="The five plots are PNG files that show something.")
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.plots import drawn

    return [drawn([run.path(plot) for plot in PLOTS])]
