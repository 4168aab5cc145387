"""A stack of AANets that train side by side, each leaving when it is done."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from aanet_assets.archetypes.batches import StackBatches
from aanet_assets.archetypes.data import LOSSES, ClusterRows, TrainedAANet, untrained
from aanet_assets.archetypes.evaluation import heldout_metrics
from aanet_assets.archetypes.exact import ExactObjective, padded_bases, split
from aanet_assets.archetypes.objective import Objective
from aanet_assets.archetypes.optimiser import PlateauSchedule, StackAdam
from aanet_assets.archetypes.parameters import LAST, initial_parameters, parameter_shapes, views
from aanet_assets.archetypes.stopping import EarlyStopping
from aanet_assets.progress import Progress
from aanet_assets.settings import AANetSettings


class Stack:
    """Models of one k, with rows padded to `rank` and batches padded to `batch_rows`."""

    def __init__(
        self,
        clusters: Sequence[ClusterRows],
        k: int,
        settings: AANetSettings,
        seeds: Sequence[int],
        rank: int,
        batch_rows: int,
        device: str,
    ):
        self.clusters, self.k, self.settings = list(clusters), k, settings
        models, d_model = len(clusters), clusters[0].basis.shape[0]
        exact = settings.mode == "exact"
        self.shapes = parameter_shapes(d_model if exact else rank, k, settings.widths)
        size = sum(int(np.prod(shape)) for shape in self.shapes.values())
        start = torch.zeros(models, size)
        for i, (cluster, seed) in enumerate(zip(clusters, seeds, strict=True)):
            generator = torch.Generator().manual_seed(seed)
            own_rank = None if exact else cluster.basis.shape[1]
            own = initial_parameters(own_rank, d_model, k, settings.widths, generator)
            for name, values in views(start, self.shapes).items():
                values[i][_corner(own[name].shape)] = own[name]
        self.batches = StackBatches(clusters, k, rank, batch_rows, seeds, settings, device)
        row_weights, extrema_on = self.batches.row_weights(), self.batches.extrema_on()
        self.objective = Objective(settings, d_model, rank, k, row_weights, extrema_on)
        if exact:
            bases = padded_bases(clusters, rank).to(device)
            self.objective = ExactObjective(self.objective, bases)
        self.adam = StackAdam(start.to(device), self.shapes, d_model, settings)
        self.schedule = PlateauSchedule(models, settings, device)
        self.stopping = EarlyStopping(models, settings)
        self.history = torch.empty(settings.max_steps, len(LOSSES), models, device=device)
        self.steps = 0

    def train(self, progress: Progress) -> list[TrainedAANet]:
        """Train until every model is done; results in the order of the clusters."""
        results: dict[int, TrainedAANet] = {}
        live = np.arange(len(self.clusters))
        while len(live):
            before = self.steps
            self._run(min(self.stopping.interval, self.settings.max_steps - self.steps))
            progress.advance((self.steps - before) * len(live))
            # The window is longer than the interval, so it holds every step since the last check.
            window = self.history[max(0, self.steps - self.settings.smoothing_window) : self.steps]
            recent = window[:, 0].cpu().numpy()
            done = self.stopping.done(self.steps, recent) | ~np.isfinite(recent).all(axis=0)
            done |= self.steps == self.settings.max_steps
            if not done.any():
                continue
            for i in np.flatnonzero(done).tolist():
                results[int(live[i])] = self._result(i, self.clusters[live[i]])
                progress.advance(self.settings.max_steps - self.steps)
            self._keep(np.flatnonzero(~done))
            live = live[~done]
        return [results[i] for i in range(len(self.clusters))]

    def _run(self, steps: int) -> None:
        places, noise = self.batches.draw(steps)
        adam = self.adam
        for i in range(steps):
            rows = self.batches.take(places[i], self.objective.workspace.rows)
            losses = self.objective.losses(
                adam.parameters_by_name, adam.gradient_by_name, rows, noise[i]
            )
            adam.step(self.schedule.lr)
            self.schedule.step(losses[0])
            self.history[self.steps] = losses
            self.steps += 1

    def _keep(self, models: np.ndarray) -> None:
        indices = torch.from_numpy(models).to(self.history.device)
        self.batches.keep(models.tolist())
        self.objective = self.objective.keep(indices)
        self.adam.keep(indices)
        self.schedule.keep(indices)
        self.stopping.keep(models)
        self.history = self.history[:, :, indices]

    def _result(self, i: int, cluster: ClusterRows) -> TrainedAANet:
        curves = self.history[: self.steps, :, i].cpu().numpy()
        history = {name: curves[:, j].copy() for j, name in enumerate(LOSSES)}
        finite = np.isfinite(history["loss"])
        if not finite.all():
            good = int(finite.argmin())
            reason = f"the loss was not finite at step {good + 1}"
            before = {name: values[:good] for name, values in history.items()}
            return untrained(cluster, self.k, "failed", reason, before)
        weights, outside = self._weights(i, cluster.basis.shape[1])
        if not all(np.isfinite(w).all() for w in (*weights.values(), *outside.values())):
            reason = f"weights were not finite after step {self.steps}"
            return untrained(cluster, self.k, "failed", reason, history)
        last = {name: h[-self.settings.smoothing_window :] for name, h in history.items()}
        return TrainedAANet(
            cluster_id=cluster.cluster_id,
            k=self.k,
            status="ok",
            reason="",
            n_rows=len(cluster.train) + len(cluster.heldout),
            steps=self.steps,
            losses={name: float(np.median(values)) for name, values in last.items()},
            heldout=heldout_metrics(cluster, weights, outside, self.k, self.settings),
            history=history,
            weights=weights,
            outside=outside,
        )

    def _weights(
        self, i: int, rank: int
    ) -> tuple[dict[str, Float[np.ndarray, "..."]], dict[str, Float[np.ndarray, "d_model ..."]]]:
        """What `TrainedAANet` calls weights and outside."""
        padded = {name: p[i : i + 1] for name, p in self.adam.parameters_by_name.items()}
        outside = {}
        if isinstance(self.objective, ExactObjective):
            padded, last = split(padded, self.objective.bases[i : i + 1])
            weight_and_bias = last[0, :-1].T, last[0, -1]
            outside = {
                n: w.cpu().numpy().copy() for n, w in zip(LAST, weight_and_bias, strict=True)
            }
        own = parameter_shapes(rank, self.k, self.settings.widths)
        weights = {
            name: padded[name][0][_corner(shape)].cpu().numpy().copy()
            for name, shape in own.items()
        }
        return weights, outside


def _corner(shape: Sequence[int]) -> tuple[slice, ...]:
    """Where a model's own tensor lies in the padded one."""
    return tuple(slice(size) for size in shape)
