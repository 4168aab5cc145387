"""Schedules that the product does not have, to compare its own with: plateaus of other losses."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aanet_assets.aanet.objective import Objective
from aanet_assets.aanet.parameters import views
from aanet_assets.aanet.schedules import PlateauSchedule
from aanet_assets.aanet.stack import Stack

WINDOW, HELDOUT_ROWS = 100, 512


class Smoothed:
    """A plateau schedule that sees the mean of the last losses."""

    def __init__(self, inside: PlateauSchedule):
        self.inside = inside
        self.recent = torch.zeros(WINDOW, len(inside.lr))
        self.seen = torch.zeros(len(inside.lr), dtype=torch.int64)

    @property
    def lr(self) -> Float[Tensor, " slots"]:
        return self.inside.lr

    def start(self, slot: int) -> None:
        self.inside.start(slot)
        self.recent[:, slot], self.seen[slot] = 0, 0

    def step(self, loss: Float[Tensor, " slots"]) -> None:
        self.recent.scatter_(0, (self.seen % WINDOW).unsqueeze(0), loss.unsqueeze(0))
        self.seen += 1
        self.inside.step(self.recent.sum(0) / self.seen.clamp(max=WINDOW))

    def keep(self, slots: Tensor) -> None:
        self.inside.keep(slots)
        self.recent, self.seen = self.recent[:, slots], self.seen[slots]


class SmoothedStack(Stack):
    """Plateaus of the training loss, averaged over 100 steps."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        assert isinstance(self.schedule, PlateauSchedule)
        self.schedule = Smoothed(self.schedule)


class BetweenSteps:
    """A plateau schedule that is told nothing at a step."""

    def __init__(self, inside: PlateauSchedule):
        self.inside, self.start, self.keep = inside, inside.start, inside.keep

    @property
    def lr(self) -> Float[Tensor, " slots"]:
        return self.inside.lr

    def step(self, loss: Float[Tensor, " slots"]) -> None:
        """Nothing."""


class HeldoutStack(Stack):
    """Plateaus of the loss on 512 held-out rows, without noise, after every interval."""

    def __init__(self, tasks, slots, layout, settings, device):
        layout_heldout = layout._replace(rows=HELDOUT_ROWS)
        d_model = tasks[0].rows.basis.shape[0]
        self.heldout = Objective(slots, layout_heldout, d_model, settings, device)
        self.rows = torch.zeros(slots, layout_heldout.places, layout.rank)
        super().__init__(tasks, slots, layout, settings, device)
        assert isinstance(self.schedule, PlateauSchedule)
        self.schedule = BetweenSteps(self.schedule)

    def _start(self, slot: int) -> int:
        place = super()._start(slot)
        task, k = self.tasks[place], self.heldout.layout.k
        rows = torch.tensor(task.rows.heldout[:HELDOUT_ROWS])
        self.heldout.start(slot, task.k, 0, len(rows))
        self.rows[slot] = 0
        self.rows[slot, k : k + len(rows), : rows.shape[1]] = rows
        return place

    def _keep(self, slots: list[int]) -> None:
        super()._keep(slots)
        self.heldout.keep(torch.tensor(slots, dtype=torch.int64))
        self.rows = self.rows[slots]

    def run(self, steps: int) -> Float[np.ndarray, "steps losses slots"]:
        losses = super().run(steps)
        unused = views(torch.empty_like(self.adam.parameters), self.adam.shapes)
        still = torch.zeros(*self.rows.shape[:2], self.heldout.layout.k - 1)
        heldout = self.heldout.losses(self.adam.parameters_by_name, unused, self.rows, still)[0]
        schedule = self.schedule.inside
        schedule.bad += steps - 1
        schedule.step(heldout)
        return losses
