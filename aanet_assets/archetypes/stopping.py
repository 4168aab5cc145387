"""Early stopping of a stack of AANets, every model on its own."""

import numpy as np
from jaxtyping import Bool, Float

from aanet_assets.settings import AANetSettings


class EarlyStopping:
    """Stops a model whose loss, averaged over the smoothing window, no longer improves.

    Told the losses of `interval` steps at a time, three quarters of the window. An average is an
    improvement where it is at least `stop_min_delta` below the best so far; `stop_patience` steps
    after the last improvement, or at `max_steps`, the model is done. As it is asked no oftener,
    the last step is the last whole interval within `max_steps`.
    """

    def __init__(self, slots: int, settings: AANetSettings):
        self.settings = settings
        self.interval = min(settings.smoothing_window * 3 // 4, settings.max_steps)
        self.last = settings.max_steps // self.interval * self.interval
        self.steps = np.zeros(slots, dtype=np.int64)
        self.best = np.zeros(slots)
        self.best_step = np.zeros(slots, dtype=np.int64)
        self.recent = np.zeros((settings.smoothing_window, slots))

    def start(self, slot: int) -> None:
        """Give a slot to a model that starts."""
        self.steps[slot], self.best[slot], self.best_step[slot] = 0, np.inf, 0

    def done(self, losses: Float[np.ndarray, "interval slots"]) -> Bool[np.ndarray, "slots"]:
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
        return stuck | (self.steps >= self.last)

    def keep(self, slots: list[int]) -> None:
        """Drop every other slot."""
        self.steps, self.recent = self.steps[slots], self.recent[:, slots]
        self.best, self.best_step = self.best[slots], self.best_step[slots]
