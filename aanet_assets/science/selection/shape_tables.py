"""Shapes and coactivities of all clusters of one n_clusters, real and chance ones, as tables."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.science.activations.by_latent import CodesByLatent
from aanet_assets.science.activations.rows import activity_limit, summed_activation
from aanet_assets.science.selection.nulls import matched_shuffle, shuffles_for
from aanet_assets.science.selection.shapes import active_together, coactivity, interior, shapes_of
from aanet_assets.study.progress import Progress
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import RowSettings
from aanet_assets.study.study import Study


def coactivity_of(
    latents: Int[np.ndarray, " members"],
    codes: CodesByLatent,
    lengths: Float[np.ndarray, " latents"],
    settings: RowSettings,
) -> float | None:
    """Coactivity of a group of latents, over the tokens at which it is active as a cluster is.

    Args:
        lengths: of the decoder rows.
    """
    sums, together = [], []
    for members in codes.members(latents):
        firing = _where_any_fires(members)
        sums.append(summed_activation(firing))
        together.append(active_together(firing, lengths[latents]))
    summed = np.concatenate(sums)
    return coactivity(np.concatenate(together)[summed > activity_limit(summed, settings)])


def _where_any_fires(members: csr_matrix) -> csr_matrix:
    """The rows that hold something; they share memory with the matrix."""
    begins = members.indptr[:-1]
    ends = np.append(begins[begins < members.indptr[1:]], members.nnz)
    shape = len(ends) - 1, members.shape[1]  # pyright: ignore[reportGeneralTypeIssues]
    return csr_matrix((members.data, members.indices, ends), shape=shape)


def shape_table(
    study: Study,
    n: int,
    clusters: pd.DataFrame,
    rows: Sequence[ClusterRows],
    codes: CodesByLatent,
    lengths: Float[np.ndarray, " latents"],
) -> pd.DataFrame:
    """Fit at every k, coactivity and interior of each cluster.

    Args:
        clusters: cluster_id, null_cluster, latent_indices, in the order of `rows`.
        lengths: of the decoder rows.
    """
    progress = Progress(len(clusters), "clusters", f"shapes, n_clusters {n}")
    found = []
    for cluster, own in zip(clusters.to_dict("records"), rows, strict=True):
        latents = np.asarray(cluster["latent_indices"], dtype=np.int64)
        seed = seed_for(study.rows.seed, study.name, n, "shape", cluster["cluster_id"])
        alike = {
            "n_clusters_total": n,
            "cluster_id": cluster["cluster_id"],
            "null_cluster": cluster["null_cluster"],
            "n_latents": len(latents),
            "coactivity": coactivity_of(latents, codes, lengths, study.rows),
            "interior": interior(own.train),
        }
        shapes = shapes_of(own.train, study.ks, seed, study.controls)
        found += [{**alike, **shape._asdict(), "fit": shape.fit} for shape in shapes]
        if not shapes:
            found.append({**alike, **dict.fromkeys(("k", "pca_explained", "occupancy", "fit"))})
        progress.advance()
    return pd.DataFrame(found)


def chance_table(
    study: Study,
    n: int,
    labels: Int[np.ndarray, " latents"],
    codes: CodesByLatent,
    lengths: Float[np.ndarray, " latents"],
) -> pd.DataFrame:
    """Coactivities of groups of latents of the same sizes and activities, made by chance."""
    shuffles, activity = shuffles_for(study.controls.chance, n), codes.activity
    progress = Progress(shuffles * n, "groups", f"chance groups, n_clusters {n}")
    found = []
    for shuffle in range(shuffles):
        seed = seed_for(study.controls.seed, study.name, n, "chance", shuffle)
        shuffled = matched_shuffle(labels, activity, seed)
        for i in range(n):
            group = np.flatnonzero(shuffled == i)
            found.append((n, True, len(group), coactivity_of(group, codes, lengths, study.rows)))
            progress.advance()
    columns = ["n_clusters_total", "null_cluster", "n_latents", "coactivity"]
    return pd.DataFrame(found, columns=columns)
