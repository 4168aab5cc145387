"""The simplex of an AANet's bottleneck: its vertices and coordinates with respect to them."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def simplex_vertices(k: int, scale: float = 1.0) -> Float[np.ndarray, "k dim"]:
    """Vertices of a regular simplex in k - 1 dimensions, centred on the origin (float64).

    They are the unit vectors and ((1 - sqrt(k)) / (k - 1)) * ones, times `scale`, less their
    mean; every edge is `scale * sqrt(2)` long. ValueError where k < 2.
    """
    if k < 2:
        raise ValueError(f"a simplex of {k} vertices has no coordinates; k must be 2 or more")
    last = np.full((1, k - 1), (1 - np.sqrt(k)) / (k - 1))
    vertices = np.concatenate([np.eye(k - 1), last]) * scale
    return vertices - vertices.mean(axis=0)


def barycentric(
    points: Float[Tensor, "rows dim"], vertices: Float[Tensor, "k dim"]
) -> Float[Tensor, "rows k"]:
    """Barycentric coordinates b of each point e: e = sum_i b_i V_i and sum_i b_i = 1.

    With the edges T_i = V_i - V_last, e - V_last = T^T b for the first k - 1 of them. Negative
    coordinates mean that the point lies outside the simplex.
    """
    vertices = vertices.to(points)
    edges = vertices[:-1] - vertices[-1]
    first = torch.linalg.solve(edges.T, (points - vertices[-1]).T).T
    return torch.cat([first, 1 - first.sum(1, keepdim=True)], dim=1)
