"""What predictions are judged by, and intervals that resample documents."""

import numpy as np
from jaxtyping import Float, Int


class UnjudgedError(ValueError):
    """A cluster cannot be judged; the message says why. Other clusters can."""


FLOOR = 1e-6
"""Least probability that a prediction is taken to give: a group of tokens that was not seen in the
half that fits is rare, not impossible."""


def divergence(
    p: Float[np.ndarray, "*batch groups"], q: Float[np.ndarray, "*#batch groups"]
) -> Float[np.ndarray, "*batch"]:
    """Kullback-Leibler divergence of q from p, in nats; q is at least `FLOOR`."""
    return np.where(p > 0, p * np.log(np.maximum(p, FLOOR**2) / np.maximum(q, FLOOR)), 0).sum(-1)


def all_divergences(
    p: Float[np.ndarray, "rows groups"],
) -> Float[np.ndarray, "rows rows"]:
    """`divergence` of the column's distribution from the row's, for all pairs."""
    own = (p * np.log(np.maximum(p, FLOOR**2))).sum(axis=1)
    return own[:, None] - p @ np.log(np.maximum(p, FLOOR)).T


def r_squared(
    truth: Float[np.ndarray, "rows outputs"], predicted: Float[np.ndarray, "rows outputs"]
) -> float:
    """1 - squared error / squared distance from the mean of the truth; NaN where that is none."""
    spread = np.square(truth - truth.mean(axis=0)).sum()
    if spread == 0:
        return np.nan
    return float(1 - np.square(truth - predicted).sum() / spread)


def interval(sums: Float[np.ndarray, "documents 2"], seed: int, draws: int) -> tuple[float, float]:
    """95% interval of the ratio of two sums under resampling of documents.

    Each document counts as often as a Poisson variable of mean one says (the Poisson bootstrap).
    """
    weights = np.random.default_rng(seed).poisson(1.0, (draws, len(sums)))
    over, under = (weights @ sums).T
    low, high = np.percentile(over / under, [2.5, 97.5])
    return float(low), float(high)


def summed_by(
    values: Float[np.ndarray, " tokens"], documents: Int[np.ndarray, " tokens"]
) -> Float[np.ndarray, " documents"]:
    """Sum of values over the tokens of each document that has some."""
    return np.bincount(np.unique(documents, return_inverse=True)[1], weights=values)
