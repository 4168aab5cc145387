"""Encoder and decoder of a stack of AANets as batched matrix products, forwards and backwards."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aanet_assets.science.aanet.batches import Layout

Layer = tuple[Tensor, Tensor]
"""Weight (models, out, in) and bias (models, out)."""


class Workspace:
    """Memory for everything as large as a batch, used again at every step.

    Fresh memory would cost more than the arithmetic: pieces of this size go back to the system
    when they are freed and are cleared when they are asked for again.
    """

    def __init__(self, slots: int, layout: Layout, widths: tuple[int, int], like: Tensor):
        """`like` gives the type of number and the device."""

        def empty(width: int) -> Tensor:
            return like.new_empty(slots, layout.places, width)

        outer, inner = widths
        self.rows, self.weighted = empty(layout.rank), empty(layout.rank)
        self.noisy = empty(layout.k - 1)
        self.encoder = [empty(outer), empty(inner), empty(layout.k - 1)]
        self.decoder = [empty(inner), empty(outer), empty(layout.rank)]
        self.encoder_slopes = [empty(outer), empty(inner)]
        self.decoder_slopes = self.encoder_slopes[::-1]


def layers(parameters: dict[str, Tensor], part: str) -> list[Layer]:
    """Weights and biases of the three layers of `encoder` or `decoder`."""
    names = [f"{part}_layers.{i}" for i in range(3)]
    return [(parameters[f"{n}.weight"], parameters[f"{n}.bias"]) for n in names]


def forward(stack: Sequence[Layer], x: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    """Apply the layers, ReLU between them; every layer's output is kept in `outputs`."""
    for i, (weight, bias) in enumerate(stack):
        x = torch.baddbmm(bias.unsqueeze(1), x, weight.mT, out=outputs[i])
        if i < len(stack) - 1:
            x.relu_()
    return x


def backward(
    stack: Sequence[Layer],
    gradient: Sequence[Layer],
    inputs: Sequence[Tensor],
    slope: Tensor,
    slopes: Sequence[Tensor],
) -> Tensor:
    """Write the gradient of every layer, given the loss's slope at the last one's output.

    Returns the slope at the first layer's output; `slopes` is memory for the ones on the way.
    """
    for i in reversed(range(len(stack))):
        weight, bias = gradient[i]
        if weight.shape[1] > weight.shape[2]:  # stored transposed: see parameters.views
            torch.bmm(inputs[i].mT, slope, out=weight.mT)
        else:
            torch.bmm(slope.mT, inputs[i], out=weight)
        torch.sum(slope, 1, out=bias)
        if i > 0:
            slope = torch.bmm(slope, stack[i][0], out=slopes[i - 1])
            # ReLU's own backward, in place: ten times as fast as multiplying by a mask.
            torch.ops.aten.threshold_backward.grad_input(slope, inputs[i], 0, grad_input=slope)
    return slope
