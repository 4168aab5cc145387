"""Cluster-major rows: for each cluster, the tokens at which it is active, in its own subspace.

A training row is x = a W_c, with a the activations of the cluster's latents and W_c their decoder
rows. It lies in the row space of W_c; with an orthonormal basis Q of that space (columns), the row
is kept as z = x Q, and x = z Q^T.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float32, Int
from safetensors import safe_open
from safetensors.numpy import save_file

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.science.aanet.extrema import N_EXTREMA, laplacian_extrema, with_extrema
from aanet_assets.science.activations.by_latent import CodesByLatent, Members
from aanet_assets.science.activations.shards import Shard
from aanet_assets.science.clustering.decoder import unit_rows
from aanet_assets.science.clustering.ranks import (
    activation_pca_rank,
    cluster_geometry,
    orthonormal,
    span_basis,
)
from aanet_assets.storage.files import replacing
from aanet_assets.study.progress import Progress
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import ClusteringSettings, ExtremaSettings, RowSettings
from aanet_assets.study.study import Study

_KEPT = ("train", "heldout", "extrema")


@dataclass(frozen=True)
class Cluster:
    """The latents of one cluster and the subspace their decoder rows span."""

    cluster_id: int
    latents: Int[np.ndarray, " members"]
    columns: Float[np.ndarray, "d_model rank"]
    """Columns that span it, in half precision."""
    coordinates: Float32[np.ndarray, "members rank"]
    """Decoder rows in the basis, W_c Q."""

    @cached_property
    def basis(self) -> Float32[np.ndarray, "d_model rank"]:
        """Orthonormal columns Q."""
        return orthonormal(self.columns)


def clusters_of(
    labels: Int[np.ndarray, " latents"],
    decoder: Float32[np.ndarray, "latents d_model"],
    n_clusters: int,
    first_id: int = 0,
) -> list[Cluster]:
    """The clusters of a labelling, numbered from `first_id` on, with the subspaces of each."""
    clusters = []
    for label in range(n_clusters):
        latents = np.flatnonzero(labels == label)
        columns = span_basis(decoder[latents])
        coordinates = decoder[latents] @ orthonormal(columns)
        clusters.append(Cluster(first_id + label, latents, columns, coordinates))
    return clusters


def save_clusters(
    path: Path, labels: Int[np.ndarray, "*shuffles latents"], clusters: Sequence[Cluster]
) -> None:
    """Write clusterings: labels, and columns and coordinates of each cluster."""
    arrays = {"labels": labels}
    for cluster in clusters:
        arrays[f"{cluster.cluster_id}.columns"] = np.ascontiguousarray(cluster.columns, np.float16)
        arrays[f"{cluster.cluster_id}.coordinates"] = np.ascontiguousarray(cluster.coordinates)
    with replacing(path) as temporary:
        save_file(arrays, temporary)


def load_labels(path: Path) -> Int[np.ndarray, "*shuffles latents"]:
    """Cluster of each latent, -1 where it has none."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor("labels")


def load_cluster(
    path: Path, cluster_id: int, latents: Int[np.ndarray, " members"] | None = None
) -> Cluster:
    """One cluster of a clustering; of one of several shuffles, where its latents are told."""
    with safe_open(path, framework="numpy") as file:
        if latents is None:
            latents = np.flatnonzero(file.get_tensor("labels") == cluster_id)
        return Cluster(
            cluster_id,
            latents,
            file.get_tensor(f"{cluster_id}.columns"),
            file.get_tensor(f"{cluster_id}.coordinates"),
        )


def activity_limit(activation: Float[np.ndarray, " tokens"], settings: RowSettings) -> float:
    """The summed activation above which a cluster is active.

    A relative threshold is a multiple of the 95th percentile of the sums that are positive.
    """
    if settings.threshold_kind == "absolute":
        return settings.threshold
    positive = activation[activation > 0]
    return float(settings.threshold * np.percentile(positive, 95)) if positive.size else 0.0


def row_limit(activation: Float[np.ndarray, " tokens"], settings: RowSettings) -> float:
    """The summed activation above which a token is a row: -1 where those with none are, too."""
    return -1.0 if settings.all_off else activity_limit(activation, settings)


def summed_activation(members: sp.csr_matrix) -> Float[np.ndarray, " tokens"]:
    """Sum of the activations of the cluster's latents, token by token."""
    return np.asarray(members.sum(axis=1)).ravel()


