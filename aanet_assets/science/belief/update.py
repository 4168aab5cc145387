"""Whether coordinates update as beliefs of a hidden Markov chain do.

For each token x there is a non-negative matrix T_x with E[1{x' = x} b' | b] = b T_x: then
p(x | b) = b T_x 1, b' = b T_x / (b T_x 1), and two steps compose. Coordinates after a token at
which the cluster is silent count as zeros, so that rows of sum_x T_x sum to less than one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from aanet_assets.science.belief.measures import UnjudgedError, r_squared

BOOTSTRAPS = 40


class Steps(NamedTuple):
    """Tokens at which a cluster is active, with what follows; -1 and zeros where nothing does."""

    now: Float[np.ndarray, "tokens k"]
    """Coordinates, as probabilities."""
    next_token: Int[np.ndarray, " tokens"]
    """Number of the next token's group; -1 at the end of a chunk."""
    next: Float[np.ndarray, "tokens k"]
    """Coordinates at the next token; zeros where the cluster is silent."""
    second_token: Int[np.ndarray, " tokens"]
    second: Float[np.ndarray, "tokens k"]
    documents: Int[np.ndarray, " tokens"]


def steps_of(
    coordinates: Float[np.ndarray, "active k"],
    active: Int[np.ndarray, " active"],
    groups: Int[np.ndarray, " tokens"],
    chunks: Int[np.ndarray, " tokens"],
    documents: Int[np.ndarray, " tokens"],
) -> Steps:
    """What follows each active token within its chunk.

    Args:
        coordinates: as probabilities, of the tokens with these numbers.
        active: their numbers, rising.
        groups: of every token, active or not, in the order of the text.
        chunks: of every token.
        documents: of every token.
    """
    padded = np.zeros((len(groups) + 2, coordinates.shape[1]))
    padded[active] = coordinates
    follows = np.append(groups, [-1, -1])
    inside = np.append(chunks, [-1, -1])
    tokens, values = [], []
    for ahead in (1, 2):
        there = inside[active + ahead] == chunks[active]
        tokens.append(np.where(there, follows[active + ahead], -1))
        values.append(np.where(there[:, None], padded[active + ahead], 0.0))
    return Steps(coordinates, tokens[0], values[0], tokens[1], values[1], documents[active])


def operators(
    steps: Steps, groups: Sequence[int], weights: Float[np.ndarray, " tokens"] | None = None
) -> Float[np.ndarray, "groups k k"]:
    """T of each of these groups, by non-negative least squares of 1{x' = x} b' on b.

    Raises:
        UnjudgedError: the coordinates do not vary in all their dimensions.
    """
    within = steps.next_token >= 0
    now, after, follows = steps.now[within], steps.next[within], steps.next_token[within]
    weighed = now if weights is None else now * weights[within, None]
    crosses = []
    for group in groups:
        own = follows == group
        crosses.append(weighed[own].T @ after[own])
    return _non_negative(weighed.T @ now, crosses)


def _non_negative(
    gram: Float[np.ndarray, "k k"], crosses: Sequence[Float[np.ndarray, "k k"]]
) -> Float[np.ndarray, "groups k k"]:
    """T of each group, given the sums over tokens of b b and of b 1{x' = x} b'."""
    if np.linalg.matrix_rank(gram) < len(gram):
        raise UnjudgedError("barycentric coordinates do not vary in all their dimensions")
    # |B t - y|^2 and |R t - R'^-1 B'y|^2 with R'R = B'B differ by a constant.
    try:
        root = np.linalg.cholesky(gram).T
    except np.linalg.LinAlgError:
        raise UnjudgedError("barycentric coordinates hardly vary in some dimension") from None
    found = np.empty((len(crosses), *gram.shape))
    for place, cross in enumerate(crosses):
        moments = solve_triangular(root, cross, trans="T")
        found[place] = np.stack([nnls(root, moments[:, j])[0] for j in range(len(gram))], axis=1)
    return found


class UpdateScores(NamedTuple):
    """How well the operators, fitted on half of the documents, do on the other half."""

    prediction_r2: float
    """R^2 of p(x) by b T_x 1, over the tokens that are frequent enough."""
    two_step_r2: float
    """R^2 of the coordinates two tokens later by b T_x' T_x''."""
    beyond_tokens: float
    """Share of the error of the two tokens alone, as a sum of a part of each, that it has not."""
    covered: float
    """Share of the next tokens that are frequent enough."""


def frequent(steps: Steps, alone: Bool[np.ndarray, " groups"], least: int) -> list[int]:
    """Groups of one token each that follow and leave the cluster active so often at least."""
    stays = (steps.next_token >= 0) & (steps.next.sum(axis=1) > 0)
    counts = np.bincount(steps.next_token[stays], minlength=len(alone))
    return np.flatnonzero(alone & (counts >= least)).tolist()


