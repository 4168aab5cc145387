"""Leiden communities in the noise-corrected backbone of how latents fire together.

The backbone is that of Coscia and Neffke, "Network Backboning with Noisy Data" (2017); the
communities are those of Traag, Waltman and van Eck, "From Louvain to Leiden" (2019), by the
constant Potts model: latents stay together where their mean affinity exceeds the resolution.
"""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, triu, vstack

from aanet_assets.science.clustering.cooccurrence import Affinity, counts_of

DEVIATIONS = 1.96
"""Standard deviations from chance that an edge of the backbone must be, at least."""
LOWEST, HALVINGS = 1e-6, 24
"""Resolution from which the search goes up to 1, the largest affinity; how long it goes on."""


def backbone(
    codes: Iterable[csr_matrix], threshold: float, pairs: Literal["together", "apart"]
) -> Affinity:
    """Pairs of latents that fire together more, or less, often than chance and noise explain.

    Latents are the nodes of a network, and N_ij, the number of tokens at which two are active, are
    its edges. With the sums N_i, N_j and N of edges, an edge is N_ij N / (N_i N_j) times what
    chance gives; its score maps this ratio r to (r - 1) / (r + 1), from -1 to 1. Pairs whose score
    is more than 1.96 standard deviations from 0, on the side that is asked for, have its absolute
    value for affinity, and all others 0. Of latents that fire `apart`, all pairs take 8 bytes each.

    Args:
        codes: (tokens, latents), shard by shard, each of which is looked at once.
        threshold: of activity.
        pairs: more often `together`, or `apart`.

    Raises:
        ValueError: codes of no token.
    """
    counts, fires, _ = counts_of(codes, threshold)
    sums = np.concatenate([np.asarray(block.sum(axis=1)).ravel() for block in counts]) - fires
    start = 0
    for place, block in enumerate(counts):
        rows = np.arange(start, start + len(block.indptr) - 1)
        start += len(rows)
        if pairs == "apart":
            # Pairs that never fire together have no entry, and are the furthest apart.
            i, j = rows.repeat(len(sums)), np.tile(np.arange(len(sums)), len(rows))
            both = block.toarray().ravel()
        else:
            i, j, both = rows.repeat(np.diff(block.indptr)), block.indices, block.data
        score, deviation = _scores(both.astype(np.float64), sums[i], sums[j], sums.sum())
        side = score if pairs == "together" else -score
        kept = (side > DEVIATIONS * deviation) & (i != j)
        affinity = side[kept].astype(np.float32)
        counts[place] = csr_matrix((affinity, (i[kept] - rows[0], j[kept])), shape=block.shape)
    return Affinity(vstack(counts, format="csr"), np.zeros(len(fires)))


def _scores(
    both: Float[np.ndarray, " pairs"],
    i: Float[np.ndarray, " pairs"],
    j: Float[np.ndarray, " pairs"],
    total: float,
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Scores of edges, and their standard deviations; 0 and infinite where a sum of edges is 0.

    An edge is a binomial draw whose probability has a beta distribution: the prior has the mean
    and variance of a hypergeometric draw by the sums of edges, and the edge itself updates it. The
    deviation of the score follows to first order.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = i * j / total**2
        variance = mean * (total - i) * (total - j) / (total**2 * (total - 1))
        weight = mean * (1 - mean) / variance - 1
        probability = (mean * weight + both) / (weight + total)
        spread = np.sqrt(total * probability * (1 - probability))
        per_edge = total / (i * j)
        # Of total / (i j), by the edge, which is part of all three sums.
        slope = 1 / (i * j) - total * (i + j) / (i * j) ** 2
        score = (per_edge * both - 1) / (per_edge * both + 1)
        deviation = spread * 2 * np.abs(per_edge + both * slope) / (per_edge * both + 1) ** 2
    known = np.isfinite(score) & np.isfinite(deviation)
    return np.where(known, score, 0.0), np.where(known, deviation, np.inf)


def leiden(affinity: Affinity, n_clusters: int, seed: int) -> Int[np.ndarray, " latents"]:
    """As many communities as are asked for, at a resolution that is searched for by halving.

    Raises:
        ValueError: no resolution was found; says which numbers of communities come nearest.
    """
    import igraph
    from leidenalg import CPMVertexPartition, find_partition

    edges = triu(affinity.pairs, k=1).tocoo()
    graph = igraph.Graph(len(affinity.apart), np.column_stack([edges.row, edges.col]))
    weights = edges.data.astype(float).tolist()
    low, high = LOWEST, 1.0
    fewer, more = 0, math.inf
    # Communities become more as the resolution rises, but for the luck of single searches.
    for _ in range(HALVINGS):
        resolution = float(np.sqrt(low * high))
        found = find_partition(
            graph,
            CPMVertexPartition,
            weights=weights,
            resolution_parameter=resolution,
            n_iterations=-1,
            seed=seed,
        )
        if len(found) == n_clusters:
            return np.array(found.membership)
        if len(found) < n_clusters:
            low, fewer = resolution, max(fewer, len(found))
        else:
            high, more = resolution, min(more, len(found))
    nearest = " and ".join(str(number) for number in (fewer, more) if 0 < number < math.inf)
    raise ValueError(
        f"clustering.method leiden finds no resolution that gives {n_clusters} communities of "
        f"latents, only such as give {nearest}: take one of these for n_clusters"
    )
