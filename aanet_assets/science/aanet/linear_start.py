"""A start of training at which an AANet is the best affine map onto its simplex and back.

The smallest simplex around a cluster's rows gives the affine map in closed form. Every ReLU unit
belongs to a pair that looks in opposite directions, because relu(u) - relu(-u) = u: so the
network is exactly that map, and its units bend at different places, free to learn what is curved.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from aanet_assets.science.aanet.batches import extrema_of
from aanet_assets.science.aanet.data import Task
from aanet_assets.science.aanet.enclosing import enclosing_map
from aanet_assets.science.aanet.parameters import initial_parameters
from aanet_assets.science.aanet.reference import simplex_vertices
from aanet_assets.study.settings import AANetSettings

MOST_ROWS = 2_000
"""Rows that the simplex is fitted to; 800 give the same models."""
FLAT = 1e-6
"""Directions with less than this share of the largest variance hold no vertex."""
DOMINATING = 0.5
"""Share of the variance with which one row alone decides where the simplex lies."""
HINGE_WEIGHT, HINGE_SMOOTHING = 100.0, 0.02
"""Of the smallest simplex, as `enclosing_simplex` has them."""
OFFSET = 0.3
"""Standard deviation of the units' offsets, in units of the bottleneck."""


class AffineMap(NamedTuple):
    """Rows z to points of the bottleneck p = A z + a, and back, z = D p + d."""

    onto: Float[np.ndarray, "dim rank"]
    onto_offset: Float[np.ndarray, " dim"]
    back: Float[np.ndarray, "rank dim"]
    back_offset: Float[np.ndarray, " rank"]


Start = AffineMap | str
"""The map that training starts at, or why it starts at random."""


def start_of(task: Task, settings: AANetSettings) -> Start:
    """Where the training of an AANet starts."""
    if settings.start == "random":
        return "as set"
    try:
        return affine_map(task.rows.train, extrema_of(task), task.k, settings)
    except (ValueError, np.linalg.LinAlgError) as error:
        return str(error)


def start_in_words(start: Start) -> str:
    """As the table of metrics has it."""
    return f"random: {start}" if isinstance(start, str) else "linear"


