"""Simplices in a cluster's subspace, in closed form, and barycentric coordinates in them."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from aanet_assets.science.aanet.enclosing import enclosing_simplex, extreme_points
from aanet_assets.science.belief.measures import r_squared
from aanet_assets.science.selection.shapes import principal_axes
from aanet_assets.study.settings import ControlSettings


def enclosing_vertices(
    rows: Float[np.ndarray, "rows rank"], k: int, controls: ControlSettings
) -> Float[np.ndarray, "k rank"]:
    """Vertices of the smallest simplex around the rows in their first k - 1 principal components.

    Raises:
        ValueError: the rows do not span as many dimensions; says how many.
    """
    whitened, flat = _flattened(rows, k)
    coordinates = enclosing_simplex(whitened, controls.hinge_weight, controls.hinge_smoothing)
    return np.linalg.lstsq(coordinates, flat, rcond=None)[0]


def projected_vertices(rows: Float[np.ndarray, "rows rank"], k: int) -> Float[np.ndarray, "k rank"]:
    """The k rows that span most volume there, by successive projections (Araujo et al., 2001).

    Raises:
        ValueError: the rows do not span as many dimensions; says how many.
    """
    whitened, flat = _flattened(rows, k)
    return flat[extreme_points(np.column_stack([whitened, np.ones(len(whitened))]), k)]


def _flattened(
    rows: Float[np.ndarray, "rows rank"], k: int
) -> tuple[Float[np.ndarray, "rows axes"], Float[np.ndarray, "rows rank"]]:
    """Whitened principal coordinates, k - 1 of them, and the rows with nothing outside these."""
    found = principal_axes(rows)
    dimensions = 0 if found is None else found.whitened.shape[1]
    if found is None or dimensions < k - 1:
        raise ValueError(f"the rows span {dimensions} dimensions, and {k} vertices need {k - 1}")
    axes = found.axes[:, : k - 1]
    return found.whitened[:, : k - 1], found.mean + (rows - found.mean) @ axes @ axes.T


def barycentric(
    points: Float[np.ndarray, "points rank"], vertices: Float[np.ndarray, "k rank"]
) -> Float[np.ndarray, "points k"]:
    """Coordinates that sum to one, of each point's nearest point in the plane of the vertices."""
    edges = (vertices[:-1] - vertices[-1]).astype(np.float64)
    free = np.linalg.lstsq(edges.T, (points - vertices[-1]).T, rcond=None)[0].T
    return np.column_stack([free, 1 - free.sum(axis=1)])


def clipped(coordinates: Float[np.ndarray, "points k"]) -> Float[np.ndarray, "points k"]:
    """As probabilities: negative coordinates are 0, and the others sum to one again."""
    positive = np.clip(coordinates, 0, None)
    return positive / positive.sum(axis=1, keepdims=True)


def matched(
    coordinates: Float[np.ndarray, "points k"], others: Float[np.ndarray, "points states"]
) -> Int[np.ndarray, " k"]:
    """For each vertex the other column that is nearest to its own, one to one.

    There are at least as many others as vertices.
    """
    apart = np.square(coordinates[:, :, None] - others[:, None, :]).sum(axis=0)
    return linear_sum_assignment(apart)[1]


def agreement(
    coordinates: Float[np.ndarray, "points k"], others: Float[np.ndarray, "points k"]
) -> float:
    """R^2 of one simplex's coordinates by another's, as they are, once vertices are matched."""
    return r_squared(coordinates, others[:, matched(coordinates, others)])