def draw(count: int, most: int, seed: int) -> Int[np.ndarray, " drawn"]:
    """At most `most` of the numbers below `count`, at random, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def row_seed(study: Study, n: int, cluster_id: int, *, null: bool = False) -> int:
    """Fixes the draw of a cluster's rows, their split, and the sample of its extrema."""
    kind = ("null",) if null else ()
    return seed_for(study.rows.seed, study.name, n, *kind, cluster_id)


def active_rows(
    members: sp.csr_matrix, cluster: Cluster, limit: float
) -> tuple[Int[np.ndarray, " active"], Float32[np.ndarray, "active rank"]]:
    """Tokens at which the cluster's summed activation exceeds `limit`, and its rows there.

    Args:
        members: activations of its latents, (tokens, members).
    """
    active = np.flatnonzero(summed_activation(members) > limit)
    return active, _project(members[active], cluster)


def without_long_tokens_of(shard: Shard, limit: float) -> Shard:
    """The shard without codes at tokens longer than `limit`; NaN leaves out none."""
    codes = without_long_tokens(shard.codes, shard.norms.ravel(), limit)
    return shard if codes is shard.codes else replace(shard, codes=codes)


def without_long_tokens(
    codes: sp.csr_matrix, norms: Float32[np.ndarray, " tokens"], limit: float
) -> sp.csr_matrix:
    """Codes (tokens, latents) without those at tokens whose residual stream is longer than this.

    NaN leaves out none; where none is left out, it is the same matrix.
    """
    long = norms > limit
    if not long.any():
        return codes
    codes = codes.copy()
    codes.data[np.repeat(long, np.diff(codes.indptr))] = 0
    codes.eliminate_zeros()
    return codes


class GatheredRows(NamedTuple):
    """A cluster's rows, and what became known while they were gathered."""

    rows: ClusterRows
    active_tokens: int
    """Tokens at which the cluster is active."""
    activity_limit: float
    """The summed activation above which it counts as active; -1 where all tokens are rows."""
    pca_rank: int
    """`activation_pca_rank`: 1 for a single latent, 0 if no latent ever fires."""
    extrema_problem: str
    """Why there are no extrema; empty where there are."""


def gather_rows(
    members: Members | Sequence[sp.csr_matrix],
    cluster: Cluster,
    settings: RowSettings,
    extrema: ExtremaSettings | None,
    seed: int,
) -> GatheredRows:
    """Draw a cluster's training and held-out rows, find its extrema and its PCA rank.

    Args:
        extrema: None where no AANet is ever trained on the cluster, which then needs none.
        members: activations of its latents, (tokens, members), shard by shard; gone through twice.
        seed: fixes the draw of rows, their split, and the extrema's own sample.
    """
    # Of tokens at which nothing fires nothing is kept, unless they are rows: those that fire are
    # numbered without them.
    floor = -1.0 if settings.all_off else 0.0
    activation = np.concatenate([sums[sums > floor] for sums in map(summed_activation, members)])
    limit = row_limit(activation, settings)
    active = np.flatnonzero(activation > limit)
    drawn = active[draw(len(active), settings.max_rows, seed)]
    firing = draw(len(activation), settings.pca_rows, seed)
    rows, firing_rows = _rows_at(members, (drawn, firing), cluster, floor)
    held_out = np.zeros(len(rows), dtype=bool)
    chosen = np.random.default_rng(seed).permutation(len(rows))
    held_out[chosen[: int(len(rows) * settings.heldout_share)]] = True
    train = rows[~held_out]
    pca_rank = (
        min(1, len(firing)) if len(cluster.latents) == 1 else activation_pca_rank(firing_rows)
    )
    problem, found = "", np.zeros(0, dtype=np.int64)
    if extrema is None:
        problem = "not looked for: no AANet is trained on it"
    elif len(train):
        try:
            found = laplacian_extrema(train, N_EXTREMA, extrema, seed)
        except ValueError as error:
            problem = str(error)
    gathered = ClusterRows(cluster.cluster_id, cluster.basis, train, rows[held_out], train[found])
    return GatheredRows(gathered, len(active), limit, pca_rank, problem)


