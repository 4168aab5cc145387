"""The exact beliefs beside a cluster's barycentric coordinates, as they are: no map is fitted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aanet_assets.belief.measures import r_squared
from aanet_assets.belief.simplices import matched
from aanet_assets.toy.process import Process, ProductProcess


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

    def __init__(self, process: Process, letters: Int[np.ndarray, "documents length"]):
        self.process = process
        self.spoken = process.spoken(letters)

    def match(
        self, tokens: Int[np.ndarray, " active"], coordinates: Float[np.ndarray, "active k"]
    ) -> Match | None:
        """The component that speaks most where a cluster is active; None if it has no k states.

        Of several that speak as often, as all components of a product do, it is the one whose
        beliefs the coordinates come closest to.
        """
        places = [np.flatnonzero(np.isin(tokens, own.tokens)) for own in self.spoken]
        most = max(map(len, places))
        found = [
            self._match(component, tokens, coordinates, own)
            for component, own in enumerate(places)
            if len(own) == most
        ]
        return max(filter(None, found), key=lambda match: match.r2, default=None)

    def _match(
        self,
        component: int,
        tokens: Int[np.ndarray, " active"],
        coordinates: Float[np.ndarray, "active k"],
        places: Int[np.ndarray, " spoken"],
    ) -> Match | None:
        """A component's states as vertices; `places` are those in `tokens` where it speaks."""
        spoken, k = self.spoken[component], coordinates.shape[1]
        if self.process.components[component].true_k != k:
            return None
        belief = spoken.belief[np.searchsorted(spoken.tokens, tokens[places])]
        states = matched(coordinates[places], belief)
        r2 = r_squared(belief[:, states], coordinates[places])
        return Match(component, self.process.names[component], states, r2)

    def operators(self, match: Match) -> Float[np.ndarray, "letters k k"] | None:
        """T of each letter of the process, its states in the order of the vertices.

        None of a product: its letters are those of all components, whose beliefs T depends on.
        """
        if isinstance(self.process, ProductProcess):
            return None
        found = np.zeros((len(self.process.letters), len(match.states), len(match.states)))
        letters = self.process.component_of_letter == match.component
        found[letters] = self._own(match)
        return found * (1 - self.process.switch_rate)

    def operator_error(
        self, match: Match, found: Float[np.ndarray, "groups k k"], groups: Sequence[int]
    ) -> float | None:
        """Length of what operators of some letters are wrong by, relative to their own."""
        operators = self.operators(match)
        if operators is None:
            return None
        true = operators[list(groups)]
        return float(np.linalg.norm(found - true) / np.linalg.norm(true))

    def transitions(self, match: Match) -> Float[np.ndarray, "k k"]:
        """Of the hidden chain, as long as the component speaks on."""
        return self._own(match).sum(axis=0)

    def after_states(self, match: Match, groups: int) -> Float[np.ndarray, "k groups"] | None:
        """Distribution of the next letter from each vertex's state; other tokens never come.

        None of a product, where it depends on the other components' beliefs.
        """
        if isinstance(self.process, ProductProcess):
            return None
        found = self.process.after_states(match.component)[match.states]
        return np.pad(found, [(0, 0), (0, groups - found.shape[1])])

    def _own(self, match: Match) -> Float[np.ndarray, "symbols k k"]:
        """T of the component's own letters, its states in the order of the vertices."""
        transitions = self.process.components[match.component].transitions
        return transitions[:, match.states][:, :, match.states]
