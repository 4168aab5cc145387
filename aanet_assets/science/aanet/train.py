"""Training AANets of many clusters at many values of k.

Here: which tasks can be trained, how they are grouped into stacks, and the workers that train
these. The training of a stack is in `stack.py`.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

import joblib
import numpy as np
import torch

from aanet_assets.science.aanet.batches import Layout
from aanet_assets.science.aanet.data import Task, TrainedAANet, untrained
from aanet_assets.science.aanet.linear_start import Start, start_of
from aanet_assets.science.aanet.parameters import parameter_shapes
from aanet_assets.science.aanet.stack import Stack
from aanet_assets.study.progress import Progress
from aanet_assets.study.settings import AANetSettings
from aanet_assets.study.threads import in_threads, torch_threads

ROWS_PER_STEP = 4_500
"""Rows times slots of a stack on a CPU: its activations should stay in the cache."""
TASKS_PER_SLOT = 4
"""Tasks that follow one another in a slot on a CPU; fewer leave slots empty for longer, more
leave workers without a stack."""
SHARE_OF_MEMORY = 0.5
"""Of a GPU's free memory, for one stack."""


def train_aanets(
    tasks: Sequence[Task], settings: AANetSettings, device: str = "cpu"
) -> list[TrainedAANet]:
    """Train one AANet per task, in the clusters' subspaces.

    Results come in the order of `tasks`, with a status for those that cannot be trained. On a CPU
    as many workers as it has cores for this process train stacks side by side; how tasks are
    grouped into stacks does not depend on their number. ValueError where a k is below 2, or where
    the clusters live in residual streams of different width.
    """
    if too_small := [task.k for task in tasks if task.k < 2]:
        raise ValueError(f"an AANet needs at least 2 archetypes, not {min(too_small)}")
    if len(widths := {task.rows.basis.shape[0] for task in tasks}) > 1:
        raise ValueError(f"clusters of one call must share d_model; these have {sorted(widths)}")
    results: dict[int, TrainedAANet] = {}
    trainable: list[int] = []
    for i, task in enumerate(tasks):
        obstacle = _obstacle(task, settings)
        if obstacle is None:
            trainable.append(i)
        else:
            results[i] = untrained(task, *obstacle)
    ks = ", ".join(str(k) for k in sorted({task.k for task in tasks}))
    total = len(trainable) * settings.max_steps
    progress, stopped = Progress(total, "model steps", f"AANets with k={ks}"), threading.Event()

    @torch.no_grad()
    def train(group: Group) -> list[TrainedAANet]:
        own = [tasks[i] for i in group.members]
        begun = [starts[_alike(task)] for task in own]
        stack = Stack(own, begun, group.slots, group.layout, settings, device)
        return stack.train(progress, stopped)

    workers = joblib.cpu_count() if device == "cpu" else 1
    # Matrices this small are slower on several threads, many times so on a busy machine.
    with torch_threads(1), ThreadPoolExecutor(workers) as pool:
        starts = _starts([tasks[i] for i in trainable], settings)
        groups = _groups(tasks, trainable, settings, device)
        futures = {pool.submit(train, group): group for group in groups}
        try:
            for future in as_completed(futures):
                results |= zip(futures[future].members, future.result(), strict=True)
        except BaseException:
            # An interrupt, too, has to reach the workers: they look at this between steps.
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [results[i] for i in range(len(tasks))]


def _alike(task: Task) -> tuple[int, int]:
    """The same for tasks that differ in nothing but their seed: they share a start."""
    return id(task.rows), task.k


def _starts(tasks: Sequence[Task], settings: AANetSettings) -> dict[tuple[int, int], Start]:
    """Where tasks start, by `_alike`."""
    alike = {_alike(task): task for task in tasks}
    found = in_threads(lambda task: start_of(task, settings), alike.values())
    return dict(zip(alike, found, strict=True))


def _obstacle(task: Task, settings: AANetSettings) -> tuple[str, str] | None:
    """Status and reason of a task that cannot be trained."""
    cluster, k = task.rows, task.k
    n_rows = len(cluster.train) + len(cluster.heldout)
    needed = max(settings.min_rows, k)
    if n_rows == 0:
        return "empty", "the cluster is active at no token"
    if n_rows < needed:
        return "insufficient_samples", f"{n_rows} rows; training with k={k} needs {needed}"
    if len(cluster.train) == 0:
        return "insufficient_samples", f"all {n_rows} rows are held out; none is left to train on"
    if cluster.basis.shape[1] == 0:
        return "failed", "the cluster's decoder rows span nothing (rank 0)"
    for name in ("train", "heldout", "extrema"):
        if not np.isfinite(getattr(cluster, name)).all():
            return "failed", f"{name} rows hold nan or infinite values"
    return None


class Group(NamedTuple):
    """Tasks that share a stack."""

    members: list[int]
    slots: int
    layout: Layout


def _groups(
    tasks: Sequence[Task], members: Sequence[int], settings: AANetSettings, device: str
) -> Iterator[Group]:
    """Tasks that train together.

    What a task is padded to depends on itself alone, so that its neighbours matter to its result
    no more than they must.
    """
    by_layout: dict[Layout, list[int]] = {}
    for i in members:
        cluster = tasks[i].rows
        rows = _up_to_multiple(min(len(cluster.train), settings.batch_size), 64)
        layout = Layout(
            rank=_up_to_multiple(cluster.basis.shape[1], 8),
            k=_up_to_multiple(tasks[i].k, 4),
            rows=min(rows, settings.batch_size),
        )
        by_layout.setdefault(layout, []).append(i)
    for layout, alike in sorted(by_layout.items()):
        if device == "cpu":
            slots = max(1, ROWS_PER_STEP // layout.places)
            parts = max(-(-len(alike) // (slots * TASKS_PER_SLOT)), 1 + (len(alike) >= 8))
        else:
            slots, parts = _slots_in_memory([tasks[i] for i in alike], layout, settings), 1
        for group in np.array_split(alike, parts):
            yield Group(group.tolist(), min(slots, len(group)), layout)


def _slots_in_memory(tasks: Sequence[Task], layout: Layout, settings: AANetSettings) -> int:
    """Slots for which a GPU has memory."""
    shapes = parameter_shapes(layout.rank, layout.k, settings.widths)
    parameters = sum(int(np.prod(shape)) for shape in shapes.values())
    # Of each parameter there are value, gradient, two moments, start, and two copies while slots
    # leave; of each place all layers and their slopes, and the noise of an interval.
    interval = settings.smoothing_window
    row = 4 * (sum(settings.widths) + layout.rank) + layout.k * (interval + 8) + 2 * interval
    table = layout.k + max(len(task.rows.train) for task in tasks)
    numbers = 7 * parameters + layout.places * row + table * layout.rank
    free, _ = torch.cuda.mem_get_info()
    return max(1, int(SHARE_OF_MEMORY * free / (4 * numbers)))


def _up_to_multiple(number: int, of: int) -> int:
    return -(-number // of) * of
