"""Processes whose answer is known, with exact beliefs: components that take turns or all speak.

Here belong sampling and exact filtering; nothing here knows a language model. Conventions are
those of `components.py`.
"""

import itertools
import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aanet_assets.science.activations.targets import Factor, Targets
from aanet_assets.science.toy.components import Component, bloch, mess, tom_quantum
from aanet_assets.study.seeds import seed_for


class Beliefs(NamedTuple):
    """What an observer of the letters knows after each of them."""

    component: Int[np.ndarray, "documents length"]
    """Index of the component that speaks."""
    belief: Float[np.ndarray, "documents length states"]
    """Belief of that component; entries beyond its own states are 0."""


class UnionProcess:
    """Components that take turns, each with letters of its own.

    A document starts with a component drawn at random. Before each further letter, with
    probability `switch_rate`, another component, drawn at random, takes over from its stationary
    belief. Letters are called a1, a2, ... for the first component, b1, ... for the second;
    components are called by their kind and letter, as in `mess3_a`.
    """

    def __init__(self, components: Sequence[Component], switch_rate: float):
        if not 1 <= len(components) <= len(string.ascii_lowercase):
            raise ValueError(f"a process has 1 to 26 components, not {len(components)}")
        if not 0 <= switch_rate < 1:
            raise ValueError(f"switch_rate is {switch_rate}; it must be at least 0 and below 1")
        if len(components) == 1 and switch_rate:
            raise ValueError(
                f"switch_rate is {switch_rate}; a single component has none to switch to: it must "
                "be 0"
            )
        self.components = tuple(components)
        self.switch_rate = switch_rate
        initials = string.ascii_lowercase[: len(components)]
        sizes = [len(c.transitions) for c in components]
        self.names = tuple(f"{c.kind}_{i}" for c, i in zip(components, initials, strict=True))
        self.letters = tuple(
            f"{initial}{number}"
            for initial, size in zip(initials, sizes, strict=True)
            for number in range(1, size + 1)
        )
        self.component_of_letter = np.repeat(np.arange(len(components)), sizes)

        # Components are padded with zeros to the same number of states, so that documents can be
        # filtered together whatever component speaks in each.
        states = max(len(c.stationary) for c in components)
        self._transitions = np.concatenate(
            [_padded(c.transitions, states, axes=(1, 2)) for c in components]
        )
        self._readout = np.stack([_padded(c.readout, states, axes=(0,)) for c in components])
        self._stationary = np.stack([_padded(c.stationary, states, axes=(0,)) for c in components])
        letter_readout = self._readout[self.component_of_letter]
        self._letter_weights = np.einsum("vij,vj->vi", self._transitions, letter_readout)
        start = self._if_staying(np.arange(len(components)), self._stationary)
        self._if_switching = (start.sum(0) - start) / max(len(components) - 1, 1)
        self.first_letter: Float[np.ndarray, " vocab"] = start.mean(0)
        """Distribution of the first letter of a document."""

    def _if_staying(
        self, component: Int[np.ndarray, "*batch"], belief: Float[np.ndarray, "*batch states"]
    ) -> Float[np.ndarray, "*batch vocab"]:
        """Distribution of the next letter given that the same component speaks on."""
        own = component[..., None] == self.component_of_letter
        return np.where(own, belief @ self._letter_weights.T, 0.0)

    def _next(
        self, component: Int[np.ndarray, "*batch"], belief: Float[np.ndarray, "*batch states"]
    ) -> Float[np.ndarray, "*batch vocab"]:
        """Distribution of the next letter."""
        staying = (1 - self.switch_rate) * self._if_staying(component, belief)
        return staying + self.switch_rate * self._if_switching[component]

    def _update(
        self,
        component: Int[np.ndarray, " documents"],
        belief: Float[np.ndarray, "documents states"],
        letter: Int[np.ndarray, " documents"],
    ) -> tuple[Int[np.ndarray, " documents"], Float[np.ndarray, "documents states"]]:
        """Component and belief after one more letter.

        Exact, because a letter tells its component and a switch always goes to another component:
        equal components on both sides mean that there was no switch.
        """
        speaker = self.component_of_letter[letter]
        stays = (speaker == component)[:, None]
        prior = np.where(stays, belief, self._stationary[speaker])
        joint = np.einsum("di,dij->dj", prior, self._transitions[letter])
        total = np.einsum("dj,dj->d", joint, self._readout[speaker])
        return speaker, joint / total[:, None]

    def _before(
        self, n_documents: int
    ) -> tuple[Int[np.ndarray, " documents"], Float[np.ndarray, "documents states"]]:
        """No component yet, so that any first letter starts from a stationary belief."""
        return np.full(n_documents, -1), np.zeros((n_documents, self._stationary.shape[1]))

    def sample(
        self, n_documents: int, length: int, seed: int
    ) -> Int[np.ndarray, "documents length"]:
        """Draw documents of `length` letters, as indices into `letters`."""
        rng = np.random.default_rng(seed)
        component, belief = self._before(n_documents)
        letters = np.empty((n_documents, length), dtype=np.int64)
        upcoming = np.broadcast_to(self.first_letter, (n_documents, len(self.letters)))
        for position in range(length):
            # The last sum is 1 up to rounding, so it is left out: any draw above the others is
            # the last letter.
            sums = upcoming.cumsum(axis=1)[:, :-1]
            letters[:, position] = (rng.random(n_documents)[:, None] >= sums).sum(axis=1)
            component, belief = self._update(component, belief, letters[:, position])
            upcoming = self._next(component, belief)
        return letters

    def beliefs(self, letters: Int[np.ndarray, "documents length"]) -> Beliefs:
        """Which component speaks at each token and its exact belief after that token.

        Raises ValueError for a number that is no letter of this process.
        """
        _require_letters(letters, len(self.letters))
        component, belief = self._before(len(letters))
        steps = []
        for letter in letters.T:
            component, belief = self._update(component, belief, letter)
            steps.append((component, belief))
        components, beliefs = zip(*steps, strict=True)
        return Beliefs(np.stack(components, axis=1), np.stack(beliefs, axis=1))

    def predictive(
        self, letters: Int[np.ndarray, "documents length"]
    ) -> Float[np.ndarray, "documents length vocab"]:
        """Exact distribution of the next letter after each letter; see `first_letter` too."""
        return self._next(*self.beliefs(letters))

    def after_states(self, component: int) -> Float[np.ndarray, "states vocab"]:
        """Exact distribution of the next letter from each state of a component that speaks."""
        count = len(self.components[component].stationary)
        certain = np.eye(count, self._stationary.shape[1])
        return self._next(np.full(count, component), certain)

    def bayes_loss(self, letters: Int[np.ndarray, "documents length"]) -> float:
        """Least possible loss in nats: mean entropy of the next letter, after each letter."""
        return entropy(self.predictive(letters))

    def targets(self, letters: Int[np.ndarray, "documents length"]) -> Targets:
        """Every component's belief where it speaks, document by document."""
        component, belief = self.beliefs(letters)
        speaker, values = component.ravel(), belief.reshape(letters.size, -1)
        return Targets(
            letters.ravel(),
            [
                Factor(name, own.kind, own.true_k, speaker == i, values)
                for i, (name, own) in enumerate(zip(self.names, self.components, strict=True))
            ],
        )


