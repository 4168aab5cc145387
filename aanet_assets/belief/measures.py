"""What predictions are judged by, and intervals that resample documents."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

FLOOR = 1e-6
"""Least probability that a prediction is taken to give: a group of tokens that was not seen in the
half that fits is rare, not impossible."""


def divergence(
    p: Float[np.ndarray, "*batch groups"], q: Float[np.ndarray, "*batch groups"]
) -> Float[np.ndarray, "*batch"]:
    """Kullback-Leibler divergence of q from p, in nats; q is at least `FLOOR`."""
    return np.where(p > 0, p * np.log(np.maximum(p, FLOOR**2) / np.maximum(q, FLOOR)), 0).sum(-1)


def r_squared(
    truth: Float[np.ndarray, "rows outputs"], predicted: Float[np.ndarray, "rows outputs"]
) -> float:
    """1 - squared error / squared distance from the mean of the truth; NaN where that is none."""
    spread = np.square(truth - truth.mean(axis=0)).sum()
    if spread == 0:
        return np.nan
    return float(1 - np.square(truth - predicted).sum() / spread)


def interval(
    statistic: Callable[[Float[np.ndarray, " documents"]], float],
    documents: int,
    seed: int,
    draws: int = 200,
) -> tuple[float, float]:
    """95% interval of a statistic under resampling of documents (Efron's bootstrap).

    Args:
        statistic: of how often each document counts.
        documents: how many there are.
    """
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(documents, np.full(documents, 1 / documents), size=draws)
    found = [statistic(each.astype(np.float64)) for each in counts]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def summed_by(
    values: Float[np.ndarray, " tokens"], documents: Int[np.ndarray, " tokens"], count: int
) -> Float[np.ndarray, " documents"]:
    """Sum of values over the tokens of each document, which have numbers 0 to count - 1."""
    return np.bincount(documents, weights=values, minlength=count)
