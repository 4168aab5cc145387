"""What speaks for each cluster being a simplex: shapes, replicates, and chance to compare with."""

from aanet_assets.steps import pictures
from aanet_assets.steps.aanets import STACK, STAGE1_SETTINGS, aanet_models
from aanet_assets.steps.activations import by_latent, training_codes
from aanet_assets.steps.clusters import (
    ACTIVE_TOKENS,
    ACTIVITY_LIMIT,
    CLUSTERING,
    CLUSTERS,
    EXTREMA_PROBLEM,
    ROW_SETTINGS,
    ROWS,
    cluster_rows,
    clustering,
)
from aanet_assets.steps.columns import (
    AANET_STATUS,
    CLUSTER_ID,
    LATENT_INDICES,
    N_CLUSTERS_TOTAL,
    N_LATENTS,
    NULL_CLUSTER,
    K,
)
from aanet_assets.steps.metrics import CONSOLIDATED_METRICS, consolidated_metrics
from aanet_assets.storage.partitions import ByN, ByNK
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table, integer, listed, number, text
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

SHAPE_SETTINGS = (
    "controls.near_share",
    "controls.shape_rows",
    "controls.hinge_weight",
    "controls.hinge_smoothing",
)
NULL_CLUSTERING = File("clusters_{n}/null_clustering.safetensors")
NULL_ROWS = File("clusters_{n}/null_rows.safetensors")
_COACTIVITY = number("coactivity", "Effective number of latents that are active together.")
_INTERIOR = number("interior", "How full the middle of the rows is, relative to a Gaussian.")
NULL_CLUSTERS = Table(
    "null_clusters",
    "One row per null cluster.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    NULL_CLUSTER,
    N_LATENTS,
    LATENT_INDICES,
    ACTIVE_TOKENS,
    ACTIVITY_LIMIT,
    EXTREMA_PROBLEM,
)
CLUSTER_SHAPES = Table(
    "cluster_shapes",
    "How well a simplex of k vertices fits the rows of each cluster, real or null.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    NULL_CLUSTER,
    N_LATENTS,
    _COACTIVITY,
    _INTERIOR,
    K,
    number("pca_explained", "Share of variance along the first k - 1 principal components."),
    number("occupancy", "How near rows come to the emptiest vertex of the simplex around them."),
    number("fit", "pca_explained times occupancy."),
)
CHANCE_GROUPS = Table(
    "chance_groups",
    "Coactivities of groups of latents made by chance.",
    N_CLUSTERS_TOTAL,
    NULL_CLUSTER,
    N_LATENTS,
    _COACTIVITY,
)
REPLICATES = Table(
    "replicates",
    "AANets that differ in nothing but their seed, of real and null clusters.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    NULL_CLUSTER,
    K,
    integer("replicate", "Number of the replicate; 0 of a real cluster is the model of stage 1."),
    AANET_STATUS,
    number("aanet_recon_loss", "Reconstruction loss; median over the last recorded steps."),
    number("aanet_archetypal_loss", "Archetypal loss; median over the last recorded steps."),
    number("heldout_explained_variance", "Share of the variance of held-out rows explained."),
    number("heldout_in_simplex", "Share of held-out rows inside the simplex."),
    number("heldout_occupancy", "Occupancy of the emptiest vertex by held-out rows."),
    number("vertex_shift", "Mean distance of vertices from replicate 0's, in spreads of rows."),
)
EVIDENCE = Table(
    "evidence",
    "What speaks for each cluster being a simplex, compared with null clusters.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    NULL_CLUSTER,
    N_LATENTS,
    _COACTIVITY,
    number("coactivity_p", "p-value of the coactivity among chance groups of like size."),
    number("coactivity_q", "q-value (Benjamini and Hochberg) of that."),
    number(
        "coactivity_low_p",
        "p-value of a coactivity as low: small where latents exclude one another. In no verdict.",
    ),
    number("coactivity_low_q", "q-value of that."),
    _INTERIOR,
    integer("simplex_k", "k of the simplex that fits best."),
    number("simplex_fit", "Its fit."),
    number("simplex_fit_p", "p-value of the fit among null clusters of like size."),
    number("simplex_fit_q", "q-value of that."),
    integer("replicates", "Replicates that have an elbow."),
    integer("elbow_k", "Elbow of the reconstruction loss that most replicates have."),
    number("elbow_k_share", "Share of the replicates that have it."),
    listed(integer("elbow_ks", "Elbows of all replicates.")),
    number("elbow_strength", "Mean strength over replicates."),
    number("elbow_strength_sd", "Standard deviation of it over replicates."),
    number("elbow_strength_p", "p-value of the strength among null clusters of like size."),
    number("elbow_strength_q", "q-value of that."),
    text("unavailable", "Which statistics are null, and why; empty where none is."),
)


