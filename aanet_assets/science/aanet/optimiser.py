"""Adam with clipping for a stack of AANets, every model on its own."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from aanet_assets.science.aanet.parameters import FIRST, LAST, corner, views
from aanet_assets.study.settings import AANetSettings

BETA1, EPSILON = 0.9, 1e-8
RANK_AXES = {FIRST: 2, LAST[0]: 1, LAST[1]: 1}
"""Where the subspace's coordinates lie in the first and the last layer, slots first."""


class StackAdam:
    """Adam as torch.optim.Adam does it, but for parameters that have the subspace's axis.

    Adam divides every full-width coordinate of such a parameter by the root of its own second
    moment. Those coordinates are sums over the subspace's, so seen from the subspace their
    second moments are all alike, sum_r g_r^2 / d_model, and a normalised step spread over
    many coordinates keeps sqrt(2 / pi) of its length along the gradient. Both are one factor: the
    second moment of the r axis is pi / (2 d_model) * sum_r g_r^2. Plain Adam in the subspace
    would step sqrt(2 d_model / (pi rank)) times too short.

    Parameters are drawn back towards where they started, at a rate of each model's own, apart from
    the gradient and its moments, as AdamW (Loshchilov and Hutter, 2019) draws them to zero.

    `gradient` is where each step finds its gradient; parameters and gradient come with views by
    the names of the state dict, which `keep` replaces.
    """

    def __init__(
        self,
        slots: int,
        shapes: dict[str, tuple[int, ...]],
        d_model: int,
        settings: AANetSettings,
        device: str,
    ):
        self.shapes, self.d_model, self.settings = shapes, d_model, settings
        size = sum(math.prod(shape) for shape in shapes.values())
        self.mean = torch.zeros(slots, size, device=device)
        self.square = torch.zeros_like(self.mean)
        self.origin = torch.zeros_like(self.mean)
        self.pull = torch.zeros(slots, 1, device=device)
        self._hold(torch.zeros_like(self.mean))

    def _hold(self, parameters: Tensor) -> None:
        self.parameters, self.gradient = parameters, torch.empty_like(parameters)
        self.parameters_by_name = views(self.parameters, self.shapes)
        self.gradient_by_name = views(self.gradient, self.shapes)

    def start(self, slot: int, parameters: dict[str, Float[Tensor, "..."]], pull: float) -> None:
        """Give a slot to a model that starts from these; what they leave out of it is zero."""
        for values in (self.parameters, self.mean, self.square):
            values[slot] = 0
        for name, own in parameters.items():
            self.parameters_by_name[name][slot][corner(own.shape)] = own
        self.origin[slot], self.pull[slot] = self.parameters[slot], pull

    def step(
        self, lr: Float[Tensor, " slots"], corrections: Float[Tensor, "moments slots"]
    ) -> None:
        """Clip what is in `gradient` to `clip_norm`, add weight decay, draw back, and step.

        `corrections` is `bias_corrections` of the step each model is at. `gradient` is used up.
        """
        gradient = self.gradient
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient.mul_((self.settings.clip_norm / (norm + 1e-6)).clamp_(max=1.0))
        gradient.add_(self.parameters, alpha=self.settings.weight_decay)
        self.mean.lerp_(gradient, 1 - BETA1)
        squares = gradient.square_()
        for name, axis in RANK_AXES.items():
            own = self.gradient_by_name[name]
            own.copy_(own.sum(axis, keepdim=True).mul_(math.pi / (2 * self.d_model)))
        self.square.lerp_(squares, 1 - self.settings.beta2)
        # The squares are used up too; their memory takes the step.
        root = torch.sqrt(self.square, out=squares)
        root.div_(corrections[1].sqrt().unsqueeze(1)).add_(EPSILON)
        step = torch.div(self.mean, root, out=root)
        back = self.pull * lr.unsqueeze(1)
        self.parameters.mul_(1 - back).addcmul_(self.origin, back)
        self.parameters.addcmul_(step, (lr / -corrections[0]).unsqueeze(1))

    def keep(self, slots: Tensor) -> None:
        """Drop every other slot."""
        self.mean, self.square = self.mean[slots], self.square[slots]
        self.origin, self.pull = self.origin[slots], self.pull[slots]
        self._hold(self.parameters[slots])


def bias_corrections(
    before: Int[np.ndarray, " slots"], steps: int, beta2: float
) -> Float[np.ndarray, "steps moments slots"]:
    """1 - beta^t of both moments over the next steps, for models that took `before` already."""
    t = before + np.arange(1, steps + 1)[:, None]
    return np.stack([1 - BETA1**t, 1 - beta2**t], axis=1)
