"""Names for vertices, and how well a name tells the tokens near its vertex from others.

The hard part of a context is the rest of it: so tokens near a vertex are told from tokens in the
middle of the simplex that are the same token (detection), and the right token of a passage from
another one of it (fuzzing), as delphi scores explanations. Chance is 0.5 of either.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Int

from aanet_assets.science.belief.heldout import Heldout, Placed, Simplex, placed
from aanet_assets.science.vertices.endpoint import Endpoint, NoAnswerError
from aanet_assets.study.settings import InterpretationSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEFORE, NEARBY = 24, 8
"""Tokens of a passage before the marked one; those of them that contrast words are taken from."""
INTERIOR = 0.7
"""Largest barycentric coordinate up to which a token is in the middle of a simplex."""
_WORDS = 3


class Passage(NamedTuple):
    """A token in its context, as a reader sees it."""

    text: str
    """The context up to and with the token, which stands between << and >>."""
    nearby: tuple[str, ...]
    """The last tokens, the marked one last, decoded one by one."""


class Examples(NamedTuple):
    """Passages of one vertex."""

    shown: list[Passage]
    """From which it is named."""
    near: list[Passage]
    """By which the name is scored: from other documents."""
    hard: list[Passage]
    """The same tokens in the middle of the simplex."""
    shifted: list[Passage]
    """The passages of `near`, marked at another token."""


def examples_of(
    heldout: Heldout,
    here: Placed,
    tokenizer: "PreTrainedTokenizerBase",
    settings: InterpretationSettings,
) -> list[Examples]:
    """Passages for each vertex: to name it from even documents, to score it from odd ones."""
    rng = np.random.default_rng(settings.seed)
    documents = heldout.documents[here.tokens]
    interior = here.tokens[(here.coordinates.max(axis=1) < INTERIOR) & (documents % 2 == 1)]
    found = []
    for vertex in range(here.coordinates.shape[1]):
        near = here.near(vertex, len(here.tokens))
        tokens, even = here.tokens[near], documents[near] % 2 == 0
        scored, hard = [], []
        for token in tokens[~even]:
            same = interior[heldout.token_ids[interior] == heldout.token_ids[token]]
            if len(same) and len(scored) < settings.scored:
                scored.append(int(token))
                hard.append(int(rng.choice(same)))
        shifted = [int(token) - int(rng.integers(1, NEARBY)) for token in scored]
        inside = [
            other
            for other, token in zip(shifted, scored, strict=True)
            if other >= 0 and heldout.chunks[other] == heldout.chunks[token]
        ]
        parts = (tokens[even][: settings.examples].tolist(), scored, hard, inside)
        passages = [[passage(heldout, token, tokenizer) for token in part] for part in parts]
        found.append(Examples(*passages))
    return found


def passage(heldout: Heldout, token: int, tokenizer: "PreTrainedTokenizerBase") -> Passage:
    """A token and what stands before it in its chunk, special tokens left out."""
    first = max(0, token - BEFORE)
    before = np.arange(first, token)
    before = before[heldout.chunks[before] == heldout.chunks[token]]
    ids: Int[np.ndarray, " seq"] = heldout.token_ids[[*before, token]]
    decoded = [str(tokenizer.decode([int(one)])) for one in ids]
    start = str(tokenizer.decode(ids[:-1].tolist())) if len(before) else ""
    whole = str(tokenizer.decode(ids.tolist()))
    # What a token adds to its context: alone, it may lose its leading space.
    own = whole[len(start) :] if whole.startswith(start) else decoded[-1]
    space = own[: len(own) - len(own.lstrip())]
    return Passage(f"{start}{space}<<{own.strip()}>>", tuple(decoded[-NEARBY:]))


Judge = Callable[[Sequence[Passage]], list[bool]]
"""Tells which passages are of a vertex."""


class ContrastWords:
    """Words that stand more often near one vertex than near the others, by their log odds."""

    def __init__(self, vertex: int, examples: Sequence[Examples]):
        counts = [_count(own.shown) for own in examples]
        own, others = counts[vertex], sum(counts[:vertex] + counts[vertex + 1 :], Counter())
        words = own.keys() | others.keys()
        share = [1 + sum(each.values()) for each in (own, others)]
        self._odds = {
            word: float(
                np.log((own[word] + 0.5) / share[0]) - np.log((others[word] + 0.5) / share[1])
            )
            for word in words
        }
        ranked = sorted(words, key=lambda word: (-self._odds[word], word))
        self.name = ", ".join(ranked[:_WORDS])

    def __call__(self, passages: Sequence[Passage]) -> list[bool]:
        """Those in which words that speak for the vertex outweigh those against it."""
        return [sum(self._odds.get(w, 0.0) for w in _words(each)) > 0 for each in passages]


def _words(own: Passage) -> list[str]:
    return [word for token in own.nearby if (word := token.strip())]


def _count(passages: Sequence[Passage]) -> Counter[str]:
    return Counter(word for own in passages for word in _words(own))


def interpretation_rows(
    heldout: Heldout,
    simplices: Sequence[Simplex],
    tokenizer: "PreTrainedTokenizerBase",
    settings: InterpretationSettings,
    endpoint: Endpoint,
) -> list[dict[str, Any]]:
    """The rows of the table `vertex_interpretation`: one per vertex of each simplex."""
    found = []
    for simplex in simplices:
        named = {
            "cluster_id": simplex.cluster.cluster_id,
            "null_cluster": simplex.null_cluster,
            "k": len(simplex.vertices),
        }
        examples = examples_of(heldout, placed(heldout, simplex), tokenizer, settings)
        found += [{**named, **row} for row in interpret(examples, settings, endpoint)]
    return found


def interpret(
    examples: Sequence[Examples], settings: InterpretationSettings, endpoint: Endpoint
) -> list[dict[str, Any]]:
    """A name for each vertex with its scores; by contrast words where the endpoint says nothing."""
    found = []
    for vertex, own in enumerate(examples):
        row: dict[str, Any] = {"vertex_id": vertex, "examples": len(own.shown)}
        if not own.shown:
            found.append({**row, "scored": 0, "problem": "no token is near it in even documents"})
            continue
        contrast = ContrastWords(vertex, examples)
        row |= {"name": contrast.name, "named_by": "contrast words", "problem": ""}
        judge: Judge = contrast
        try:
            others = [one for i, each in enumerate(examples) if i != vertex for one in each.shown]
            name = _name(endpoint.ask(settings.explainer, _ask_name(own.shown, others)))
            row |= {"name": name, "named_by": settings.explainer}
            judge = _Reader(name, settings.scorer or settings.explainer, endpoint)
        except NoAnswerError as error:
            if settings.endpoint:
                row["problem"] = str(error)
        row |= {"scored": len(own.near), "scored_by": "contrast words"}
        try:
            row |= _scores(judge, own)
            if isinstance(judge, _Reader):
                row["scored_by"] = judge.model
        except NoAnswerError as error:
            row["problem"] = f"not scored: {error}"
            row["scored_by"] = None
        found.append(row)
    return found


def _scores(judge: Judge, own: Examples) -> dict[str, float | None]:
    """Balanced accuracies of detection and fuzzing; None without passages to tell apart."""
    found: dict[str, float | None] = {}
    for name, others in (("detection", own.hard), ("fuzzing", own.shifted)):
        found[name] = None
        if own.near and others:
            mixed = [*own.near, *others]
            # In an order that says nothing, and the same each time.
            order = np.random.default_rng(len(mixed)).permutation(len(mixed))
            said = np.empty(len(mixed), dtype=bool)
            said[order] = judge([mixed[place] for place in order])
            hits, misses = said[: len(own.near)].mean(), said[len(own.near) :].mean()
            found[name] = float((hits + 1 - misses) / 2)
    return found


class _Reader:
    """A language model that tells which passages fit a name."""

    def __init__(self, name: str, model: str, endpoint: Endpoint):
        self._name, self.model, self._endpoint = name, model, endpoint

    def __call__(self, passages: Sequence[Passage]) -> list[bool]:
        """Those whose numbers the model gives.

        Raises:
            NoAnswerError: it gives no list of numbers, or numbers of no passage.
        """
        answer = self._endpoint.ask(self.model, _ask_which(self._name, passages))
        lists = re.findall(r"\[[\d\s,]*\]", answer)
        if not lists:
            raise NoAnswerError(f"{self.model} was asked for a list of numbers: {answer[:120]!r}")
        chosen = set(json.loads(lists[-1]))
        if not chosen <= set(range(1, len(passages) + 1)):
            raise NoAnswerError(f"{self.model} names passages that there are not: {lists[-1]!r}")
        return [number in chosen for number in range(1, len(passages) + 1)]


def _numbered(passages: Sequence[Passage]) -> str:
    return "\n".join(f"{number}. {each.text}" for number, each in enumerate(passages, 1))


def _ask_name(own: Sequence[Passage], others: Sequence[Passage]) -> str:
    return (
        "In each passage the token between << and >> is one at which a language model is in a "
        "certain state. Say what these passages have in common at that token, and those of other "
        "states have not. Answer with one short phrase of at most ten words, and nothing else.\n\n"
        f"Passages of the state:\n{_numbered(own)}\n\n"
        f"Passages of other states:\n{_numbered(others)}"
    )


def _ask_which(name: str, passages: Sequence[Passage]) -> str:
    return (
        f"A state of a language model is described as: {name}\n\nIn which of these passages is the "
        "model in that state at the token between << and >>? Answer with the list of their "
        f"numbers alone, like [1, 4], or [] for none.\n\n{_numbered(passages)}"
    )


def _name(answer: str) -> str:
    """The first line of an answer, without quotes."""
    return answer.strip().splitlines()[0].strip("\"'` ")[:200]