def has_replicates(study: Study) -> bool:
    """Of studies that train several AANets per cluster and k."""
    return study.controls.replicates > 1


@step(
    ByN,
    group="1e_evidence",
    job="stage1_clusters",
    kinds=("numpy",),
    reads=(training_codes, clustering),
    settings=(*ROW_SETTINGS, "controls.nulls", "controls.seed"),
    tables=(NULL_CLUSTERS,),
    files=(NULL_CLUSTERING, NULL_ROWS),
    code_version="4",
)
def null_clusters(run: Run[ByN]) -> Outcome:
    """Chance clusters of the same sizes and activities as the real ones, and their rows.

    Each shuffle of the labels gives one null cluster for every real one: number s * n_clusters + i
    is matched with cluster i. Rows are drawn and kept as those of real clusters are.
    """
    import pandas as pd

    from aanet_assets.science.activations import rows
    from aanet_assets.science.activations.by_latent import CodesByLatent
    from aanet_assets.science.activations.sae import decoder_rows, load_sae
    from aanet_assets.science.selection.nulls import null_labels

    study, n, decoder = run.study, run.at.n, decoder_rows(load_sae(run.study.sae))
    codes = CodesByLatent(by_latent(run, study.training_shards), study.rows.max_norm_ratio)
    labels = null_labels(study, n, rows.load_labels(run.path(CLUSTERING)), codes.activity)
    clusters = [c for i, own in enumerate(labels) for c in rows.clusters_of(own, decoder, n, i * n)]
    gathered = rows.gather_all(study, n, codes, clusters, null=True)
    rows.save_clusters(run.path(NULL_CLUSTERING), labels, clusters)
    rows.save_rows(run.path(NULL_ROWS), [each.rows for each in gathered])
    described = [rows.describe_null(*pair) for pair in zip(clusters, gathered, strict=True)]
    table = run.write(NULL_CLUSTERS, pd.DataFrame(described).assign(n_clusters_total=n))
    shown = {"dagster/row_count": len(described), "shuffles": len(labels)}
    return Outcome([run.path(NULL_CLUSTERING), run.path(NULL_ROWS), table], shown)


