"""When the models of a stack of AANets are done, every model on its own."""

import numpy as np
from jaxtyping import Bool, Float

from aanet_assets.study.settings import AANetSettings


class Stopping:
    """Stops a model at `max_steps`, and one with a plateau schedule when it no longer improves.

    Told the losses of `interval` steps at a time, three quarters of the smoothing window. The last
    step is the last whole interval within `max_steps`. Improvement is that of the average over the
    window, at least `stop_min_delta` below the best so far; `stop_patience` steps after the last
    one the model is done. A cosine schedule is good at its end only, and is never cut short.
    """

    def __init__(self, slots: int, settings: AANetSettings):
        self.settings, self.early = settings, settings.schedule == "plateau"
        self.interval = min(settings.smoothing_window * 3 // 4, settings.max_steps)
        self.last = settings.max_steps // self.interval * self.interval
        self.steps = np.zeros(slots, dtype=np.int64)
        self.best = np.zeros(slots)
        self.best_step = np.zeros(slots, dtype=np.int64)
        self.recent = np.zeros((settings.smoothing_window, slots))

    def start(self, slot: int) -> None:
        """Give a slot to a model that starts."""
        self.steps[slot], self.best[slot], self.best_step[slot] = 0, np.inf, 0

    def done(self, losses: Float[np.ndarray, "interval slots"]) -> Bool[np.ndarray, " slots"]:
        """Which models are done, given the losses of their last steps.

        Nothing is judged before a whole window of losses is there.
        """
        self.steps += len(losses)
        self.recent = np.concatenate([self.recent, losses])[-len(self.recent) :]
        average = self.recent.mean(axis=0)
        judged = self.steps >= len(self.recent)
        better = judged & (average <= self.best - self.settings.stop_min_delta)
        self.best = np.where(better, average, self.best)
        self.best_step = np.where(better, self.steps, self.best_step)
        stuck = judged & (self.steps - self.best_step >= self.settings.stop_patience)
        return (stuck & self.early) | (self.steps >= self.last)

    def keep(self, slots: list[int]) -> None:
        """Drop every other slot."""
        self.steps, self.recent = self.steps[slots], self.recent[:, slots]
        self.best, self.best_step = self.best[slots], self.best_step[slots]