def gather_all(
    study: Study, n: int, codes: CodesByLatent, clusters: Sequence[Cluster], *, null: bool = False
) -> list[GatheredRows]:
    """Rows of all clusters of one n_clusters, real ones or null ones."""
    what = "null clusters" if null else "gathering rows"
    progress = Progress(len(clusters), "clusters", f"{what}, n_clusters {n}")
    gathered = []
    for i, cluster in enumerate(clusters):
        # Of null clusters those of the first shuffle are trained, and finding extrema takes long.
        extrema = study.extrema if i < n else None
        seed = row_seed(study, n, cluster.cluster_id, null=null)
        members = codes.members(cluster.latents)
        gathered.append(gather_rows(members, cluster, study.rows, extrema, seed))
        progress.advance()
    return gathered


def describe(
    cluster: Cluster, gathered: GatheredRows, settings: ClusteringSettings
) -> dict[str, Any]:
    """What the table `clusters` says of one cluster and its rows."""
    geometry = cluster_geometry(unit_rows(cluster.coordinates), settings)
    return {
        "cluster_id": cluster.cluster_id,
        "n_latents": len(cluster.latents),
        "latent_indices": cluster.latents.tolist(),
        "cluster_recon_error": geometry.recon_error,
        "decoder_dir_rank": geometry.rank,
        "activation_pca_rank": gathered.pca_rank,
        "active_tokens": gathered.active_tokens,
        "activity_limit": gathered.activity_limit,
        "extrema_problem": gathered.extrema_problem,
    }


def describe_null(cluster: Cluster, gathered: GatheredRows) -> dict[str, Any]:
    """What the table `null_clusters` says of one cluster and its rows."""
    return {
        "cluster_id": cluster.cluster_id,
        "null_cluster": True,
        "n_latents": len(cluster.latents),
        "latent_indices": cluster.latents.tolist(),
        "active_tokens": gathered.active_tokens,
        "activity_limit": gathered.activity_limit,
        "extrema_problem": gathered.extrema_problem,
    }


def _rows_at(
    members: Members | Sequence[sp.csr_matrix],
    chosen: Sequence[Int[np.ndarray, " _"]],
    cluster: Cluster,
    floor: float,
) -> list[Float32[np.ndarray, "_ rank"]]:
    """A cluster's rows at each choice of tokens, numbered as those whose sum is above `floor`."""
    found: list[list[np.ndarray]] = [[] for _ in chosen]
    begin = 0
    for part in members:
        firing = np.flatnonzero(summed_activation(part) > floor)
        end = begin + len(firing)
        for tokens, rows in zip(chosen, found, strict=True):
            first, last = np.searchsorted(tokens, (begin, end))
            rows.append(_project(part[firing[tokens[first:last] - begin]], cluster))
        begin = end
    return [np.concatenate(rows) for rows in found]


def _project(members: sp.csr_matrix, cluster: Cluster) -> Float32[np.ndarray, "rows rank"]:
    return np.asarray(members @ cluster.coordinates, dtype=np.float32)


def save_rows(path: Path, clusters: Sequence[ClusterRows]) -> None:
    """Write the rows of all clusters of one clustering; their bases stay in the clustering."""
    arrays = {
        f"{rows.cluster_id}.{name}": np.ascontiguousarray(getattr(rows, name))
        for rows in clusters
        for name in _KEPT
    }
    with replacing(path) as temporary:
        save_file(arrays, temporary)


def load_rows(path: Path, clustering: Path, cluster_ids: Sequence[int]) -> list[ClusterRows]:
    """Rows of some clusters, mapped into memory: what is not looked at is not read."""
    # Of safetensors' two ways in, the one by torch maps files; the one by numpy copies them.
    with safe_open(path, "pt") as rows, safe_open(clustering, "pt") as clusters:
        return [
            ClusterRows(
                i,
                orthonormal(clusters.get_tensor(f"{i}.columns").numpy()),
                *(rows.get_tensor(f"{i}.{name}").numpy() for name in _KEPT),
            )
            for i in cluster_ids
        ]


def load_training_rows(
    study: Study, n: int, k: int, rows: Path, clustering: Path, *, null: bool = False
) -> list[ClusterRows]:
    """Rows of the clusters, or of the null clusters of the first shuffle, with extrema for k.

    Those kept with the rows, or where k asks for more of them, more from the same sample.
    """
    loaded = load_rows(rows, clustering, range(n))
    if k <= N_EXTREMA:
        return loaded
    progress = Progress(n, "clusters", f"extrema for k {k}, n_clusters {n}")
    found = []
    for cluster in loaded:
        seed = row_seed(study, n, cluster.cluster_id, null=null)
        found.append(with_extrema(cluster, k, study.extrema, seed))
        progress.advance()
    return found