class ProductProcess:
    """Components that all speak at once and know nothing of each other.

    A letter is one symbol of each component, the first component's most significant, as in
    `a1b4c2`; symbols and components are called as a `UnionProcess` calls its own.
    """

    def __init__(self, components: Sequence[Component]):
        named = UnionProcess(components, 0.0)
        self.components, self.names = named.components, named.names
        self._alone = [UnionProcess([component], 0.0) for component in components]
        self._sizes = tuple(len(alone.letters) for alone in self._alone)
        owner = named.component_of_letter
        symbols = [np.array(named.letters)[owner == i].tolist() for i in range(len(components))]
        self.letters = tuple("".join(letter) for letter in itertools.product(*symbols))
        self.first_letter: Float[np.ndarray, " vocab"] = _outer(
            [alone.first_letter for alone in self._alone]
        )
        """Distribution of the first letter of a document."""

    def sample(
        self, n_documents: int, length: int, seed: int
    ) -> Int[np.ndarray, "documents length"]:
        """Draw documents of `length` letters, as indices into `letters`."""
        symbols = [
            alone.sample(n_documents, length, seed_for(seed, name))
            for alone, name in zip(self._alone, self.names, strict=True)
        ]
        return np.ravel_multi_index(symbols, self._sizes)

    def targets(self, letters: Int[np.ndarray, "documents length"]) -> Targets:
        """Every component's belief at every token, document by document."""
        alone = [
            each.targets(own).factors[0]
            for each, own in zip(self._alone, self._symbols(letters), strict=True)
        ]
        factors = [one._replace(name=name) for one, name in zip(alone, self.names, strict=True)]
        return Targets(letters.ravel(), factors)

    def predictive(
        self, letters: Int[np.ndarray, "documents length"]
    ) -> Float[np.ndarray, "documents length vocab"]:
        """Exact distribution of the next letter after each letter; see `first_letter` too."""
        symbols = self._symbols(letters)
        return _outer(
            [alone.predictive(own) for alone, own in zip(self._alone, symbols, strict=True)]
        )

    def bayes_loss(self, letters: Int[np.ndarray, "documents length"]) -> float:
        """Least possible loss in nats: mean entropy of the next letter, after each letter."""
        symbols = self._symbols(letters)
        return sum(alone.bayes_loss(own) for alone, own in zip(self._alone, symbols, strict=True))

    def _symbols(
        self, letters: Int[np.ndarray, "documents length"]
    ) -> tuple[Int[np.ndarray, "documents length"], ...]:
        """Each component's symbols; ValueError for a number that is no letter of this process."""
        _require_letters(letters, len(self.letters))
        return np.unravel_index(letters, self._sizes)


