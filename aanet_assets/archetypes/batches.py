"""The rows of a stack of AANets, and what is drawn at random in training: batches and noise.

Every model draws from a generator of its own, so its numbers do not depend on which models share
its stack. Draws are made for many steps at once, because each one costs a call per model.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aanet_assets.archetypes.data import ClusterRows
from aanet_assets.seeds import seed_for
from aanet_assets.settings import AANetSettings


class ModelBatches:
    """Row numbers and noise of one model.

    An epoch is a permutation of the training rows cut into batches of equal size; a remainder is
    left out, and the next epoch is permuted anew.
    """

    def __init__(
        self, first_row: int, n_extrema: int, n_rows: int, batch_size: int, seed: int, device: str
    ):
        self.first_row, self.n_extrema, self.n_rows = first_row, n_extrema, n_rows
        self.batch_size = min(n_rows, batch_size)
        self.generator = torch.Generator(device).manual_seed(seed_for(seed, "steps"))
        self.ahead = torch.zeros(0, self.batch_size, dtype=torch.int64, device=device)

    def next(self, steps: int) -> Int[Tensor, "steps batch"]:
        """Batches of training rows, as row numbers from 0."""
        whole = self.n_rows // self.batch_size * self.batch_size
        device = self.ahead.device
        while len(self.ahead) < steps:
            order = torch.randperm(self.n_rows, generator=self.generator, device=device)
            self.ahead = torch.cat([self.ahead, order[:whole].view(-1, self.batch_size)])
        batches, self.ahead = self.ahead[:steps], self.ahead[steps:]
        return batches


class StackBatches:
    """Batches of a whole stack: k places for extrema, then up to `batch_rows` training rows."""

    def __init__(
        self,
        clusters: Sequence[ClusterRows],
        k: int,
        rank: int,
        batch_rows: int,
        seeds: Sequence[int],
        settings: AANetSettings,
        device: str,
    ):
        self.k, self.batch_rows = k, batch_rows
        self.noise, self.device = settings.noise, device
        # Row 0 is zero and fills places that a model has no row for.
        parts = [torch.zeros(1, rank)]
        self.models: list[ModelBatches] = []
        size = 1
        for cluster, seed in zip(clusters, seeds, strict=True):
            extrema = cluster.extrema[:k] if len(cluster.extrema) >= k else cluster.extrema[:0]
            n_train = len(cluster.train)
            self.models.append(
                ModelBatches(size, len(extrema), n_train, settings.batch_size, seed, device)
            )
            for rows in (extrema, cluster.train):
                padded = torch.zeros(len(rows), rank)
                padded[:, : rows.shape[1]] = torch.from_numpy(rows)
                parts.append(padded)
            size += len(extrema) + n_train
        self.table = torch.cat(parts).to(device)

    def extrema_on(self) -> Float[Tensor, "models"]:
        """1 where a model has k extrema, else 0."""
        on = [float(m.n_extrema > 0) for m in self.models]
        return torch.tensor(on, device=self.device)

    def row_weights(self) -> Float[Tensor, "models rows"]:
        """1/n at the n places of a batch that hold a row, 0 elsewhere."""
        weights = torch.zeros(len(self.models), self.k + self.batch_rows)
        for i, model in enumerate(self.models):
            weights[i, : model.n_extrema] = 1
            weights[i, self.k : self.k + model.batch_size] = 1
        return (weights / weights.sum(1, keepdim=True)).to(self.device)

    def draw(
        self, steps: int
    ) -> tuple[Int[Tensor, "steps models rows"], Float[Tensor, "steps models rows dim"]]:
        """Places in the table and bottleneck noise for the next steps."""
        shape = (steps, len(self.models), self.k + self.batch_rows)
        places = torch.zeros(shape, dtype=torch.int64, device=self.device)
        noise = torch.empty(*shape, self.k - 1, device=self.device)
        for i, model in enumerate(self.models):
            first = model.first_row
            extrema = torch.arange(first, first + model.n_extrema, device=self.device)
            places[:, i, : model.n_extrema] = extrema
            batches = model.next(steps) + (first + model.n_extrema)
            places[:, i, self.k : self.k + model.batch_size] = batches
            noise[:, i] = torch.randn(
                steps, shape[2], self.k - 1, generator=model.generator, device=self.device
            )
        return places, noise.mul_(self.noise)

    def take(
        self, places: Int[Tensor, "models rows"], out: Float[Tensor, "models rows rank"]
    ) -> Float[Tensor, "models rows rank"]:
        """The rows at these places, written to `out`."""
        torch.index_select(self.table, 0, places.flatten(), out=out.flatten(0, 1))
        return out

    def keep(self, models: Sequence[int]) -> None:
        """Draw for these models only."""
        self.models = [self.models[i] for i in models]
