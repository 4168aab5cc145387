"""Early stopping of a stack of AANets, every model on its own."""

import numpy as np
from jaxtyping import Bool, Float

from aanet_assets.settings import AANetSettings


class EarlyStopping:
    """Stops a model whose loss, averaged over the smoothing window, no longer improves.

    Asked every `interval` steps, three quarters of the window. An average is an improvement where
    it is at least `stop_min_delta` below the best so far; `stop_patience` steps after the last
    improvement the model is done.
    """

    def __init__(self, models: int, settings: AANetSettings):
        self.settings = settings
        self.interval = settings.smoothing_window * 3 // 4
        self.best = np.full(models, np.inf)
        self.best_step = np.zeros(models, dtype=np.int64)

    def done(
        self, steps: int, recent: Float[np.ndarray, "window models"]
    ) -> Bool[np.ndarray, "models"]:
        """Which models are done after `steps` steps, given the last losses of each.

        Nothing is judged before a whole window of losses is there.
        """
        if steps < self.settings.smoothing_window:
            return np.zeros(len(self.best), dtype=bool)
        average = recent.astype(np.float64).mean(axis=0)
        better = average <= self.best - self.settings.stop_min_delta
        self.best = np.where(better, average, self.best)
        self.best_step = np.where(better, steps, self.best_step)
        return steps - self.best_step >= self.settings.stop_patience

    def keep(self, models: np.ndarray) -> None:
        """Drop every other model."""
        self.best, self.best_step = self.best[models], self.best_step[models]
