"""Diffusion extrema: the rows at the far ends of a cluster's kNN graph, found by its Laplacian.

The first is where the Fiedler vector is largest; each next one is where the lowest eigenvector of
the Laplacian without the rows and columns of the earlier ones is largest, that is, the point from
which diffusion takes longest to reach any of them. So the first k are the same however many are
found.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.study.settings import ExtremaSettings

N_EXTREMA = 8
"""Extrema found once for each cluster and kept with its rows, whatever the study's ks are, so that
another k leaves rows and AANets as they are. An AANet of k archetypes uses the first k of them; one
of more archetypes finds its own, of which these are the first."""

DENSE_ROWS = 150
"""Up to this many rows a dense eigensolver is as fast as Lanczos, and never breaks down."""


def laplacian_extrema(
    rows: Float[np.ndarray, "rows rank"], n_extrema: int, settings: ExtremaSettings, seed: int
) -> Int[np.ndarray, " extrema"]:
    """Indices into `rows` of up to `n_extrema` extrema, the most extreme first.

    At most `settings.max_rows` rows, drawn by `seed`, enter the graph, each distinct row once;
    where fewer than `N_EXTREMA` of those drawn are distinct, the distinct ones among all rows do.
    There are fewer extrema only where fewer rows enter. ValueError where rows are not finite, or
    where there are not two distinct ones.
    """
    if not np.isfinite(rows).all():
        raise ValueError("extrema need finite rows; some rows hold nan or infinite values")
    rng = np.random.default_rng(seed)
    chosen = _distinct_sample(rows, settings.max_rows, rng)
    if len(chosen) < 2:
        raise ValueError(
            f"extrema need at least two distinct rows; this cluster has {len(rows)} rows, "
            f"{len(chosen)} of them distinct"
        )
    points = _principal_coordinates(rows[chosen].astype(np.float64), settings.variance_share)
    laplacian = _laplacian(points, settings.knn)
    return chosen[_graph_extrema(laplacian, len(chosen), min(n_extrema, len(chosen)), rng)]


def with_extrema(
    rows: ClusterRows, n_extrema: int, settings: ExtremaSettings, seed: int
) -> ClusterRows:
    """The cluster with so many extrema of its training rows; with none where it cannot have any.

    Training goes on without the extrema term then, and its loss stays empty.
    """
    try:
        found = laplacian_extrema(rows.train, n_extrema, settings, seed)
    except ValueError:
        found = np.zeros(0, dtype=np.int64)
    return replace(rows, extrema=rows.train[found])


def _distinct_sample(rows: np.ndarray, max_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Ascending indices of at most `max_rows` distinct rows."""
    indices = np.arange(len(rows))
    if len(rows) > max_rows:
        sample = np.sort(rng.choice(indices, max_rows, replace=False))
        sample = sample[_first_of_equals(rows[sample])]
        if len(sample) >= N_EXTREMA:
            return sample
    indices = indices[_first_of_equals(rows)]
    if len(indices) > max_rows:
        indices = np.sort(rng.choice(indices, max_rows, replace=False))
    return indices


def _first_of_equals(rows: np.ndarray) -> np.ndarray:
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])


def _principal_coordinates(points: np.ndarray, variance_share: float) -> np.ndarray:
    """Coordinates on the fewest principal components that hold `variance_share` of the variance."""
    centred = points - points.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    kept = int(np.searchsorted(share, variance_share)) + 1
    return left[:, :kept] * singular[:kept]


def _laplacian(points: np.ndarray, knn: int) -> sp.csr_array:
    """Laplacian of the symmetrised kNN graph (mutual neighbours 1, one-sided 1/2), connected.

    In a small sample a third of the points are neighbours: with all of them every point is alike.
    """
    n = len(points)
    neighbours = min(knn, n - 1, max(2, n // 3))
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(points)
    directed = search.kneighbors_graph(mode="connectivity")
    weights = _connected(sp.csr_array((directed + directed.T) / 2), points)
    return sp.csr_array(sp.diags_array(weights.sum(axis=1)) - weights)


def _connected(weights: sp.csr_array, points: np.ndarray) -> sp.csr_array:
    """Join the graph's components by their closest pairs of points.

    In several components the lowest eigenvectors only tell the components apart.
    """
    while True:
        n_components, component = connected_components(weights, directed=False)
        if n_components == 1:
            return weights
        inside = np.flatnonzero(component == 0)
        outside = np.flatnonzero(component != 0)
        distances = cdist(points[inside], points[outside])
        near, far = np.unravel_index(distances.argmin(), distances.shape)
        ends = np.array([inside[near], outside[far]])
        bridge = sp.coo_array((np.ones(2), (ends, ends[::-1])), shape=weights.shape)
        weights = sp.csr_array(weights + bridge)


def _graph_extrema(
    laplacian: sp.csr_array, n: int, n_extrema: int, rng: np.random.Generator
) -> np.ndarray:
    start = rng.standard_normal(n)
    lowest = _lowest_dense if n <= DENSE_ROWS else _lowest_lanczos
    found: list[int] = []
    for _ in range(n_extrema):
        vector = np.abs(lowest(laplacian, found, start))
        vector[found] = -1.0
        found.append(int(vector.argmax()))
        start = np.maximum(vector, 0.0)
    return np.array(found)


def _lowest_dense(laplacian: sp.csr_array, found: list[int], start: np.ndarray) -> np.ndarray:
    """Fiedler vector where nothing is found yet, else lowest eigenvector off the found rows."""
    rest = np.setdiff1d(np.arange(len(start)), found)
    vectors = np.linalg.eigh(laplacian.toarray()[np.ix_(rest, rest)])[1]
    lowest = np.zeros(len(start))
    lowest[rest] = vectors[:, 0 if found else 1]
    return lowest


def _lowest_lanczos(laplacian: sp.csr_array, found: list[int], start: np.ndarray) -> np.ndarray:
    """As `_lowest_dense`, by Lanczos on shift - L kept inside the subspace that is asked for.

    With a fixed start it finds the same vector every time, unlike ARPACK's own search for the
    smallest eigenvalues.
    """
    shift = 2 * laplacian.diagonal().max()

    def inside(vector: np.ndarray) -> np.ndarray:
        if not found:
            return vector - vector.mean()
        vector = vector.copy()
        vector[found] = 0.0
        return vector

    def multiply(vector: np.ndarray) -> np.ndarray:
        return inside(shift * vector - laplacian @ vector)

    shape = (len(start), len(start))
    operator = LinearOperator(shape, multiply, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    rng = np.random.default_rng(0)
    _, vectors = eigsh(operator, k=1, which="LA", ncv=40, v0=inside(start), rng=rng)
    return vectors[:, 0]