def update_scores(
    steps: Steps, p: Float[np.ndarray, "tokens judged"], groups: Sequence[int]
) -> UpdateScores:
    """Scores of the operators of these groups; NaN where there are too few tokens to tell.

    Args:
        p: the model's predictions of these groups at the tokens of `steps`.

    Raises:
        UnjudgedError: no group, or the coordinates do not vary.
    """
    if not groups:
        raise UnjudgedError("no token follows often enough")
    fits = (steps.documents % 2 == 0).astype(np.float64)
    test = fits == 0
    t = operators(steps, groups, fits)
    predicted = np.einsum("tk,gkj->tg", steps.now[test], t)
    within = test & (steps.next_token >= 0)
    place = np.full(max(int(steps.next_token.max()), *groups) + 1, -1)
    place[list(groups)] = np.arange(len(groups))
    two_step, beyond = _two_steps(steps, t, place, test)
    return UpdateScores(
        r_squared(p[test], predicted),
        two_step,
        beyond,
        float(np.isin(steps.next_token[within], groups).mean()) if within.any() else np.nan,
    )


def _two_steps(
    steps: Steps,
    t: Float[np.ndarray, "groups k k"],
    place: Int[np.ndarray, " numbers"],
    test: Bool[np.ndarray, " tokens"],
) -> tuple[float, float]:
    known = (steps.next_token >= 0) & (steps.second_token >= 0)
    first = np.where(known, place[steps.next_token], -1)
    second = np.where(known, place[steps.second_token.clip(max=len(place) - 1)], -1)
    known &= (steps.second_token < len(place)) & (first >= 0) & (second >= 0)
    known &= (steps.next.sum(axis=1) > 0) & (steps.second.sum(axis=1) > 0)
    asked = known & test
    if asked.sum() < FEWEST:
        return np.nan, np.nan
    after = np.einsum("tk,tkj->tj", steps.now[asked], t[first[asked]])
    after = np.einsum("tj,tjl->tl", after, t[second[asked]])
    total = after.sum(axis=1, keepdims=True)
    after = np.divide(after, total, out=np.full_like(after, 1 / after.shape[1]), where=total > 0)
    letters = np.column_stack([np.eye(len(t))[first], np.eye(len(t))[second]])
    fits = known & ~test
    weights = np.linalg.lstsq(letters[fits], steps.second[fits], rcond=None)[0]
    truth = steps.second[asked]
    alone = np.square(truth - letters[asked] @ weights).sum()
    return r_squared(truth, after), float(1 - np.square(truth - after).sum() / alone)


FEWEST = 100
"""Pairs of steps in the half that tests, under which two steps are not judged."""


class Chain(NamedTuple):
    """The hidden chain that the operators add up to, given that the cluster stays active."""

    transitions: Float[np.ndarray, "k k"]
    """Rows sum to one."""
    stationary: Float[np.ndarray, " k"]
    stays: Float[np.ndarray, " k"]
    """Probability, from each vertex, that one of the tokens follows with the cluster active."""


def chain_of(t: Float[np.ndarray, "groups k k"]) -> Chain:
    """Transitions and stationary distribution of sum_x T_x.

    Raises:
        UnjudgedError: nothing is known of what follows some vertex.
    """
    total = t.sum(axis=0)
    stays = total.sum(axis=1)
    if not (stays > 0).all():
        raise UnjudgedError("no token follows one of the vertices")
    transitions = total / stays[:, None]
    # pi P = pi and sum pi = 1, in one system.
    k = len(transitions)
    system = np.vstack([transitions.T - np.eye(k), np.ones(k)])
    stationary = np.linalg.lstsq(system, np.eye(k + 1)[k], rcond=None)[0]
    return Chain(transitions, stationary, stays)


def resampled_chains(steps: Steps, groups: Sequence[int], seed: int) -> list[Chain]:
    """Chains under resampling of documents (Poisson weights of mean one); failed ones drop out."""
    rng = np.random.default_rng(seed)
    within = steps.next_token >= 0
    now, after, follows = steps.now[within], steps.next[within], steps.next_token[within]
    names, index = np.unique(steps.documents, return_inverse=True)
    weights = rng.poisson(1.0, (BOOTSTRAPS, len(names))).T[index[within]].astype(np.float64)
    # Of all resamplings at once, each is a column of weights.
    grams = _weighed_products(now, now, weights)
    crosses = [
        _weighed_products(now[own], after[own], weights[own])
        for own in (follows == group for group in groups)
    ]
    found = []
    for draw in range(BOOTSTRAPS):
        try:
            t = _non_negative(grams[..., draw], [cross[..., draw] for cross in crosses])
            found.append(chain_of(t))
        except UnjudgedError:
            continue
    return found


def _weighed_products(
    one: Float[np.ndarray, "tokens k"],
    other: Float[np.ndarray, "tokens k"],
    weights: Float[np.ndarray, "tokens draws"],
) -> Float[np.ndarray, "k k draws"]:
    """Sums over tokens of the products of columns, for each column of weights."""
    return np.stack([(other * column[:, None]).T @ weights for column in one.T])
