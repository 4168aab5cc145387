"""Adam with clipping and a plateau schedule for a stack of AANets, every model on its own."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from aanet_assets.archetypes.parameters import FIRST, LAST, views
from aanet_assets.settings import AANetSettings

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
RANK_AXES = {"span": {FIRST: 2, LAST[0]: 1, LAST[1]: 1}, "exact": {}}
"""Where the subspace's coordinates lie in the first and the last layer, models first, by mode."""


class StackAdam:
    """Adam as torch.optim.Adam does it, except where a parameter has the subspace's axis.

    Adam divides every full-width coordinate of such a parameter by the root of its own second
    moment. Those coordinates are sums over the subspace's, so seen from the subspace their
    second moments are all alike, sum_r g_r^2 / d_model, and a normalised step spread over
    many coordinates keeps sqrt(2 / pi) of its length along the gradient. Both are one factor: the
    second moment of the r axis is pi / (2 d_model) * sum_r g_r^2. Plain Adam in the subspace
    would step sqrt(2 d_model / (pi rank)) times too short. In the mode `exact` parameters are at
    full width and have no such axis.

    `gradient` is where each step finds its gradient; parameters and gradient come with views by
    the names of the state dict, which `keep` replaces.
    """

    def __init__(
        self,
        parameters: Float[Tensor, "models size"],
        shapes: dict[str, tuple[int, ...]],
        d_model: int,
        settings: AANetSettings,
    ):
        self.shapes, self.d_model, self.settings = shapes, d_model, settings
        self.mean = torch.zeros_like(parameters)
        self.square = torch.zeros_like(parameters)
        self.steps = 0
        self._hold(parameters)

    def _hold(self, parameters: Tensor) -> None:
        self.parameters, self.gradient = parameters, torch.empty_like(parameters)
        self.parameters_by_name = views(self.parameters, self.shapes)
        self.gradient_by_name = views(self.gradient, self.shapes)

    def step(self, lr: Float[Tensor, "models"]) -> None:
        """Clip what is in `gradient` to `clip_norm`, add weight decay, and step.

        `gradient` is used up.
        """
        self.steps += 1
        gradient = self.gradient
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient.mul_((self.settings.clip_norm / (norm + 1e-6)).clamp_(max=1.0))
        gradient.add_(self.parameters, alpha=self.settings.weight_decay)
        self.mean.lerp_(gradient, 1 - BETA1)
        squares = gradient.square_()
        for name, axis in RANK_AXES[self.settings.mode].items():
            own = self.gradient_by_name[name]
            own.copy_(own.sum(axis, keepdim=True).mul_(math.pi / (2 * self.d_model)))
        self.square.lerp_(squares, 1 - BETA2)
        correction1, correction2 = 1 - BETA1**self.steps, 1 - BETA2**self.steps
        # The squares are used up too; their memory takes the step.
        root = torch.sqrt(self.square, out=squares).div_(math.sqrt(correction2)).add_(EPSILON)
        step = torch.div(self.mean, root, out=root)
        self.parameters.addcmul_(step, (lr / -correction1).unsqueeze(1))

    def keep(self, models: Tensor) -> None:
        """Drop every other model."""
        self.mean, self.square = self.mean[models], self.square[models]
        self._hold(self.parameters[models])


class PlateauSchedule:
    """torch.optim.lr_scheduler.ReduceLROnPlateau on every step's loss, for many models.

    With a `plateau_window` above 1 it sees the mean of that many last losses.
    """

    def __init__(self, models: int, settings: AANetSettings, device: str = "cpu"):
        self.settings = settings
        self.lr = torch.full((models,), settings.lr, device=device)
        self.best = torch.full((models,), torch.inf, device=device)
        self.bad = torch.zeros(models, device=device)
        self.recent = torch.zeros(settings.plateau_window, models, device=device)
        self.steps = 0

    def step(self, loss: Float[Tensor, "models"]) -> None:
        """Take in one loss per model; lower `lr` where there was no progress for too long."""
        window = len(self.recent)
        if window > 1:
            self.recent[self.steps % window] = loss
            self.steps += 1
            loss = self.recent[: self.steps].mean(0)
        # 1e-4 and 1e-8 are that class's own `threshold` and `eps`.
        better = loss < self.best * (1 - 1e-4)
        self.best = torch.where(better, loss, self.best)
        self.bad.add_(1).masked_fill_(better, 0)
        stuck = self.bad > self.settings.plateau_patience
        self.bad.masked_fill_(stuck, 0)
        lower = (self.lr * self.settings.plateau_factor).clamp_(min=self.settings.min_lr)
        self.lr = torch.where(stuck & (self.lr - lower > 1e-8), lower, self.lr)

    def keep(self, models: Tensor) -> None:
        """Drop every other model."""
        self.lr, self.best, self.bad = self.lr[models], self.best[models], self.bad[models]
        self.recent = self.recent[:, models]
