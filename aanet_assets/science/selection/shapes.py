"""What shape the rows of a cluster have, without any AANet: how well a simplex of k vertices fits.

A simplex of k vertices is flat, in k - 1 dimensions, and reaches out to its vertices. So its fit is
the share of variance that k - 1 principal components explain, times the occupancy of its emptiest
vertex. A disk fails on the one or the other at every k: too much variance is left, or no point
comes near the corners of a triangle around it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix
from scipy.stats import chi2

from aanet_assets.science.aanet.enclosing import enclosing_simplex
from aanet_assets.study.settings import ControlSettings

FLAT = 1e-6
"""Variance along an axis, relative to the largest, under which there is no such axis."""
CORE = 0.1
"""Share of a Gaussian inside the radius of `interior`."""


class Shape(NamedTuple):
    """How well a simplex of k vertices fits the rows of a cluster."""

    k: int
    pca_explained: float
    """Share of variance along the first k - 1 principal components."""
    occupancy: float
    """Of the emptiest vertex of the simplex around the rows in these components: mean barycentric
    coordinate of the `near_share` of rows nearest to it, at most 1."""

    @property
    def fit(self) -> float:
        """`pca_explained` times `occupancy`."""
        return self.pca_explained * self.occupancy


def shapes_of(
    rows: Float[np.ndarray, "rows rank"], ks: Sequence[int], seed: int, controls: ControlSettings
) -> list[Shape]:
    """Fit of simplices of the given numbers of vertices.

    A k that needs more dimensions than the rows have, or more rows than there are, is left out: no
    such simplex can be there.
    """
    most = controls.shape_rows
    if len(rows) > most:
        rows = rows[np.random.default_rng(seed).choice(len(rows), most, replace=False)]
    axes = principal_axes(rows)
    if axes is None:
        return []
    whitened, explained = axes.whitened, axes.explained
    near = int(np.ceil(controls.near_share * len(rows)))
    found = []
    for k in ks:
        if k - 1 > whitened.shape[1] or len(rows) < 2 * k:
            continue
        coordinates = enclosing_simplex(
            whitened[:, : k - 1], controls.hinge_weight, controls.hinge_smoothing
        )
        nearest = np.sort(coordinates, axis=0)[-near:].mean(axis=0)
        occupancy = float(np.clip(nearest.min(), 0, 1))
        found.append(Shape(k, float(explained[k - 2]), occupancy))
    return found


def interior(rows: Float[np.ndarray, "rows rank"]) -> float | None:
    """How full the middle of the cloud is, relative to a Gaussian of the same covariance.

    Share of rows within the radius (in whitened coordinates) that holds 10% of such a Gaussian,
    over 0.1. None for rows that do not vary.
    """
    axes = principal_axes(rows)
    if axes is None:
        return None
    squares = np.square(axes.whitened).sum(axis=1)
    return float((squares < chi2.ppf(CORE, axes.whitened.shape[1])).mean() / CORE)


def active_together(
    activations: csr_matrix, lengths: Float[np.ndarray, " members"]
) -> Float[np.ndarray, " tokens"]:
    """How many of a cluster's latents are active together at each token.

    The effective number (sum a)^2 / sum a^2 of the activations, which is 1 where one latent is
    active alone. `activations` has a row for each token, a column for each latent; they are scaled
    by `lengths`, those of the decoder rows. NaN where nothing is written.
    """
    squares = activations.power(2) @ lengths**2
    total = activations @ lengths
    return np.divide(total**2, squares, out=np.full_like(squares, np.nan), where=squares > 0)


def coactivity(together: Float[np.ndarray, " tokens"]) -> float | None:
    """Mean of `active_together` over tokens; None for no tokens.

    Tokens at which nothing is written, by decoder rows of zeros, do not count.
    """
    written = together[~np.isnan(together)]
    return float(written.mean()) if len(written) else None


class PrincipalAxes(NamedTuple):
    """Directions in which rows vary, from the widest on."""

    whitened: Float[np.ndarray, "rows axes"]
    """Coordinates of unit variance."""
    explained: Float[np.ndarray, " axes"]
    """Cumulative shares of the variance."""
    mean: Float[np.ndarray, " rank"]
    axes: Float[np.ndarray, "rank axes"]
    """Orthonormal columns."""


def principal_axes(rows: Float[np.ndarray, "rows rank"]) -> PrincipalAxes | None:
    """Principal components of rows; None where they do not vary."""
    if len(rows) < 2:
        return None
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = rows.astype(np.float64) - mean
    variance, axes = np.linalg.eigh(centred.T @ centred / len(rows))
    variance, axes = variance[::-1], axes[:, ::-1]
    # Where rows are equal, what is left of the variance is rounding.
    kept = variance > max(
        FLAT * variance[0], np.finfo(np.float32).eps ** 2 * np.square(rows).mean()
    )
    if not kept.any():
        return None
    whitened = centred @ axes[:, kept] / np.sqrt(variance[kept])
    explained = np.cumsum(variance[kept]) / variance.clip(min=0).sum()
    return PrincipalAxes(whitened, explained, mean, axes[:, kept])
