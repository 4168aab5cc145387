"""A stack of AANets that train side by side; each leaves when it is done and another comes."""

from collections import deque
from collections.abc import Sequence
from threading import Event

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aanet_assets.science.aanet.batches import Layout, StackBatches, extrema_of
from aanet_assets.science.aanet.data import LOSSES, Task, TrainedAANet, untrained
from aanet_assets.science.aanet.evaluation import heldout_metrics
from aanet_assets.science.aanet.linear_start import Start, linear_parameters, start_in_words
from aanet_assets.science.aanet.objective import Objective, extrema_weights
from aanet_assets.science.aanet.optimiser import StackAdam, bias_corrections
from aanet_assets.science.aanet.parameters import corner, initial_parameters, parameter_shapes
from aanet_assets.science.aanet.schedules import CosineSchedule, PlateauSchedule
from aanet_assets.science.aanet.stopping import Stopping
from aanet_assets.study.progress import Progress
from aanet_assets.study.settings import AANetSettings


class Stack:
    """Some tasks of like size, trained in a number of slots.

    All slots take their steps together, `interval` at a time; between these, models come and go.
    Nothing is asked of the device within an interval.
    """

    def __init__(
        self, tasks: Sequence[Task], starts: Sequence[Start], slots: int, layout: Layout,
        settings: AANetSettings, device: str,
    ):  # fmt: skip
        self.tasks, self.starts, self.settings, self.device = tasks, starts, settings, device
        self.d_model = tasks[0].rows.basis.shape[0]
        shapes = parameter_shapes(layout.rank, layout.k, settings.widths)
        most_rows = max(len(task.rows.train) for task in tasks)
        self.batches = StackBatches(slots, most_rows, layout, settings, device)
        self.objective = Objective(slots, layout, self.d_model, settings, device)
        self.adam = StackAdam(slots, shapes, self.d_model, settings, device)
        schedule = CosineSchedule if settings.schedule == "cosine" else PlateauSchedule
        self.schedule = schedule(slots, settings, device)
        self.stopping = Stopping(slots, settings)
        self.curves: list[list[Float[np.ndarray, "steps losses"]]] = [[] for _ in range(slots)]
        self.waiting = deque(range(len(tasks)))
        self.running = [self._start(slot) for slot in range(slots)]

    def _start(self, slot: int) -> int:
        """Give a slot to the next task, and return which it is."""
        place = self.waiting.popleft()
        task = self.tasks[place]
        # Nothing speaks for where a random start happens to be.
        pull = 0.0 if isinstance(self.starts[place], str) else self.settings.start_pull
        self.adam.start(slot, self._parameters(place), pull)
        self.batches.start(slot, task)
        n_rows = min(len(task.rows.train), self.settings.batch_size)
        self.objective.start(slot, task.k, len(extrema_of(task)), n_rows)
        self.schedule.start(slot)
        self.stopping.start(slot)
        self.curves[slot] = []
        return place

    def _parameters(self, place: int) -> dict[str, Float[Tensor, "..."]]:
        """What a task starts from."""
        task, start = self.tasks[place], self.starts[place]
        generator = torch.Generator().manual_seed(task.seed)
        rank, widths = task.rows.basis.shape[1], self.settings.widths
        if isinstance(start, str):
            return initial_parameters(rank, self.d_model, task.k, widths, generator)
        return linear_parameters(start, self.d_model, task.k, widths, generator)

    def train(self, progress: Progress, stopped: Event) -> list[TrainedAANet]:
        """Train every task to its end, unless `stopped`; results in the order of the tasks."""
        results: dict[int, TrainedAANet] = {}
        interval, most = self.stopping.interval, self.stopping.last
        while self.running and not stopped.is_set():
            losses = self.run(interval)
            progress.advance(interval * len(self.running))
            for slot, curve in enumerate(self.curves):
                curve.append(losses[:, :, slot])
            done = self.stopping.done(losses[:, 0]) | ~np.isfinite(losses[:, 0]).all(axis=0)
            empty = []
            for slot in np.flatnonzero(done).tolist():
                results[self.running[slot]] = self._result(slot)
                progress.advance(most - int(self.stopping.steps[slot]))
                if self.waiting:
                    self.running[slot] = self._start(slot)
                else:
                    empty.append(slot)
            if empty:
                self._keep([slot for slot in range(len(self.running)) if slot not in empty])
        return [] if stopped.is_set() else [results[i] for i in range(len(self.tasks))]

    def run(self, steps: int) -> Float[np.ndarray, "steps losses slots"]:
        """Take so many steps; the losses before each."""
        places, noise = self.batches.draw(steps)
        settings, taken = self.settings, self.stopping.steps
        corrections, weights = (
            torch.from_numpy(values).to(self.adam.mean)
            for values in (
                bias_corrections(taken, steps, settings.beta2),
                extrema_weights(taken, steps, settings),
            )
        )
        adam, recorded = self.adam, []
        for i in range(steps):
            rows = self.batches.take(places[i], self.objective.workspace.rows)
            losses = self.objective.losses(
                adam.parameters_by_name, adam.gradient_by_name, rows, noise[i], weights[i]
            )
            adam.step(self.schedule.lr, corrections[i])
            self.schedule.step(losses[0])
            recorded.append(losses)
        return torch.stack(recorded).cpu().numpy()

    def _keep(self, slots: list[int]) -> None:
        indices = torch.tensor(slots, dtype=torch.int64, device=self.device)
        self.batches.keep(slots)
        self.objective.keep(indices)
        self.adam.keep(indices)
        self.schedule.keep(indices)
        self.stopping.keep(slots)
        self.curves = [self.curves[slot] for slot in slots]
        self.running = [self.running[slot] for slot in slots]

    def _result(self, slot: int) -> TrainedAANet:
        task = self.tasks[self.running[slot]]
        curves = np.concatenate(self.curves[slot])
        history = {name: curves[:, j].copy() for j, name in enumerate(LOSSES)}
        finite = np.isfinite(history["loss"])
        if not finite.all():
            good = int(finite.argmin())
            before = {name: values[:good] for name, values in history.items()}
            last = f"; the last finite one was {before['loss'][-1]:.6g}" if good else ""
            reason = f"the loss was not finite at step {good + 1}{last}"
            return untrained(task, "failed", reason, before)
        weights = self._weights(slot, task)
        if not all(np.isfinite(w).all() for w in weights.values()):
            reason = (
                f"weights were not finite after step {len(curves)}; "
                f"the last loss was {history['loss'][-1]:.6g}"
            )
            return untrained(task, "failed", reason, history)
        last = {name: h[-self.settings.smoothing_window :] for name, h in history.items()}
        return TrainedAANet(
            cluster_id=task.rows.cluster_id,
            k=task.k,
            status="ok",
            reason="",
            n_rows=len(task.rows.train) + len(task.rows.heldout),
            steps=len(curves),
            losses={name: float(np.median(values)) for name, values in last.items()},
            heldout=heldout_metrics(task.rows, weights, task.k, self.settings),
            history=history,
            weights=weights,
            start=start_in_words(self.starts[self.running[slot]]),
        )

    def _weights(self, slot: int, task: Task) -> dict[str, Float[np.ndarray, "..."]]:
        """What `TrainedAANet` calls weights."""
        padded = self.adam.parameters_by_name
        own = parameter_shapes(task.rows.basis.shape[1], task.k, self.settings.widths)
        return {
            name: padded[name][slot][corner(shape)].cpu().numpy().copy()
            for name, shape in own.items()
        }
