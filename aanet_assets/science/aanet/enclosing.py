"""The smallest simplex around a cloud of points, allowing for points that stick out a little.

Minimising log volume plus a penalty on negative barycentric coordinates is the idea of SISAL
(Bioucas-Dias, "A variable splitting augmented Lagrangian approach to linear spectral unmixing",
2009); here with a smoothed hinge, so that plain L-BFGS does it.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize

MAX_ITERATIONS = 300


def enclosing_simplex(
    points: Float[np.ndarray, "points d"], weight: float, smoothing: float
) -> Float[np.ndarray, "points k"]:
    """Barycentric coordinates of the points in the simplex of k = d + 1 vertices around them.

    `points` should be centred and have unit variance along each axis. Rows sum to one; a point
    outside has a negative coordinate. The result is a local optimum, from a start at extreme
    points, and the same for the same points.

    Args:
        weight: of the hinge, the mean negative coordinate, against the log volume. Higher takes in
            more of the points that stick out, and makes the vertices lonelier.
        smoothing: negative coordinates up to this count by their square.

    Raises:
        ValueError: fewer points than vertices, or points that do not span their space.
    """
    return _homogeneous(points) @ enclosing_map(points, weight, smoothing)[0]


def enclosing_map(
    points: Float[np.ndarray, "points d"], weight: float, smoothing: float
) -> tuple[Float[np.ndarray, "k k"], bool]:
    """What gives the coordinates of `enclosing_simplex` for any (point, 1), and whether the search
    for it came to its end.
    """
    n, d = points.shape
    k = d + 1
    homogeneous = _homogeneous(points)
    if np.linalg.matrix_rank(homogeneous) < k:
        raise ValueError(f"{n} points do not span {d} dimensions; a simplex there needs more")
    start = np.linalg.inv(homogeneous[extreme_points(homogeneous, k)].T)

    # Coordinates are b = Q h with h = (point, 1). They sum to one, so the columns of Q do to
    # (0, ..., 0, 1), and its last row follows from the others.
    def whole(rows: Float[np.ndarray, " entries"]) -> Float[np.ndarray, "k k"]:
        top = rows.reshape(d, k)
        return np.vstack([top, np.eye(k)[-1] - top.sum(axis=0)])

    def objective(rows: Float[np.ndarray, " entries"]) -> tuple[float, np.ndarray]:
        q = whole(rows)
        log_volume = -np.linalg.slogdet(q)[1]
        if not np.isfinite(log_volume):
            return np.inf, np.zeros_like(rows)  # a step too far, which L-BFGS takes back
        outside = homogeneous @ -q.T
        np.maximum(outside, 0, out=outside)
        # A coordinate that is x outside counts x^2 / (2 smoothing), beyond the smoothing linearly:
        # c (x - c / 2) / smoothing with c = min(x, smoothing), whose slope is c / smoothing.
        within = np.minimum(outside, smoothing)
        hinge = np.vdot(within, outside) - np.vdot(within, within) / 2
        value = log_volume + hinge * weight / (n * smoothing)
        gradient = within.T @ homogeneous * (-weight / (n * smoothing)) - np.linalg.inv(q).T
        return float(value), (gradient[:-1] - gradient[-1]).ravel()

    found = minimize(
        objective,
        start[:-1].ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS},
    )
    return whole(found.x).T, bool(found.success and np.isfinite(found.x).all())


def _homogeneous(points: Float[np.ndarray, "points d"]) -> Float[np.ndarray, "points k"]:
    return np.column_stack([points, np.ones(len(points))])


def extreme_points(rows: Float[np.ndarray, "rows width"], count: int) -> Int[np.ndarray, " count"]:
    """Indices of rows that span much volume: each the one farthest from the span of those before.

    The successive projection algorithm (Araujo et al., 2001). The rows must have that rank.
    """
    rest, chosen = rows.copy(), []
    for _ in range(count):
        squares = np.square(rest).sum(axis=1)
        farthest = int(squares.argmax())
        chosen.append(farthest)
        direction = rest[farthest] / np.sqrt(squares[farthest])
        rest -= np.outer(rest @ direction, direction)
    return np.array(chosen)
