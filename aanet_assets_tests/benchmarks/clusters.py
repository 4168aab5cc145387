"""Clusters for benchmarks: planted simplices and decoys without any, of realistic sizes."""

import numpy as np

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.science.aanet.extrema import laplacian_extrema
from aanet_assets.study.settings import ExtremaSettings


def benchmark_clusters(
    count: int, d_model: int, n_rows: int, ranks: tuple[int, int], seed: int = 0
) -> tuple[list[ClusterRows], list[int | None]]:
    """Clusters, and the k planted in each: 3, 4, 5 or 6 in turn, None for every fourth, a decoy.

    Rows of a simplex are Dirichlet mixtures of its vertices, scaled row by row as activations are;
    a decoy's are Gaussian of the same covariance. Extrema are the diffusion extrema.
    """
    rng = np.random.default_rng(seed)
    clusters, planted = [], []
    for cluster_id in range(count):
        rank = int(rng.integers(*ranks, endpoint=True))
        k = None if cluster_id % 4 == 3 else 3 + cluster_id % 4 + (cluster_id // 4) % 2
        basis = np.linalg.qr(rng.standard_normal((d_model, rank)))[0].astype(np.float32)
        vertices = 4 * rng.standard_normal((k or 4, rank))
        mixed = rng.dirichlet(np.full(len(vertices), 0.5), n_rows) @ vertices
        if k is None:
            mixed = rng.multivariate_normal(mixed.mean(axis=0), np.cov(mixed.T), n_rows)
        rows = (mixed + 0.2 * rng.standard_normal(mixed.shape)).astype(np.float32)
        train, heldout = rows[: n_rows * 9 // 10], rows[n_rows * 9 // 10 :]
        found = laplacian_extrema(train, 8, ExtremaSettings(), seed=cluster_id)
        clusters.append(ClusterRows(cluster_id, basis, train, heldout, train[found]))
        planted.append(k)
    return clusters, planted
