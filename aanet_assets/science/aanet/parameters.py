"""Parameters of a stack of AANets: how they lie in memory and how they start.

The parameters of one model are one row of a matrix (slots, size), so that the optimiser treats
the whole stack at once; `views` cuts the matrix into the tensors of the state dict. The first and
the last layer live in the cluster's subspace: rank columns or rows in place of d_model.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

FIRST = "encoder_layers.0.weight"
LAST = ("decoder_layers.2.weight", "decoder_layers.2.bias")


def parameter_shapes(width: int, k: int, widths: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, by its name in the state dict and in its order.

    `width` is that of the rows: d_model, or the subspace's rank.
    """
    sizes = [width, *widths, k - 1]
    shapes: dict[str, tuple[int, ...]] = {}
    for part, ends in (("encoder", sizes), ("decoder", sizes[::-1])):
        for i, (before, after) in enumerate(pairwise(ends)):
            shapes[f"{part}_layers.{i}.weight"] = (after, before)
            shapes[f"{part}_layers.{i}.bias"] = (after,)
    return shapes


NAMES = tuple(parameter_shapes(1, 2, (1, 1)))
"""Names of the parameters, in the state dict's order."""


def views(
    matrix: Float[Tensor, "slots size"], shapes: dict[str, tuple[int, ...]]
) -> dict[str, Float[Tensor, "slots ..."]]:
    """The matrix cut into one tensor per parameter, without copying.

    A weight lies in memory with its longer side last, because products that write a matrix with a
    short last side are up to six times slower; its view has the shape of the state dict anyway.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    by_name: dict[str, Tensor] = {}
    for (name, shape), piece in zip(shapes.items(), matrix.split(sizes, dim=1), strict=True):
        upright = len(shape) == 2 and shape[0] > shape[1]
        by_name[name] = piece.unflatten(1, shape[::-1]).mT if upright else piece.unflatten(1, shape)
    return by_name


def corner(shape: Sequence[int]) -> tuple[slice, ...]:
    """Where a model's own tensor lies in the padded one of its slot."""
    return tuple(slice(size) for size in shape)


def initial_parameters(
    rank: int, d_model: int, k: int, widths: tuple[int, int], generator: torch.Generator
) -> dict[str, Float[Tensor, "..."]]:
    """Start of one model, as torch.nn.Linear would start it at full width.

    Weights and biases are uniform in +-1/sqrt(fan_in), the first layer's fan_in being d_model.
    Only the part in the subspace is drawn: where the full tensor has d_model rows or columns, that
    part is a sum of many such draws, so normal with the same variance, 1 / (3 fan_in).
    """
    start: dict[str, Tensor] = {}
    shapes = parameter_shapes(rank, k, widths)
    fan_in = d_model
    for name, shape in shapes.items():
        if name.endswith("weight"):
            fan_in = d_model if name == FIRST else shape[1]
        if name == FIRST or name in LAST:
            start[name] = torch.randn(shape, generator=generator) / math.sqrt(3 * fan_in)
        else:
            uniform = torch.rand(shape, generator=generator) * 2 - 1
            start[name] = uniform / math.sqrt(fan_in)
    return start
