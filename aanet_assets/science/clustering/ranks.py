"""Ranks and bases of sets of rows: how many dimensions the latents of a cluster span."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float16, Float32

from aanet_assets.study.settings import ClusteringSettings

SPAN_TOLERANCE = 1e-6


class ClusterGeometry(NamedTuple):
    """Rank of a cluster's decoder rows and what that many dimensions leave out."""

    rank: int
    """`decoder_dir_rank`."""
    recon_error: float
    """`cluster_recon_error`: mean over rows of the squared length of the residual off the best
    basis of that rank; NaN for a cluster without rows."""


def rank_of(singular_values: Float[np.ndarray, " values"], settings: ClusteringSettings) -> int:
    """The smaller of the variance rank and the gap rank of descending singular values.

    Variance rank: least r whose first r squares reach `variance_share` of the sum of squares. Gap
    rank: first r with s_r / s_{r+1} >= `gap_ratio`, else the number of singular values. 0 where
    all singular values are 0.
    """
    s = np.asarray(singular_values, dtype=np.float64)
    total = float(s @ s)
    if total == 0:
        return 0
    variance_rank = _least_count(s**2, settings.variance_share)
    gaps = np.flatnonzero(s[:-1] >= settings.gap_ratio * s[1:])
    gap_rank = int(gaps[0]) + 1 if len(gaps) else len(s)
    return min(variance_rank, gap_rank)


def decoder_rank(rows: Float[np.ndarray, "rows d_model"], settings: ClusteringSettings) -> int:
    """Rank of a set of rows by `rank_of`; 0 for no rows."""
    return rank_of(_singular_values(rows), settings)


def cluster_geometry(
    rows: Float[np.ndarray, "rows d_model"], settings: ClusteringSettings
) -> ClusterGeometry:
    """Rank and residual of a cluster's normalised decoder rows."""
    if len(rows) == 0:
        return ClusterGeometry(0, float("nan"))
    s = _singular_values(rows)
    rank = rank_of(s, settings)
    return ClusterGeometry(rank, float((s[rank:] ** 2).sum() / len(rows)))


def activation_pca_rank(rows: Float[np.ndarray, "rows rank"], variance_share: float = 0.95) -> int:
    """Least number of principal components whose variance reaches `variance_share` of the total.

    `rows` may be coordinates in any orthonormal basis of the cluster's subspace: the rank is the
    same. 0 for no rows and for rows that do not vary.
    """
    if len(rows) == 0:
        return 0
    x = np.asarray(rows, dtype=np.float64)
    centred = x - x.mean(axis=0)
    variances = np.linalg.eigvalsh(centred.T @ centred)[::-1].clip(min=0)
    # Equal rows leave rounding noise, not variance.
    if variances.sum() <= 1e-20 * (x**2).sum():
        return 0
    return _least_count(variances, variance_share)


def span_basis(rows: Float[np.ndarray, "latents d_model"]) -> Float16[np.ndarray, "d_model rank"]:
    """Basis of the row space, rounded to half precision; `orthonormal` makes it exact again.

    Directions with a singular value up to 1e-6 of the largest are left out. The entry of largest
    magnitude of every basis vector is positive. The rounding turns the space by some 1e-4, which is
    less than the codes lose: they are kept in half precision, too.
    """
    if len(rows) == 0:
        return np.zeros((rows.shape[1], 0), dtype=np.float16)
    _, s, vectors = np.linalg.svd(np.asarray(rows, dtype=np.float64), full_matrices=False)
    basis = vectors[s > SPAN_TOLERANCE * s[0]].T
    largest = np.take_along_axis(basis, np.abs(basis).argmax(axis=0)[None, :], axis=0)
    return (basis * np.sign(largest)).astype(np.float16)


def orthonormal(columns: Float[np.ndarray, "d_model rank"]) -> Float32[np.ndarray, "d_model rank"]:
    """Independent columns made orthonormal, each turned as little as the ones before it allow."""
    q, r = np.linalg.qr(columns.astype(np.float64))
    return (q * np.sign(np.diagonal(r))).astype(np.float32)


def _least_count(descending: Float[np.ndarray, " values"], share: float) -> int:
    cumulative = np.cumsum(descending)
    # Against the last cumulative sum, not a separate one: share 1 must be reachable.
    return int(np.searchsorted(cumulative, share * cumulative[-1])) + 1


def _singular_values(rows: Float[np.ndarray, "rows d_model"]) -> Float[np.ndarray, " values"]:
    return np.linalg.svd(np.asarray(rows, dtype=np.float64), compute_uv=False)
