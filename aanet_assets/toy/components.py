"""The parts a toy process is made of: single sources of letters with hidden states.

Conventions: a component is one matrix T[v] per letter v, beliefs are row vectors, and
p(v) = belief T[v] w, belief' = belief T[v] / p(v), so that belief' w = 1. The belief of a token is
the one after that token.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Component:
    """One source of letters with its own hidden states."""

    kind: str
    """`mess<n>` or `tom_quantum`."""
    transitions: Float[np.ndarray, "letters states states"]
    """T of the module's conventions."""
    readout: Float[np.ndarray, "states"]
    """w of the module's conventions: what a belief is multiplied with to give its total of one."""
    stationary: Float[np.ndarray, "states"]
    """The belief before any letter."""
    true_k: int | None
    """Vertices of the simplex that the beliefs fill; None where they fill no simplex."""


def mess(n: int, x: float, a: float) -> Component:
    """A chain of n hidden states that moves to each other state with probability x per step.

    The state arrived at emits its own letter with probability a, and each other letter with
    probability (1 - a) / (n - 1). `mess(3, x, a)` is the Mess3 process of Marzen and Crutchfield.
    Its beliefs are probabilities of the n states.

    Raises ValueError where these are no probabilities.
    """
    if n < 2:
        raise ValueError(f"mess: n is {n}; a chain needs at least 2 states")
    if not 0 < x < 1 / (n - 1):
        raise ValueError(f"mess: x is {x}; with {n} states it must lie between 0 and 1/{n - 1}")
    if not 0 < a < 1:
        raise ValueError(f"mess: a is {a}; it must lie between 0 and 1")
    move = np.full((n, n), x)
    np.fill_diagonal(move, 1 - (n - 1) * x)
    emit = np.full((n, n), (1 - a) / (n - 1))
    np.fill_diagonal(emit, a)
    return Component(
        kind=f"mess{n}",
        transitions=np.einsum("ij,jv->vij", move, emit),
        readout=np.ones(n),
        stationary=np.full(n, 1 / n),
        true_k=n,
    )


def tom_quantum(alpha: float, beta: float) -> Component:
    """Weak measurements of a real qubit along one of two axes, each drawn with probability 1/2.

    Beliefs are (1, bx, bz) with bx^2 + bz^2 <= 1. They fill a disk, which is no simplex: a decoy.
    Measuring z with strength s = 2 alpha beta / (alpha^2 + beta^2) and outcome +-1 has probability
    (1 +- s bz) / 4; it moves bz to (bz +- s) / (1 +- s bz) and scales bx by
    c = (alpha^2 - beta^2) / (alpha^2 + beta^2) over the same denominator. Letters: z+, z-, x+, x-.

    Raises ValueError unless alpha and beta are positive, finite and different.
    """
    if not (0 < alpha < math.inf and 0 < beta < math.inf and alpha != beta):
        raise ValueError(
            f"tom_quantum: alpha is {alpha} and beta is {beta}; both must be positive, finite and "
            "different from each other (equal ones would measure the state completely)"
        )
    norm = alpha**2 + beta**2
    s, c = 2 * alpha * beta / norm, (alpha**2 - beta**2) / norm
    along_z = [[[1, 0, r], [0, c, 0], [r, 0, 1]] for r in (s, -s)]
    along_x = [[[1, r, 0], [r, 1, 0], [0, 0, c]] for r in (s, -s)]
    return Component(
        kind="tom_quantum",
        transitions=np.array(along_z + along_x) / 4,
        readout=np.array([1.0, 0.0, 0.0]),
        stationary=np.array([1.0, 0.0, 0.0]),
        true_k=None,
    )
