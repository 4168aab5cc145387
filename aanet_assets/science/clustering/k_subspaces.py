"""k-subspaces: clusters that are low-dimensional linear subspaces, found by alternation."""

import logging

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import qr

from aanet_assets.science.clustering.ranks import rank_of
from aanet_assets.study.settings import ClusteringSettings

log = logging.getLogger("aanet")


def k_subspaces(
    rows: Float[np.ndarray, "rows d_model"], n_clusters: int, settings: ClusteringSettings
) -> Int[np.ndarray, " rows"]:
    """Label of the subspace nearest to every row; needs at least `n_clusters` rows.

    The first pivots of a column-pivoted QR, rows far from one another's span, each span a line to
    begin with. Then rows go to the subspace with the least squared residual, and every cluster's
    subspace is refitted by SVD with the rank of `rank_of`, until no label changes or for
    `settings.max_rounds` rounds. A cluster that has become empty takes the row with the largest
    residual. Nothing is random.

    The result is a local optimum: two seeds in one subspace split it between them, and two other
    subspaces then share one cluster of the sum of their ranks.
    """
    pivots = qr(rows.T, mode="r", pivoting=True)[-1]
    bases = [rows[p][:, None] for p in pivots[:n_clusters]]
    labels = _assign(rows, bases)
    for _ in range(settings.max_rounds):
        bases = [_fit(rows[labels == c], settings) for c in range(n_clusters)]
        previous, labels = labels, _assign(rows, bases)
        if np.array_equal(labels, previous):
            return labels
    log.info(f"k-subspaces: labels still changed after {settings.max_rounds} rounds")
    return labels


def _assign(
    rows: Float[np.ndarray, "rows d_model"], bases: list[np.ndarray]
) -> Int[np.ndarray, " rows"]:
    # The squared residual of a row is its squared length minus that of its projection.
    projected = np.stack([np.square(rows @ basis).sum(axis=1) for basis in bases], axis=1)
    labels = projected.argmax(axis=1)
    residuals = np.square(rows).sum(axis=1) - projected.max(axis=1)
    sizes = np.bincount(labels, minlength=len(bases))
    for empty in np.flatnonzero(sizes == 0):
        row = np.where(sizes[labels] > 1, residuals, -np.inf).argmax()
        sizes[labels[row]] -= 1
        labels[row], sizes[empty], residuals[row] = empty, 1, 0
    return labels


def _fit(
    rows: Float[np.ndarray, "rows d_model"], settings: ClusteringSettings
) -> Float[np.ndarray, "d_model rank"]:
    _, s, vectors = np.linalg.svd(rows, full_matrices=False)
    return vectors[: rank_of(s, settings)].T