def entropy(p: Float[np.ndarray, "*places outcomes"]) -> float:
    """Mean entropy of distributions, in nats."""
    return float(-(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1).mean())


def _require_letters(letters: Int[np.ndarray, "documents length"], vocab: int) -> None:
    """Refuse a number that is no letter."""
    if letters.size and not 0 <= letters.min() <= letters.max() < vocab:
        raise ValueError(
            f"letters run from {letters.min()} to {letters.max()}; this process has letters 0 "
            f"to {vocab - 1}"
        )


def _outer(distributions: Sequence[Float[np.ndarray, "*batch _"]]) -> Float[np.ndarray, "*batch _"]:
    """The joint distribution of independent ones, the first most significant."""
    joint = distributions[0]
    for one in distributions[1:]:
        joint = (joint[..., :, None] * one[..., None, :]).reshape(*joint.shape[:-1], -1)
    return joint


def _padded(
    values: Float[np.ndarray, "..."], states: int, axes: tuple[int, ...]
) -> Float[np.ndarray, "..."]:
    """`values` with zeros appended along `axes` up to `states` entries."""
    missing = [(0, states - values.shape[a] if a in axes else 0) for a in range(values.ndim)]
    return np.pad(values, missing)


UNION7 = UnionProcess(
    [
        mess(3, 0.03, 0.70),
        mess(3, 0.04, 0.76),
        mess(3, 0.06, 0.82),
        mess(2, 0.05, 0.75),
        mess(4, 0.03, 0.75),
        tom_quantum(1.0, 3.0),
        tom_quantum(1.51, 3.07),
    ],
    switch_rate=0.05,
)
"""The shipped toy: five simplices (three triangles, a line, a tetrahedron) and two disks."""

UNION22 = UnionProcess(
    [
        mess(2, 0.05, 0.75),
        mess(2, 0.03, 0.70),
        mess(2, 0.08, 0.80),
        mess(2, 0.04, 0.85),
        mess(3, 0.03, 0.70),
        mess(3, 0.04, 0.76),
        mess(3, 0.06, 0.82),
        mess(3, 0.05, 0.70),
        mess(3, 0.03, 0.80),
        mess(4, 0.03, 0.75),
        mess(4, 0.02, 0.70),
        mess(4, 0.04, 0.80),
        mess(4, 0.03, 0.85),
        mess(5, 0.02, 0.75),
        mess(5, 0.03, 0.80),
        mess(5, 0.02, 0.70),
        tom_quantum(1.0, 3.0),
        tom_quantum(1.51, 3.07),
        tom_quantum(1.0, 4.0),
        bloch(0.5),
        bloch(0.6),
        bloch(0.75),
    ],
    switch_rate=0.05,
)
"""The harder toy: sixteen simplices of two to five vertices, three disks and three balls."""

PRODUCT5 = ProductProcess(
    [
        tom_quantum(1.51, 3.07),
        tom_quantum(1.99, 2.51),
        mess(3, 0.05, 0.85),
        mess(3, 0.075, 0.90),
        mess(3, 0.10, 0.95),
    ]
)
"""The process of arXiv 2604.02685: two disks and three triangles at every letter, of 432."""

PROCESSES: dict[str, UnionProcess | ProductProcess] = {
    "union7": UNION7,
    "union22": UNION22,
    "product5": PRODUCT5,
}
"""Processes by the names that studies call them."""