def affine_map(
    rows: Float[np.ndarray, "rows rank"],
    extrema: Float[np.ndarray, "extrema rank"],
    k: int,
    settings: AANetSettings,
) -> AffineMap:
    """The map that takes the smallest simplex around the rows to the AANet's own.

    Vertices go where the extrema that they match best have to lie. Where the rows vary in fewer
    than k - 1 directions, they fill a face. The way back is a ridge regression with the noise of
    training as its penalty.

    Raises:
        ValueError: there is no such simplex; says why.
    """
    some = rows[:: max(1, len(rows) // MOST_ROWS)][:MOST_ROWS].astype(np.float64)
    mean = some.mean(axis=0)
    centred = some - mean
    squares = np.square(centred).sum(axis=1)
    if squares.max() > DOMINATING * squares.sum():
        share = squares.max() / squares.sum()
        raise ValueError(f"one row holds {share:.0%} of the rows' variance")
    variance, axes = np.linalg.eigh(centred.T @ centred / len(some))
    variance, axes = variance[::-1], axes[:, ::-1]
    usable = int((variance > max(FLAT * variance[0], np.finfo(np.float64).tiny)).sum())
    corners = min(k, usable + 1)
    if usable == 0:
        raise ValueError("the rows do not vary")
    if len(some) < 2 * corners:
        raise ValueError(f"{len(some)} rows are too few for {corners} vertices")
    if k - 1 > min(settings.widths) // 2:
        raise ValueError(f"{k - 1} dimensions need {2 * (k - 1)} units in every layer")
    whitening = axes[:, : corners - 1] / np.sqrt(variance[: corners - 1])
    to_corners, settled = enclosing_map(centred @ whitening, HINGE_WEIGHT, HINGE_SMOOTHING)
    if not settled:
        raise ValueError("the smallest simplex around the rows was not found")
    vertices = simplex_vertices(k, settings.simplex_scale)
    places = _places(_with_one((extrema - mean) @ whitening) @ to_corners, corners)
    to_points = to_corners @ vertices[places]
    onto = (whitening @ to_points[:-1]).T
    onto_offset = to_points[-1] - onto @ mean
    points = some @ onto.T + onto_offset
    middle = points.mean(axis=0)
    spread = (points - middle).T @ (points - middle) / len(some)
    penalty = max(settings.noise**2, np.finfo(np.float32).eps) * np.eye(k - 1)
    back = np.linalg.solve(spread + penalty, (points - middle).T @ centred / len(some)).T
    return AffineMap(onto, onto_offset, back, mean - back @ middle)


def _with_one(points: Float[np.ndarray, "rows d"]) -> Float[np.ndarray, "rows d1"]:
    return np.column_stack([points, np.ones(len(points))])


def _places(
    extrema: Float[np.ndarray, "extrema corners"], corners: int
) -> Int[np.ndarray, " corners"]:
    """Which of the AANet's vertices each corner becomes, given the extrema's coordinates."""
    if not len(extrema):
        return np.arange(corners)
    vertex, corner = linear_sum_assignment(-extrema)
    return vertex[np.argsort(corner)]


def linear_parameters(
    start: AffineMap, d_model: int, k: int, widths: tuple[int, int], generator: torch.Generator
) -> dict[str, Float[Tensor, "..."]]:
    """Parameters of the AANet in the subspace that is this map, by their names.

    Where a width is odd, the unit without a partner starts at random, and unheard.
    """
    onto, onto_offset, back, back_offset = (torch.from_numpy(x) for x in start)
    parameters = initial_parameters(back.shape[0], d_model, k, widths, generator)
    dim = k - 1
    same, zero = torch.eye(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    outer, inner = widths
    for part, first, last, sizes in (
        ("encoder", (onto, onto_offset), (same, zero), (outer, inner)),
        ("decoder", (same, zero), (back, back_offset), (inner, outer)),
    ):
        for i, (weight, bias) in enumerate(_three_layers(first, last, sizes, generator)):
            own = parameters[f"{part}_layers.{i}.weight"]
            if i > 0:
                own[:, weight.shape[1] :] = 0
            own[: weight.shape[0], : weight.shape[1]] = weight
            parameters[f"{part}_layers.{i}.bias"][: len(bias)] = bias
    return parameters


Affine = tuple[Tensor, Tensor]
"""Weight (out, in) and bias (out)."""


def _three_layers(
    first: Affine, last: Affine, widths: tuple[int, int], generator: torch.Generator
) -> tuple[Affine, Affine, Affine]:
    """Layers with ReLU between them that are `last` after `first`, exactly."""
    dim = first[0].shape[0]
    outer, inner = (_directions(width // 2, dim, generator) for width in widths)
    outer_offset, inner_offset = (
        OFFSET * torch.randn(len(own), generator=generator, dtype=torch.float64)
        for own in (outer, inner)
    )
    # The first layer's pairs hold u = outer f + offset, the second's v = inner f + offset.
    across = inner @ torch.linalg.pinv(outer)
    through = last[0] @ torch.linalg.pinv(inner)
    return (
        _mirrored(outer @ first[0], outer @ first[1] + outer_offset),
        _mirrored(torch.cat([across, -across], 1), inner_offset - across @ outer_offset),
        (torch.cat([through, -through], 1), last[1] - through @ inner_offset),
    )


def _mirrored(weight: Tensor, bias: Tensor) -> Affine:
    return torch.cat([weight, -weight]), torch.cat([bias, -bias])


def _directions(count: int, dim: int, generator: torch.Generator) -> Float[Tensor, "count dim"]:
    """Unit vectors, as evenly spread as can be: rows of random orthogonal matrices."""
    blocks = [
        torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
        for _ in range(-(-count // dim))
    ]
    return torch.cat(blocks)[:count]