@null_clusters.checks(
    matched="Every shuffle has, cluster by cluster, the sizes of the real clusters.",
    rows="Every null cluster has rows, and they are finite.",
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.evidence import check_nulls

    files = run.path(CLUSTERING), run.path(NULL_CLUSTERING), run.path(NULL_ROWS)
    return check_nulls(run.read(NULL_CLUSTERS), *files, run.at.n, run.study.controls.nulls)


@step(
    ByN,
    group="1e_evidence",
    job="stage1_clusters",
    kinds=("numpy", "duckdb"),
    reads=(training_codes, clustering, cluster_rows, null_clusters),
    settings=("ks", "rows", "controls.chance", "controls.seed", *SHAPE_SETTINGS),
    tables=(CLUSTER_SHAPES, CHANCE_GROUPS),
    code_version="3",
)
def cluster_shapes(run: Run[ByN]) -> Outcome:
    """How well a simplex of k vertices fits the rows of each cluster, without any AANet.

    Real and null clusters alike. `coactivity` is the effective number of latents active together;
    the table `chance_groups` has it for many more groups made by chance.
    """
    import numpy as np
    import pandas as pd

    from aanet_assets.science.activations.by_latent import CodesByLatent
    from aanet_assets.science.activations.rows import load_labels, load_rows
    from aanet_assets.science.activations.sae import decoder_rows, load_sae
    from aanet_assets.science.selection.shape_tables import chance_table, shape_table

    study, n = run.study, run.at.n
    lengths = np.linalg.norm(decoder_rows(load_sae(study.sae)), axis=1)
    codes = CodesByLatent(by_latent(run, study.training_shards), study.rows.max_norm_ratio)
    real, null = run.read(CLUSTERS).assign(null_cluster=False), run.read(NULL_CLUSTERS)
    clusters = pd.concat([own.sort_values("cluster_id") for own in (real, null)])
    rows = load_rows(run.path(ROWS), run.path(CLUSTERING), range(n))
    rows += load_rows(run.path(NULL_ROWS), run.path(NULL_CLUSTERING), range(len(null)))
    shapes = shape_table(study, n, clusters, rows, codes, lengths)
    chance = chance_table(study, n, load_labels(run.path(CLUSTERING)), codes, lengths)
    files = [run.write(CLUSTER_SHAPES, shapes), run.write(CHANCE_GROUPS, chance)]
    best = shapes[~shapes["null_cluster"].astype(bool)].sort_values("fit", ascending=False)
    shown = best.drop_duplicates("cluster_id").drop(columns=["n_clusters_total", "null_cluster"])
    return Outcome(files, {"dagster/row_count": len(shapes), "best": pictures.table(shown)})


@cluster_shapes.checks(
    chance="There are as many chance groups as the study asks for.",
    complete="Every cluster, real or null, is there once per k.",
    ranges="Shares and coactivities are in range.",
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.evidence import check_shapes

    tables = run.read(CLUSTER_SHAPES), run.read(CHANCE_GROUPS), run.read(NULL_CLUSTERS)
    return check_shapes(*tables, run.at.n, run.study.ks, run.study.controls.chance)


@step(
    ByNK,
    group="1e_evidence",
    job="stage1_grid",
    kinds=("pytorch", "duckdb"),
    on_device=True,
    when=has_replicates,
    reads=(clustering, cluster_rows, aanet_models, null_clusters),
    settings=(*STAGE1_SETTINGS, "controls.replicates", "controls.near_share"),
    tables=(REPLICATES,),
    code_version="3",
)
def replicates(run: Run[ByNK]) -> Outcome:
    """AANets of every cluster at one k with further seeds, and of as many null clusters.

    Replicate 0 of a real cluster is the model of stage 1. The null clusters are those of the first
    shuffle, one for each real cluster: with them the whole takes twice what the replicates do.
    """
    import pandas as pd

    from aanet_assets.science.aanet.export import load_stack
    from aanet_assets.science.activations.rows import load_training_rows
    from aanet_assets.science.selection.replicates import replicate_rows, train_replicates

    study, n, k, share = run.study, run.at.n, run.at.k, run.study.controls.near_share
    real = load_training_rows(study, n, k, run.path(ROWS), run.path(CLUSTERING))
    files = run.path(NULL_ROWS), run.path(NULL_CLUSTERING)
    null = load_training_rows(study, n, k, *files, null=True)
    trained = train_replicates(study, n, k, real, null, load_stack(run.path(STACK)))
    rows = [row for own in trained for row in replicate_rows(*own, study.aanet, share)]
    table = pd.DataFrame(rows).assign(n_clusters_total=n)
    return Outcome(
        [run.write(REPLICATES, table)],
        {
            "dagster/row_count": len(table),
            "trained": len(table) - len(real),
            "statuses": table["aanet_status"].value_counts().to_dict(),
        },
    )


@replicates.checks(
    complete="Every cluster, and as many null clusters, have all of their replicates.",
    losses="Losses are there where training succeeded, and are not negative.",
)
def _(run: Run[ByNK]) -> list[Finding]:
    from aanet_assets.steps.checks.evidence import check_replicates

    return check_replicates(run.read(REPLICATES), run.at.n, run.at.k, run.study.controls)


@step(
    ByN,
    group="1e_evidence",
    job="stage3",
    kinds=("scipy", "duckdb"),
    reads=(consolidated_metrics, cluster_shapes, replicates),
    settings=("controls.replicates",),
    tables=(EVIDENCE,),
    code_version="5",
)
def evidence(run: Run[ByN]) -> Outcome:
    """What speaks for each cluster being a simplex, with p- and q-values against null clusters."""
    from aanet_assets.science.selection.evidence import gather_evidence, losses_of_stage1

    losses = (
        run.read(REPLICATES)
        if has_replicates(run.study)
        else losses_of_stage1(run.read(CONSOLIDATED_METRICS))
    )
    table = gather_evidence(run.read(CLUSTER_SHAPES), losses, run.read(CHANCE_GROUPS))
    path = run.write(EVIDENCE, table.assign(n_clusters_total=run.at.n))
    real = table[~table["null_cluster"]].drop(columns=["null_cluster", "elbow_ks"])
    return Outcome([path], {"dagster/row_count": len(table), "evidence": pictures.table(real)})


@evidence.checks(
    complete="Every cluster, real or null, has one row.",
    ranges="p-values, q-values and shares are in range, and every k is one of the ks.",
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.evidence import check_evidence

    return check_evidence(run.read(EVIDENCE), run.read(CLUSTER_SHAPES), run.at.n, run.study.ks)
