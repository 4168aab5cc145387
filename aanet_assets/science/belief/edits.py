"""Whether the model uses the coordinates: what it predicts when they are changed at one token.

The part x_c that the cluster writes is replaced by a point of its simplex, and the layers above are
run as they are.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aanet_assets.science.belief.measures import divergence

Predict = Callable[
    [Int[np.ndarray, " tokens"], Float[np.ndarray, "tokens edits d_model"]],
    Float[np.ndarray, "tokens edits groups"],
]
"""(tokens by number, residual streams put in their place, several each) -> predictions."""


class Edited(NamedTuple):
    """Tokens of a cluster, without what it writes there."""

    tokens: Int[np.ndarray, " tokens"]
    without: Float[np.ndarray, "tokens d_model"]
    """Residual stream less x_c."""


class MixtureUnderEdits(NamedTuple):
    """How predictions follow coordinates b* that are put in place of a token's own."""

    int_r2: float
    """1 - sum |p(b*) - sum_i b*_i p(e_i)|^2 / sum |p(b*) - mean over b*|^2, token by token: whether
    predictions are mixtures of those at the vertices."""
    context: float
    """Share of the variance of p(b*) that is due to which token it was."""
    moved: float
    """Mean divergence of p(b*) from its mean over b*, in nats: whether they move at all."""


def mixture_under_edits(
    predict: Predict,
    edited: Edited,
    vertices: Float[np.ndarray, "k d_model"],
    points: int,
    seed: int,
) -> MixtureUnderEdits:
    """Put points of the simplex, drawn from Dirichlet(1), in place of the cluster's part.

    Args:
        vertices: in the residual stream.
        points: how many, the same ones at each token.
    """
    k = len(vertices)
    weights = np.random.default_rng(seed).dirichlet(np.ones(k), points)
    places = np.concatenate([vertices, weights @ vertices])
    found = predict(edited.tokens, edited.without[:, None] + places)
    at_vertices, inside = found[:, :k], found[:, k:]
    mixed = np.einsum("pk,tkg->tpg", weights, at_vertices)
    mean = inside.mean(axis=1, keepdims=True)
    over_tokens = inside - inside.mean(axis=0, keepdims=True)
    over_all = inside - inside.mean(axis=(0, 1))
    spread = np.square(inside - mean).sum()
    total = np.square(over_all).sum()
    return MixtureUnderEdits(
        float(1 - np.square(inside - mixed).sum() / spread) if spread else np.nan,
        float(np.square(over_tokens).sum() / total) if total else np.nan,
        float(divergence(inside, np.broadcast_to(mean, inside.shape)).mean()),
    )


class DoseResponse(NamedTuple):
    """Predicted probability of one group of tokens, as a coordinate takes the place of another."""

    from_vertex: int
    """At which the edited tokens have the least of it, on average."""
    to_vertex: int
    """At which they have most."""
    coordinates: Float[np.ndarray, " points"]
    """Of the second vertex, from 0 to 1; that of the first is the rest."""
    probabilities: Float[np.ndarray, "tokens points"]


def dose_responses(
    predict: Predict,
    edited: Edited,
    vertices: Float[np.ndarray, "k d_model"],
    groups: Int[np.ndarray, " groups"],
    points: int,
) -> list[DoseResponse]:
    """Put points of an edge in its place: for each group the one that changes its probability most.

    Args:
        groups: whose probabilities are asked for; one at least.
        points: along an edge, its ends among them.
    """
    at_vertices = predict(edited.tokens, edited.without[:, None] + vertices)[..., groups]
    order = np.argsort(at_vertices.mean(axis=0), axis=0, kind="stable")
    doses = np.linspace(0, 1, points)
    share = doses[:, None]
    edges = [(int(own[0]), int(own[-1])) for own in order.T]
    places = [(1 - share) * vertices[start] + share * vertices[end] for start, end in edges]
    found = predict(edited.tokens, edited.without[:, None] + np.concatenate(places))
    parts = np.split(found, len(edges), axis=1)
    return [
        DoseResponse(*edge, doses, part[..., group])
        for edge, part, group in zip(edges, parts, groups, strict=True)
    ]


class Steering(NamedTuple):
    """Tokens near one vertex are put at another: the share of the way to a distribution there."""

    reached: float
    """1 - KL(target, after) / KL(target, before), both summed over tokens and pairs of vertices."""
    kl_before: float
    """Mean KL(target, before) in nats."""
    kl_after: float
    random: float
    """The same share for a random direction of the same length."""
    random_in_span: float
    """For a random direction of the same length within the cluster's subspace."""
    removed: float
    """With nothing put in the place of what the cluster writes."""
    other_cluster: float
    """From one vertex of another cluster towards another of it, by the same length; NaN without
    another cluster."""


def steering(
    predict: Predict,
    near: list[Edited],
    written: list[Float[np.ndarray, "tokens d_model"]],
    vertices: Float[np.ndarray, "k d_model"],
    basis: Float[np.ndarray, "d_model rank"],
    targets: Float[np.ndarray, "k groups"],
    seed: int,
    others: Float[np.ndarray, "vertices d_model"] | None = None,
) -> Steering:
    """Steer tokens from each vertex to every other one, and by directions that mean nothing.

    Args:
        near: tokens near each vertex.
        written: what the cluster writes there, x_c.
        basis: orthonormal columns that span the cluster's decoder rows.
        targets: distribution that each vertex stands for.
        others: vertices of another cluster.
    """
    rng = np.random.default_rng(seed)
    meaningless = 2 if others is None else 3
    sums = np.zeros((3 + meaningless, 2))
    for source, (edited, own) in enumerate(zip(near, written, strict=True)):
        goals = [i for i in range(len(vertices)) if i != source]
        steps = vertices[goals] - own[:, None]
        lengths = np.linalg.norm(steps, axis=-1, keepdims=True)
        directions = [
            rng.standard_normal(steps.shape),
            rng.standard_normal((*steps.shape[:2], basis.shape[1])) @ basis.T,
        ]
        if others is not None:
            towards = np.roll(others, 1, axis=0) - others
            directions.append(np.resize(towards, steps.shape))
        moves = [
            direction / np.linalg.norm(direction, axis=-1, keepdims=True) * lengths
            for direction in directions
        ]
        streams = [own[:, None], np.zeros_like(own)[:, None]]
        streams += [own[:, None] + move for move in (steps, *moves)]
        found = predict(edited.tokens, edited.without[:, None] + np.concatenate(streams, axis=1))
        kinds = np.split(found[:, 2:], 1 + meaningless, axis=1)
        wanted = np.broadcast_to(targets[goals], kinds[0].shape)
        for row, predicted in enumerate((found[:, :1], *kinds, found[:, 1:2])):
            apart = divergence(wanted, np.broadcast_to(predicted, wanted.shape))
            sums[row] += apart.sum(), apart.size
    totals, counts = sums.T
    reached = 1 - totals / totals[0]
    before, after = (totals / counts)[:2].tolist()
    _, steered, drawn, in_span, *other, removed = reached.tolist()
    return Steering(steered, before, after, drawn, in_span, removed, other[0] if other else np.nan)
