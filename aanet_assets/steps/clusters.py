"""Groups of latents, and the rows that AANets train on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from aanet_assets.steps import pictures
from aanet_assets.steps.activations import (
    by_latent,
    training_cache,
    training_codes,
    training_shards,
)
from aanet_assets.steps.columns import (
    ACTIVATION_PCA_RANK,
    AVERAGE_L0,
    CLUSTER_ID,
    CLUSTER_RECON_ERROR,
    DECODER_DIR_RANK,
    LATENT_INDICES,
    N_CLUSTERS_TOTAL,
    N_LATENTS,
)
from aanet_assets.steps.inputs import language_model
from aanet_assets.steps.predictions import TOKEN_GROUPS, token_groups
from aanet_assets.storage.files import replacing
from aanet_assets.storage.partitions import ByN, Whole
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table, integer, number, text
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

if TYPE_CHECKING:
    import numpy as np

    from aanet_assets.science.activations.rows import Cluster

CLUSTERING = File("clusters_{n}/clustering.safetensors")
EFFECTS = File("latent_effects.safetensors")
ROWS = File("clusters_{n}/cluster_rows.safetensors")
ACTIVE_TOKENS = integer("active_tokens", "Training tokens at which the cluster is active.")
ACTIVITY_LIMIT = number(
    "activity_limit", "Summed activation above which it counts as active; -1: at all tokens."
)
EXTREMA_PROBLEM = text("extrema_problem", "Why there are no extrema; empty where there are.")
CLUSTERS = Table(
    "clusters",
    "One row per cluster: its latents, ranks and rows.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    N_LATENTS,
    LATENT_INDICES,
    CLUSTER_RECON_ERROR,
    DECODER_DIR_RANK,
    ACTIVATION_PCA_RANK,
    AVERAGE_L0,
    ACTIVE_TOKENS,
    ACTIVITY_LIMIT,
    number("norm_limit", "Length of the residual stream above which a token is left out, if any."),
    EXTREMA_PROBLEM,
)
# Clusterings can be equal where these differ: labels from a file know no shards and no ranks.
ROW_SETTINGS = ("rows", "extrema", "cache.training_shards")


def by_effect(study: Study) -> bool:
    """Of studies that cluster latents by what they do to predictions."""
    return study.clustering.method == "spectral_effect"


@step(
    Whole,
    group="1b_clusters",
    job="stage1_clusters",
    kinds=("pytorch",),
    on_device=True,
    when=by_effect,
    # 2: slopes of what is predicted at special tokens no longer count.
    code_version="2",
    reads=(language_model, training_cache, token_groups),
    settings=("model", "revision", "dtype", "sae", "clustering.effect_tokens"),
    files=(EFFECTS,),
)
def latent_effects(run: Run[Whole]) -> Outcome:
    """What each latent does to the model's predictions: log-probabilities gained per unit of it.

    They are slopes, and the mean over tokens; `prediction` beside them is the mean prediction.
    """
    import numpy as np
    from safetensors.numpy import save_file

    from aanet_assets.science.activations.effects import prediction_slopes
    from aanet_assets.science.activations.sae import decoder_rows, hook_of, load_sae
    from aanet_assets.science.activations.shards import read_chunks

    study, path, sae = run.study, run.path(EFFECTS), load_sae(run.study.sae)
    tokens, special = read_chunks(training_shards(run)[0])
    some = slice(-(-study.clustering.effect_tokens // tokens.shape[1]))
    groups = run.read(TOKEN_GROUPS)["group_id"].to_numpy(np.int64)
    found = prediction_slopes(study, hook_of(sae), groups, tokens[some], special[some])
    effects = decoder_rows(sae) @ found.slopes.T
    with replacing(path) as temporary:
        save_file({"effects": effects, "prediction": found.prediction}, temporary)
    counted = int((~special[some]).sum())
    return Outcome([path], {"dagster/row_count": len(effects), "tokens": counted})


@latent_effects.checks(finite="Effects are finite, and some latent has one.")
def _(run: Run[Whole]) -> list[Finding]:
    import numpy as np

    effects = _effects(run)["effects"]
    wrong, most = int((~np.isfinite(effects)).sum()), float(np.abs(effects).max())
    said = f"{wrong} effects are not finite, and the largest is {most:.4g} nats per unit"
    return [Finding("finite", not wrong and most > 0, said)]


def _effects(run: Run) -> "dict[str, np.ndarray]":
    """Of latents, and the prediction beside them; nothing for studies that do not cluster so."""
    from safetensors.numpy import load_file

    return load_file(run.path(EFFECTS)) if by_effect(run.study) else {}


@step(
    ByN,
    group="1b_clusters",
    job="stage1_clusters",
    kinds=("scikitlearn",),
    reads=(training_codes, latent_effects),
    settings=("sae", "clustering", "cache.training_shards"),
    files=(CLUSTERING,),
    code_version="2",
)
def clustering(run: Run[ByN]) -> Outcome:
    """Groups of latents: a label per latent, and each cluster's decoder subspace, rank, residual.

    Latents that never fire, fire too rarely, repeat an earlier one or have a decoder row of zeros
    carry label -1.
    """
    from aanet_assets.science.activations.by_latent import CodesByLatent
    from aanet_assets.science.activations.rows import clusters_of, save_clusters
    from aanet_assets.science.activations.sae import decoder_rows, load_sae
    from aanet_assets.science.clustering.methods import label_latents

    study, n, path = run.study, run.at.n, run.path(CLUSTERING)
    settings, threshold = study.clustering, study.cache.activity_threshold
    decoder = decoder_rows(load_sae(study.sae))
    codes = CodesByLatent(by_latent(run, study.training_shards))
    labels = label_latents(
        decoder, codes.activity, codes.members, n, settings, threshold, **_effects(run)
    )
    clusters = clusters_of(labels, decoder, n)
    save_clusters(path, labels, clusters)
    shown = {
        "decoder_rows_of_zeros": int((~decoder.any(axis=1)).sum()),
        "active_latents_per_token": codes.average_l0,
    }
    return Outcome([path], {"method": settings.method, **_sizes(clusters, len(labels)), **shown})


def _sizes(clusters: "Sequence[Cluster]", latents: int) -> dict[str, int | dg.MetadataValue]:
    """What Dagit shows of how many latents are in clusters."""
    sizes = sorted((len(cluster.latents) for cluster in clusters), reverse=True)
    return {
        "dagster/row_count": len(clusters),
        "latents_clustered": sum(sizes),
        "latents_left_out": latents - sum(sizes),
        "sizes": dg.MetadataValue.json(sizes),
    }


@clustering.checks(
    labels="Every latent has one label: a cluster's number, or -1 for none.",
    usable_latents_only="A latent has no cluster if, and only if, it never fires, fires too "
    "rarely or repeats another.",
    sizes="Every cluster has a basis, and coordinates for each of its latents.",
    bases="Bases are orthonormal and coordinates finite.",
    warnings={"no_empty_cluster": "Every cluster has latents."},
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.science.activations.by_latent import CodesByLatent
    from aanet_assets.science.activations.sae import decoder_rows, load_sae
    from aanet_assets.steps.checks.clusters import check_clustering

    study, decoder = run.study, decoder_rows(load_sae(run.study.sae))
    activity = CodesByLatent(by_latent(run, study.training_shards)).activity
    return check_clustering(run.path(CLUSTERING), run.at.n, decoder, activity, study.clustering)


@step(
    ByN,
    group="1b_clusters",
    job="stage1_clusters",
    kinds=("numpy",),
    reads=(training_codes, clustering),
    settings=(*ROW_SETTINGS, "clustering.variance_share", "clustering.gap_ratio"),
    tables=(CLUSTERS,),
    files=(ROWS,),
    code_version="4",
)
def cluster_rows(run: Run[ByN]) -> Outcome:
    """Training and held-out rows of each cluster in its own subspace, extrema, and ranks.

    A row is the part of the residual stream that the cluster's latents write at a token where the
    cluster is active.
    """
    import pandas as pd

    from aanet_assets.science.activations import rows
    from aanet_assets.science.activations.by_latent import CodesByLatent

    study, n = run.study, run.at.n
    codes = CodesByLatent(by_latent(run, study.training_shards), study.rows.max_norm_ratio)
    clusters = [rows.load_cluster(run.path(CLUSTERING), i) for i in range(n)]
    gathered = rows.gather_all(study, n, codes, clusters)
    rows.save_rows(run.path(ROWS), [each.rows for each in gathered])
    described = [
        rows.describe(*pair, study.clustering) for pair in zip(clusters, gathered, strict=True)
    ]
    table = pd.DataFrame(described).assign(
        n_clusters_total=n, average_l0=codes.average_l0, norm_limit=codes.norm_limit
    )[CLUSTERS.names]
    total = sum(len(each.rows.train) for each in gathered)
    shown = {"clusters": pictures.table(table.drop(columns=["latent_indices"]))}
    files = [run.path(ROWS), run.write(CLUSTERS, table)]
    return Outcome(files, {"dagster/row_count": total, **shown})


@cluster_rows.checks(
    complete="Every cluster has its rows and its line in the table.",
    rows_finite="Rows and extrema are finite.",
    row_widths="Rows are as wide as their cluster's basis.",
    row_counts="There are as many training and held-out rows as the settings ask for.",
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.rows import check_rows

    files = run.path(ROWS), run.path(CLUSTERING)
    return check_rows(run.read(CLUSTERS), *files, run.at.n, run.study.rows)
