"""The rows of a stack of AANets, and what is drawn at random in training: batches and noise.

Every model draws from a generator of its own, so its numbers do not depend on which models share
its stack. Draws are made for many steps at once, because each one costs a call per model.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from aanet_assets.science.aanet.data import Task
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import AANetSettings


class Layout(NamedTuple):
    """What every model of a stack is padded to."""

    rank: int
    k: int
    rows: int
    """Training rows of a batch; the k places before them are for extrema."""

    @property
    def places(self) -> int:
        """Places for rows in a batch."""
        return self.k + self.rows


def extrema_of(task: Task) -> Float[np.ndarray, "extrema rank"]:
    """The k extrema that open each batch of a model; none where its cluster has fewer."""
    extrema = task.rows.extrema
    return extrema[: task.k] if len(extrema) >= task.k else extrema[:0]


class ModelBatches:
    """Row numbers and noise of one model.

    An epoch is a permutation of the training rows cut into batches of equal size; a remainder is
    left out, and the next epoch is permuted anew.
    """

    def __init__(self, n_rows: int, batch_size: int, seed: int, device: str):
        self.n_rows, self.batch_size = n_rows, min(n_rows, batch_size)
        self.generator = torch.Generator(device).manual_seed(seed_for(seed, "steps"))
        self.ahead = torch.zeros(0, self.batch_size, dtype=torch.int64, device=device)

    def rows(self, steps: int) -> Int[Tensor, "steps batch"]:
        """Batches of training rows, as row numbers from 0."""
        whole = self.n_rows // self.batch_size * self.batch_size
        device = self.ahead.device
        while len(self.ahead) < steps:
            order = torch.randperm(self.n_rows, generator=self.generator, device=device)
            self.ahead = torch.cat([self.ahead, order[:whole].view(-1, self.batch_size)])
        batches, self.ahead = self.ahead[:steps], self.ahead[steps:]
        return batches

    def noise(self, *shape: int) -> Float[Tensor, "..."]:
        """Standard normal noise."""
        return torch.randn(shape, generator=self.generator, device=self.ahead.device)


class StackBatches:
    """Batches of all slots of a stack.

    The rows of every slot lie in one table, in a part as long as the longest task needs: taking
    the next task's rows in then moves nobody else's. Row 0 of the table is zero and fills places
    that a model has no row for.
    """

    def __init__(
        self, slots: int, most_rows: int, layout: Layout, settings: AANetSettings, device: str
    ):
        self.layout, self.settings, self.device = layout, settings, device
        self.part = layout.k + most_rows
        self.table = torch.zeros(1 + slots * self.part, layout.rank, device=device)
        self.first = [1 + slot * self.part for slot in range(slots)]
        self.tasks: list[Task | None] = [None] * slots
        self.models: list[ModelBatches | None] = [None] * slots

    def start(self, slot: int, task: Task) -> None:
        """Give a slot to a task."""
        first, extrema, train = self.first[slot], extrema_of(task), task.rows.train
        part = self.table[first : first + self.part].zero_()
        for at, rows in ((0, extrema), (self.layout.k, train)):
            part[at : at + len(rows), : rows.shape[1]] = torch.tensor(rows)
        self.tasks[slot] = task
        self.models[slot] = ModelBatches(
            len(train), self.settings.batch_size, task.seed, self.device
        )

    def draw(
        self, steps: int
    ) -> tuple[Int[Tensor, "steps slots places"], Float[Tensor, "steps slots places dim"]]:
        """Places in the table and bottleneck noise for the next steps."""
        k, places = self.layout.k, self.layout.places
        shape = (steps, len(self.models), places)
        drawn = torch.zeros(shape, dtype=torch.int64, device=self.device)
        noise = torch.zeros(*shape, k - 1, device=self.device)
        for i, (first, task, model) in enumerate(
            zip(self.first, self.tasks, self.models, strict=True)
        ):
            assert task is not None
            assert model is not None
            n_extrema, dim = len(extrema_of(task)), task.k - 1
            drawn[:, i, :n_extrema] = torch.arange(first, first + n_extrema, device=self.device)
            drawn[:, i, k : k + model.batch_size] = model.rows(steps) + (first + k)
            noise[:, i, :, :dim] = model.noise(steps, places, dim)
        return drawn, noise.mul_(self.settings.noise)

    def take(
        self, places: Int[Tensor, "slots places"], out: Float[Tensor, "slots places rank"]
    ) -> Float[Tensor, "slots places rank"]:
        """The rows at these places, written to `out`."""
        torch.index_select(self.table, 0, places.flatten(), out=out.flatten(0, 1))
        return out

    def keep(self, slots: list[int]) -> None:
        """Drop every other slot; the table stays as it is."""
        self.first = [self.first[i] for i in slots]
        self.tasks = [self.tasks[i] for i in slots]
        self.models = [self.models[i] for i in slots]
