"""Whether next-token distributions are mixtures over the vertices: p(x' | context) = sum_i b_i V_i.

A simplex of beliefs predicts so, whatever the process: states are hidden, and what follows from a
belief is the mean of what follows from the states. Half of the documents fits, the other half
tests.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from scipy.special import softmax as softmax_of

from aanet_assets.science.belief.measures import FLOOR, divergence, interval, r_squared, summed_by

ROUNDS = 100
"""Of expectation and maximisation: after them the divergence falls by less than 1e-4 of itself."""


class PredictionScores(NamedTuple):
    """How much of the divergence between predictions and their mean coordinates explain."""

    kl_explained: float
    """1 - KL(p, sum b_i V_i) / KL(p, mean p)."""
    kl_explained_low: float
    """Lower end of its 95% interval, by documents."""
    kl_explained_high: float
    """Upper end."""
    mixture_r2: float
    """R^2 of the probabilities by the mixture."""
    token_kl_explained: float
    """The same share from the current token alone."""
    permuted_kl_explained: float
    """The same from coordinates that have changed places among tokens that are equal."""


class LatentScores(NamedTuple):
    """The same from activations of the cluster's latents, which bound it from above."""

    latents_kl_explained: float
    """By a softmax regression on all of them."""
    best_latent_kl_explained: float
    """The same on the best single one."""


def fit_mixture(
    coordinates: Float[np.ndarray, "tokens k"], p: Float[np.ndarray, "tokens groups"]
) -> Float[np.ndarray, "k groups"]:
    """Distributions V of the vertices with the least sum of KL(p_t, sum_i b_ti V_i).

    A convex problem; each round multiplies V by its gradient and makes it distributions again,
    which is expectation and maximisation of a mixture whose weights are known.
    """
    v = coordinates.T @ p + FLOOR
    v /= v.sum(axis=1, keepdims=True)
    # The same memory in every round: fresh memory would cost a fifth of the time.
    ratios = np.empty_like(p)
    for _ in range(ROUNDS):
        np.maximum(np.matmul(coordinates, v, out=ratios), FLOOR**2, out=ratios)
        v *= coordinates.T @ np.divide(p, ratios, out=ratios)
        v /= np.maximum(v.sum(axis=1, keepdims=True), FLOOR**2)
    return v


def prediction_scores(
    coordinates: Float[np.ndarray, "tokens k"],
    p: Float[np.ndarray, "tokens groups"],
    token_ids: Int[np.ndarray, " tokens"],
    documents: Int[np.ndarray, " tokens"],
    seed: int,
    draws: int,
) -> PredictionScores:
    """Scores on the documents with odd numbers of what is fitted on those with even ones.

    Args:
        draws: resamplings for the interval; without any it is NaN.
    """
    fits = documents % 2 == 0
    test, mean = ~fits, p[fits].mean(axis=0)
    unexplained = divergence(p[test], mean)

    def share(predicted: Float[np.ndarray, "test groups"]) -> float:
        return float(1 - divergence(p[test], predicted).sum() / unexplained.sum())

    vertices = fit_mixture(coordinates[fits], p[fits])
    mixture = coordinates[test] @ vertices
    left = divergence(p[test], mixture)
    sums = np.stack([summed_by(each, documents[test]) for each in (left, unexplained)], axis=1)
    low, high = interval(sums, seed, draws) if draws else (np.nan, np.nan)
    permuted = _permuted_within(token_ids[test], np.random.default_rng(seed))
    return PredictionScores(
        kl_explained=float(1 - left.sum() / unexplained.sum()),
        kl_explained_low=1 - high,
        kl_explained_high=1 - low,
        mixture_r2=r_squared(p[test], mixture),
        token_kl_explained=share(_by_token(p[fits], token_ids[fits], token_ids[test], mean)),
        permuted_kl_explained=share(mixture[permuted]),
    )


def latent_scores(
    latents: Float[np.ndarray, "tokens members"],
    p: Float[np.ndarray, "tokens groups"],
    documents: Int[np.ndarray, " tokens"],
) -> LatentScores:
    """What all of a cluster's latents explain, and the single one that explains most."""
    fits = documents % 2 == 0
    test, mean = ~fits, p[fits].mean(axis=0)
    unexplained = divergence(p[test], mean).sum()

    def share(columns: Float[np.ndarray, "tokens columns"]) -> float:
        predicted = _softmax_regression(columns[fits], p[fits], columns[test])
        return float(1 - divergence(p[test], predicted).sum() / unexplained)

    best = _best_latent(latents, p, fits)
    return LatentScores(share(latents), share(latents[:, [best]]))


