"""Schedules of the learning rate against torch's own."""

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet.schedules import CosineSchedule, PlateauSchedule
from aanet_assets.study.settings import AANetSettings


def started(models: int, settings: AANetSettings) -> PlateauSchedule:
    schedule = PlateauSchedule(models, settings)
    for slot in range(models):
        schedule.start(slot)
    return schedule


@pytest.mark.parametrize("seed", range(5))
def test_plateau_schedule_equals_torchs(seed):
    rng = np.random.default_rng(seed)
    settings = AANetSettings(plateau_patience=4, min_lr=1e-4)
    series = np.exp(-np.linspace(0, 2, 300))[:, None] + 0.3 * rng.random((300, 3))
    series = torch.from_numpy(series.astype(np.float32))
    schedule = started(3, settings)
    optimisers = [torch.optim.SGD([torch.zeros(1)], lr=settings.lr) for _ in range(3)]
    references = [
        torch.optim.lr_scheduler.ReduceLROnPlateau(
            o, factor=settings.plateau_factor, patience=4, min_lr=settings.min_lr
        )
        for o in optimisers
    ]
    seen = set()
    for losses in series:
        schedule.step(losses)
        for reference, loss in zip(references, losses, strict=True):
            reference.step(float(loss))
        expected = [o.param_groups[0]["lr"] for o in optimisers]
        np.testing.assert_allclose(schedule.lr.numpy(), expected, rtol=1e-6)
        seen |= set(expected)
    assert settings.min_lr in seen


@pytest.mark.parametrize("warm_up", [0.0, 0.2])
def test_cosine_schedule_equals_torchs_for_models_of_any_age(warm_up):
    """One model starts ten steps after the other; the rest of the stack leaves."""
    settings = AANetSettings(max_steps=40, warm_up=warm_up)
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=settings.lr)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=40)
    expected = []
    for step in range(41):
        rising = min(1, (step + 1) / 8) if warm_up else 1
        expected.append(optimiser.param_groups[0]["lr"] * rising)
        optimiser.step()
        reference.step()
    schedule = CosineSchedule(3, settings)
    for slot in range(3):
        schedule.start(slot)
    found = []
    for step in range(40):
        if step == 10:
            schedule.start(2)
            schedule.keep(torch.tensor([0, 2]))
        found.append(schedule.lr[[0, -1]].tolist())
        schedule.step(torch.rand(len(schedule.lr)))
    old, young = np.transpose(found)
    np.testing.assert_allclose(old, expected[:40], atol=1e-9)
    np.testing.assert_allclose(young[10:], expected[:30], atol=1e-9)
    assert float(schedule.lr[0]) == pytest.approx(0, abs=1e-9)
