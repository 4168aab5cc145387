"""Early stopping against the rule as it is worded."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aanet_assets.science.aanet.stopping import Stopping
from aanet_assets.study.settings import AANetSettings


def slow_stop(losses: list[float], window: int, patience: int, delta: float) -> int | None:
    """The step at which one model stops, by the rule as it is worded."""
    best, improved_at = float("inf"), 0
    for step in range(1, len(losses) + 1):
        if step % (window * 3 // 4) or step < window:
            continue
        average = sum(losses[step - window : step]) / window
        if best - average >= delta:
            best, improved_at = average, step
        if step - improved_at >= patience:
            return step
    return None


@given(
    seed=st.integers(0, 10_000),
    window=st.integers(8, 30),
    patience=st.integers(1, 120),
    decay=st.floats(0, 0.05),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_rule_in_words(seed, window, patience, decay):
    rng = np.random.default_rng(seed)
    models, steps = 4, 300
    curves = np.exp(-decay * np.arange(steps))[:, None] + 0.1 * rng.random((steps, models))
    chosen = AANetSettings(
        schedule="plateau", smoothing_window=window, stop_patience=patience, stop_min_delta=1e-3
    )
    stopping = Stopping(models, chosen)
    for slot in range(models):
        stopping.start(slot)
    live, stopped = np.arange(models), dict.fromkeys(range(models))
    for step in range(stopping.interval, steps + 1, stopping.interval):
        done = stopping.done(curves[step - stopping.interval : step, live])
        stopped |= dict.fromkeys(live[done].tolist(), step)
        stopping.keep(np.flatnonzero(~done).tolist())
        live = live[~done]
    expected = {i: slow_stop(curves[:, i].tolist(), window, patience, 1e-3) for i in range(models)}
    assert stopped == expected


def test_cosine_schedule_goes_to_its_end():
    stopping = Stopping(1, AANetSettings(max_steps=100, stop_patience=1))
    stopping.start(0)
    steps = 0
    while not stopping.done(np.ones((stopping.interval, 1))).all():
        steps += stopping.interval
    assert steps + stopping.interval == 90, "the last whole interval of 15 steps"
