"""Learning rates of a stack of AANets, every model on its own."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from aanet_assets.study.settings import AANetSettings


class CosineSchedule:
    """From the full rate to zero along half a cosine, over `max_steps` steps of each model.

    Over the first of them, a share of `warm_up`, it is lower: step t has t / (warm_up max_steps)
    of it.
    """

    def __init__(self, slots: int, settings: AANetSettings, device: str = "cpu"):
        self.settings = settings
        self.lr = torch.zeros(slots, device=device)
        self.taken = torch.zeros_like(self.lr)

    def start(self, slot: int) -> None:
        """Give a slot to a model that starts."""
        self.taken[slot] = 0
        self.lr = self._rates()

    def step(self, loss: Float[Tensor, " slots"]) -> None:
        """Go on by one step, whatever the loss."""
        self.taken += 1
        self.lr = self._rates()

    def _rates(self) -> Float[Tensor, " slots"]:
        settings = self.settings
        cosine = torch.cos(self.taken * (math.pi / settings.max_steps))
        rates = (cosine + 1).mul_(settings.lr / 2)
        if settings.warm_up:
            rates.mul_(((self.taken + 1) / (settings.warm_up * settings.max_steps)).clamp_(max=1))
        return rates

    def keep(self, slots: Tensor) -> None:
        """Drop every other slot."""
        self.lr, self.taken = self.lr[slots], self.taken[slots]


class PlateauSchedule:
    """torch.optim.lr_scheduler.ReduceLROnPlateau on every step's loss, for many models."""

    def __init__(self, slots: int, settings: AANetSettings, device: str = "cpu"):
        self.settings = settings
        self.lr = torch.zeros(slots, device=device)
        self.best, self.bad = torch.zeros_like(self.lr), torch.zeros_like(self.lr)

    def start(self, slot: int) -> None:
        """Give a slot to a model that starts."""
        self.lr[slot], self.best[slot], self.bad[slot] = self.settings.lr, torch.inf, 0

    def step(self, loss: Float[Tensor, " slots"]) -> None:
        """Take in one loss per model; lower `lr` where there was no progress for too long."""
        # 1e-4 and 1e-8 are that class's own `threshold` and `eps`.
        better = loss < self.best * (1 - 1e-4)
        self.best = torch.where(better, loss, self.best)
        self.bad.add_(1).masked_fill_(better, 0)
        stuck = self.bad > self.settings.plateau_patience
        self.bad.masked_fill_(stuck, 0)
        lower = (self.lr * self.settings.plateau_factor).clamp_(min=self.settings.min_lr)
        self.lr = torch.where(stuck & (self.lr - lower > 1e-8), lower, self.lr)

    def keep(self, slots: Tensor) -> None:
        """Drop every other slot."""
        self.lr, self.best, self.bad = self.lr[slots], self.best[slots], self.bad[slots]
