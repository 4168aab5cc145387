"""What a GPU needs of the engine, as far as a CPU can tell."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from aanet_assets.science.aanet import train
from aanet_assets.science.aanet.batches import Layout
from aanet_assets.science.aanet.data import Task
from aanet_assets.science.aanet.linear_start import start_of
from aanet_assets.science.aanet.objective import Objective
from aanet_assets.science.aanet.optimiser import StackAdam
from aanet_assets.science.aanet.parameters import parameter_shapes
from aanet_assets.science.aanet.stack import Stack
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.science.aanet.planted import planted_cluster

LAYOUT, D_MODEL = Layout(rank=8, k=4, rows=64), 48


def stack_of(count: int, settings: AANetSettings) -> Stack:
    tasks = [Task(planted_cluster(i, seed=i), 3, i) for i in range(count)]
    begun = [start_of(task, settings) for task in tasks]
    return Stack(tasks, begun, count, LAYOUT, settings, "cpu")


class HostReads(TorchDispatchMode):
    """Counts what makes the host wait for a number of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@torch.no_grad()
def test_nothing_is_asked_of_the_device_within_an_interval(
    schedule: Literal["cosine", "plateau"],
) -> None:
    stack = stack_of(3, AANetSettings(schedule=schedule, batch_size=64))
    with HostReads() as reads:
        stack.run(stack.stopping.interval)
    assert reads.found == []
    with HostReads() as reads:
        float(stack.adam.parameters.sum())
    assert len(reads.found) == 1, "the counter does not see what it is for"


@torch.no_grad()
def test_a_step_needs_no_values() -> None:
    """On the meta device there are none: what would look at one fails."""
    settings, slots, device = AANetSettings(batch_size=64), 5, "meta"
    objective = Objective(slots, LAYOUT, D_MODEL, settings, device)
    shapes = parameter_shapes(LAYOUT.rank, LAYOUT.k, settings.widths)
    adam = StackAdam(slots, shapes, D_MODEL, settings, device)
    rows = torch.empty(slots, LAYOUT.places, LAYOUT.rank, device=device)
    noise = torch.empty(slots, LAYOUT.places, LAYOUT.k - 1, device=device)
    one = torch.empty(slots, device=device)
    losses = objective.losses(adam.parameters_by_name, adam.gradient_by_name, rows, noise, one)
    adam.step(one, torch.empty(2, slots, device=device))
    assert (losses.shape, losses.device.type) == ((4, slots), "meta")


def bytes_of(stack: Stack) -> int:
    """Of the tensors that a stack holds, each storage once."""
    work, objective, adam = stack.objective.workspace, stack.objective, stack.adam
    held = [
        value
        for owner in (work, objective, adam, stack.batches)
        for values in vars(owner).values()
        for value in (values if isinstance(values, list) else [values])
        if isinstance(value, torch.Tensor)
    ]
    storages = {own.untyped_storage().data_ptr(): own.untyped_storage() for own in held}
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("free", [50e6, 400e6])
def test_stacks_are_sized_by_the_free_memory_of_the_device(
    monkeypatch: pytest.MonkeyPatch, free: float
) -> None:
    """What so many slots hold leaves room for an interval's noise and for slots that leave."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(free), int(free)))
    settings = AANetSettings(batch_size=64)
    task = Task(planted_cluster(), 3, 0)
    slots = train._slots_in_memory([task], LAYOUT, settings)
    few, more = (bytes_of(stack_of(count, settings)) for count in (2, 6))
    held = few + (more - few) / 4 * (slots - 2)
    assert 0.2 * free < held < train.SHARE_OF_MEMORY * free
    groups = list(train._groups([task] * 3_000, range(3_000), settings, "cuda"))
    assert [group.slots for group in groups] == [min(slots, 3_000)]
    assert np.concatenate([group.members for group in groups]).tolist() == [*range(3_000)]
