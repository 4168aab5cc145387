"""The exact beliefs beside a cluster's barycentric coordinates, as they are: no map is fitted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aanet_assets.science.belief.measures import r_squared
from aanet_assets.science.belief.simplices import matched
from aanet_assets.science.toy.process import UnionProcess


class Match(NamedTuple):
    """The component that a cluster's simplex shows, and the state that each vertex is."""

    component: int
    name: str
    states: Int[np.ndarray, " k"]
    r2: float
    """R^2 of the beliefs by the coordinates, where the component speaks."""


class Truth:
    """Beliefs at held-out tokens of a process that is known.

    Args:
        process: it.
        letters: of the held-out documents, in the order of the tokens.
    """

    def __init__(self, process: UnionProcess, letters: Int[np.ndarray, "documents length"]):
        self.process = process
        component, belief = process.beliefs(letters)
        self.component = component.ravel()
        self.belief = belief.reshape(letters.size, -1)

    def match(
        self, tokens: Int[np.ndarray, " active"], coordinates: Float[np.ndarray, "active k"]
    ) -> Match | None:
        """The component that speaks most where a cluster is active; None if it has no k states."""
        speaker = int(np.bincount(self.component[tokens]).argmax())
        k = coordinates.shape[1]
        if self.process.components[speaker].true_k != k:
            return None
        own = self.component[tokens] == speaker
        belief = self.belief[tokens][own][:, :k]
        states = matched(coordinates[own], belief)
        r2 = r_squared(belief[:, states], coordinates[own])
        return Match(speaker, self.process.names[speaker], states, r2)

    def operators(self, match: Match) -> Float[np.ndarray, "letters k k"]:
        """T of each letter of the process, its states in the order of the vertices."""
        own = self.process.components[match.component]
        found = np.zeros((len(self.process.letters), len(match.states), len(match.states)))
        letters = self.process.component_of_letter == match.component
        found[letters] = own.transitions[:, match.states][:, :, match.states]
        return found * (1 - self.process.switch_rate)

    def operator_error(
        self, match: Match, found: Float[np.ndarray, "groups k k"], groups: Sequence[int]
    ) -> float:
        """Length of what operators of some letters are wrong by, relative to their own."""
        true = self.operators(match)[list(groups)]
        return float(np.linalg.norm(found - true) / np.linalg.norm(true))

    def transitions(self, match: Match) -> Float[np.ndarray, "k k"]:
        """Of the hidden chain, as long as the component speaks on."""
        total = self.operators(match).sum(axis=0)
        return total / total.sum(axis=1, keepdims=True)

    def after_states(self, match: Match, groups: int) -> Float[np.ndarray, "k groups"]:
        """Distribution of the next letter from each vertex's state; other tokens never come."""
        found = self.process.after_states(match.component)[match.states]
        return np.pad(found, [(0, 0), (0, groups - found.shape[1])])
