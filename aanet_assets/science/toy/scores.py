"""Single measures of recovery: held-out R^2, and what the vertices of a simplex stand for."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix

Barycentric = tuple[Int[np.ndarray, " active"], Float[np.ndarray, "active k"]]
BarycentricOf = Callable[[int, int], Barycentric | None]
"""(cluster_id, k) -> held-out tokens where the cluster is active, and their barycentric
coordinates; None where there is no such AANet."""

CodesOf = Callable[[Int[np.ndarray, " members"]], csr_matrix]
"""Latents -> their codes at all tokens, (tokens, members)."""

VERTEX_TOKENS = 200
"""Tokens nearest a vertex that say what the vertex stands for."""


def heldout_r2(
    x_train: Float[np.ndarray, "train features"],
    y_train: Float[np.ndarray, "train outputs"],
    x_heldout: Float[np.ndarray, "heldout features"],
    y_heldout: Float[np.ndarray, "heldout outputs"],
) -> float:
    """R^2 on held-out rows of the least-squares map with intercept fitted on training rows.

    1 - squared error / squared distance from the held-out mean, both summed over all outputs.
    Without features it is that of a constant, at most 0.
    """
    design_train = np.column_stack([np.ones(len(x_train)), x_train])
    design_heldout = np.column_stack([np.ones(len(x_heldout)), x_heldout])
    weights = np.linalg.lstsq(design_train, y_train, rcond=None)[0]
    error = np.square(y_heldout - design_heldout @ weights).sum()
    return float(1 - error / np.square(y_heldout - y_heldout.mean(axis=0)).sum())


def token_r2(
    ids_train: Int[np.ndarray, " train"],
    y_train: Float[np.ndarray, "train outputs"],
    ids_heldout: Int[np.ndarray, " heldout"],
    y_heldout: Float[np.ndarray, "heldout outputs"],
) -> float:
    """`heldout_r2` from which token it is: the mean of each, or of all where one is new."""
    ids, place = np.unique(ids_train, return_inverse=True)
    counts = np.bincount(place)
    sums = np.column_stack([np.bincount(place, weights=y) for y in y_train.T])
    means = np.vstack([sums / counts[:, None], y_train.mean(axis=0)])
    at = np.minimum(np.searchsorted(ids, ids_heldout), len(ids) - 1)
    known = ids[at] == ids_heldout
    error = np.square(y_heldout - means[np.where(known, at, len(ids))]).sum()
    return float(1 - error / np.square(y_heldout - y_heldout.mean(axis=0)).sum())


def vertex_beliefs(
    coordinates: Float[np.ndarray, "active k"], belief: Float[np.ndarray, "active states"]
) -> Float[np.ndarray, "k states"]:
    """Mean belief over the 200 tokens nearest each vertex, by distance of barycentric coordinates.

    `belief` holds zeros at tokens of other components.
    """
    vertices = np.eye(coordinates.shape[1])
    distance = np.linalg.norm(coordinates[:, None, :] - vertices, axis=-1)
    nearest = np.argsort(distance, axis=0, kind="stable")[:VERTEX_TOKENS]
    return belief[nearest].mean(axis=0)


def simplex_scores(
    found: Barycentric | None,
    speaks: Bool[np.ndarray, " tokens"],
    belief: Float[np.ndarray, "tokens states"],
) -> dict[str, float]:
    """`barycentric_r2` and `vertex_purity`; nothing where too few tokens are there to tell."""
    if found is None:
        return {}
    tokens, coordinates = found
    own = speaks[tokens]
    if own.sum() < 2 * VERTEX_TOKENS:
        return {}
    x, y = coordinates[own], belief[tokens][own]
    half = len(x) // 2
    shown = np.where(own[:, None], belief[tokens], 0.0)
    return {
        "barycentric_r2": heldout_r2(x[:half], y[:half], x[half:], y[half:]),
        "vertex_purity": float(vertex_beliefs(coordinates, shown).max(axis=1).min()),
    }