def sufficiency(mixture: PredictionScores, latents: LatentScores) -> float:
    """What a mixture explains of what all latents do; NaN where these explain nothing.

    Of many latents and few tokens, what fits one half can be worse than the mean of the other.
    """
    most = latents.latents_kl_explained
    return mixture.kl_explained / most if most > 0 else np.nan


def _by_token(
    p: Float[np.ndarray, "fits groups"],
    seen: Int[np.ndarray, " fits"],
    asked: Int[np.ndarray, " test"],
    mean: Float[np.ndarray, " groups"],
) -> Float[np.ndarray, "test groups"]:
    """Mean prediction at each token, one of the mean's weight added; the mean at unseen ones."""
    names, index = np.unique(seen, return_inverse=True)
    sums = np.zeros((len(names) + 1, p.shape[1]))
    np.add.at(sums, index, p)
    counts = np.append(np.bincount(index, minlength=len(names)), 0)
    means = (sums + mean) / (counts + 1)[:, None]
    place = np.searchsorted(names, asked).clip(max=len(names) - 1)
    return means[np.where(names[place] == asked, place, len(names))]


def _permuted_within(
    token_ids: Int[np.ndarray, " tokens"], rng: np.random.Generator
) -> Int[np.ndarray, " tokens"]:
    """Places of tokens after those of equal ones are permuted."""
    places = np.arange(len(token_ids))
    for token in np.unique(token_ids):
        own = np.flatnonzero(token_ids == token)
        places[own] = rng.permutation(own)
    return places


def _best_latent(
    latents: Float[np.ndarray, "tokens members"],
    p: Float[np.ndarray, "tokens groups"],
    fits: Bool[np.ndarray, " tokens"],
) -> int:
    """The latent whose straight line, fitted on one half, explains most of the other half.

    A softmax regression on each of many latents would take long.
    """
    x, y = latents - latents[fits].mean(axis=0), p - p[fits].mean(axis=0)
    squares = np.square(x[fits]).sum(axis=0)
    slopes = (x[fits].T @ y[fits]) / np.where(squares > 0, squares, 1)[:, None]
    # |y|^2 - |y - x slope|^2, of the half that tests.
    crosses = x[~fits].T @ y[~fits]
    explained = 2 * slopes * crosses - np.square(slopes) * np.square(x[~fits]).sum(axis=0)[:, None]
    return int(np.argmax(explained.sum(axis=1)))


def _softmax_regression(
    x: Float[np.ndarray, "fits columns"],
    p: Float[np.ndarray, "fits groups"],
    asked: Float[np.ndarray, "test columns"],
) -> Float[np.ndarray, "test groups"]:
    """Predictions softmax(W x) with the least mean divergence, and a trace of ridge.

    Exponentials are taken in single precision, in which p came: a third of the time.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    design, question = (
        np.column_stack([np.ones(len(each)), (each - mean) / spread]).astype(np.float32)
        for each in (x, asked)
    )
    shape = design.shape[1], p.shape[1]
    # What does not change with the weights is summed once, and all rounds share their memory: the
    # exponential is what is left to pay for.
    said, totals = design.astype(np.float64).T @ p, p.sum(axis=1)
    softmax = np.empty(p.shape, dtype=np.float32)

    def loss(flat: Float[np.ndarray, " weights"]) -> tuple[float, Float[np.ndarray, " weights"]]:
        weights = flat.reshape(shape)
        np.matmul(design, weights.astype(np.float32), out=softmax)
        highest = softmax.max(axis=1)
        np.exp(np.subtract(softmax, highest[:, None], out=softmax), out=softmax)
        sums = softmax.sum(axis=1, dtype=np.float64)
        np.multiply(softmax, (totals / sums)[:, None].astype(np.float32), out=softmax)
        gradient = (design.T @ softmax - said) / len(p) + 2e-5 * weights
        value = totals @ (highest + np.log(sums)) - np.vdot(said, weights)
        return float(value / len(p) + 1e-5 * np.square(flat).sum()), gradient.ravel()

    start = np.zeros(shape)
    start[0] = np.log(np.maximum(p.mean(axis=0), FLOOR))
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return softmax_of(question @ found.x.reshape(shape), axis=1)
