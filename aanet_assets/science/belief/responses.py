"""What the model predicts over each cluster's simplex: where tokens lie, and along its edges.

No verdict takes any of it. It is what the review page draws, of the few next tokens whose
probability the cluster tells most of.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aanet_assets.science.belief.edits import dose_responses
from aanet_assets.science.belief.heldout import Heldout, Simplex, placed, spread
from aanet_assets.science.belief.measures import UnjudgedError
from aanet_assets.science.belief.tables import require_both_halves
from aanet_assets.study.progress import Progress
from aanet_assets.study.settings import BeliefSettings

if TYPE_CHECKING:
    from aanet_assets.science.belief.editor import Editor

NEXT_TOKENS = 3
"""Groups of next tokens that are looked at per cluster."""
COMPARED = 2_000
"""Tokens of a cluster, drawn at random, by which these are chosen."""
LEAST = 0.01
"""Of the largest variance: a group of next tokens with less is passed over."""
PLACED = 400
"""Tokens of these that are kept."""
DOSES = 11
"""Points along an edge, its ends among them."""


class Spelling(NamedTuple):
    """A group of next tokens, for a reader."""

    token: str
    """The most frequent one."""
    tokens: int
    """How many there are."""


class Responses(NamedTuple):
    """Rows of two tables."""

    tokens: list[dict[str, Any]]
    """One per held-out token of each cluster."""
    doses: list[dict[str, Any]]
    """One per cluster, next token and point along an edge."""


def varying(p: Float[np.ndarray, "tokens groups"], most: int) -> Int[np.ndarray, " varying"]:
    """The groups whose probability has the largest variance over tokens, largest first.

    Those with less than `LEAST` of the first one's are left out; none where nothing varies.
    """
    variance = p.var(axis=0)
    first = np.argsort(-variance, kind="stable")[:most]
    return first[variance[first] > LEAST * variance[first[0]]]


def responses(
    heldout: Heldout,
    simplices: Iterable[Simplex],
    belief: BeliefSettings,
    editor: "Editor",
    spelled: Callable[[int], Spelling],
) -> Responses:
    """What is predicted at tokens of each real cluster, and where edits move them along an edge.

    A cluster that `barycentric_prediction` cannot judge has no rows: that table says why. The
    edited tokens are those of `interventional_mixture`.
    """
    real = [simplex for simplex in simplices if not simplex.null_cluster]
    found, progress = Responses([], []), Progress(len(real), "clusters", "responses")
    for simplex in real:
        here, own = placed(heldout, simplex), {"cluster_id": simplex.cluster.cluster_id}
        progress.advance()
        try:
            require_both_halves(heldout.documents[here.tokens])
        except UnjudgedError:
            continue
        some = here.some(COMPARED, belief.seed)
        p = heldout.p[some.tokens].astype(np.float64)
        groups = varying(p, NEXT_TOKENS)
        kept = some.some(PLACED, belief.seed)
        found.tokens.extend(
            {**own, "token_id": token_id, "coordinates": b, "probabilities": probabilities}
            for token_id, b, probabilities in zip(
                heldout.token_ids[kept.tokens],
                kept.coordinates,
                heldout.p[kept.tokens][:, groups].astype(np.float64),
                strict=True,
            )
        )
        few = spread(heldout, here, belief.edited_tokens, belief.seed)
        edited = editor.without(simplex, few)
        if not len(groups):
            continue
        doses = dose_responses(editor.predict, edited, simplex.in_stream, groups, DOSES)
        for rank, (group, dose) in enumerate(zip(groups.tolist(), doses, strict=True)):
            spelling = spelled(group)
            mean = dose.probabilities.mean(axis=0)
            low, high = np.percentile(dose.probabilities, [10, 90], axis=0)
            alike = {
                **own,
                "rank": rank,
                "group_id": group,
                "next_token": spelling.token,
                "group_tokens": spelling.tokens,
                "variance": p[:, group].var(),
                "from_vertex": dose.from_vertex,
                "to_vertex": dose.to_vertex,
            }
            found.doses.extend(
                {**alike, "coordinate": c, "probability": mean[i], "low": low[i], "high": high[i],
                 "mixture": (1 - c) * mean[0] + c * mean[-1]}
                for i, c in enumerate(dose.coordinates)
            )  # fmt: skip
    return found
