"""Processes by what a study calls them: a shipped one, a file of chains, or one's own class."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aanet_assets.science.toy.components import Component
from aanet_assets.science.toy.own_process import KnownProcess, load_process
from aanet_assets.science.toy.process import PROCESSES, UnionProcess
from aanet_assets.study.study import resolve

_EXACT = 1e-6
"""How far probabilities may be from their sum of 1: files round."""


class _Chain(BaseModel):
    """One hidden Markov model, as a file has it."""

    model_config = ConfigDict(extra="forbid")
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    transitions: list[list[list[float]]]


class _Processes(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid")
    switch_rate: float = 0.0
    components: list[_Chain]


def process_of(name: str) -> KnownProcess:
    """A process by its name, that of a JSON file or a `module:Class` of the project's folder.

    Raises:
        ValueError: it is not there, or is no process; says what is wrong.
    """
    if name.endswith(".json"):
        return read_process(resolve(name))
    return load_process(name) if ":" in name else PROCESSES[name]


def read_process(path: Path) -> UnionProcess:
    """Read a process of hidden Markov models that take turns.

    The file is a JSON object with `switch_rate`, the probability that another component speaks
    before the next letter, and `components`. Each has a `kind`, which names it, and `transitions`,
    for each of its letters a matrix whose entry (i, j) is the probability that from state i this
    letter is emitted and state j follows.

    Raises:
        ValueError: the file is not there or holds no process; says what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(
            f"the process {path} is not there: give a JSON file of hidden Markov models, or one of "
            f"{', '.join(PROCESSES)}"
        ) from None
    try:
        found = _Processes.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"{path}: {place}: {wrong['msg']} (it is {wrong['input']!r})") from None
    try:
        chains = [_component(chain, place) for place, chain in enumerate(found.components)]
        return UnionProcess(chains, found.switch_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _component(chain: _Chain, place: int) -> Component:
    """A chain whose numbers are probabilities."""
    which = f"components.{place} ({chain.kind})"
    states = len(chain.transitions[0]) if chain.transitions else 0
    widths = {(len(matrix), *map(len, matrix)) for matrix in chain.transitions}
    if not states or widths != {(states, *[states] * states)}:
        raise ValueError(
            f"{which}: transitions must be one matrix per letter, each with as many rows and "
            "columns as there are states"
        )
    transitions = np.array(chain.transitions)
    # Written so that a NaN fails, too.
    if not (transitions >= 0).all():
        i = tuple(map(int, np.argwhere(~(transitions >= 0))[0]))
        raise ValueError(f"{which}: transitions{list(i)} is {transitions[i]}; it must be 0 or more")
    total = transitions.sum(axis=(0, 2))
    if (wrong := np.abs(total - 1) > _EXACT).any():
        state = int(np.argmax(wrong))
        raise ValueError(
            f"{which}: from state {state}, the probabilities of all letters and next states sum to "
            f"{total[state]:.6g}; they must sum to 1"
        )
    # Rounded in the file; what is filtered by them has to stay exact.
    transitions /= total[None, :, None]
    return Component(
        kind=chain.kind,
        transitions=transitions,
        readout=np.ones(states),
        stationary=_stationary(transitions.sum(axis=0), which),
        true_k=states if states > 1 else None,
    )


def _stationary(
    chain: Float[np.ndarray, "states states"], which: str
) -> Float[np.ndarray, " states"]:
    """The one distribution that a step of the chain leaves as it is."""
    states = len(chain)
    equations = np.vstack([chain.T - np.eye(states), np.ones(states)])
    if np.linalg.matrix_rank(equations[:-1], tol=1e-9) < states - 1:
        raise ValueError(
            f"{which}: its states fall into groups that never reach each other, so that it has no "
            "one stationary distribution: make each group a component of its own"
        )
    found = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)[0]
    return np.clip(found, 0, None) / np.clip(found, 0, None).sum()
