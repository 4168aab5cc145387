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
    """`mess<n>`, `tom_quantum` or `bloch`."""
    transitions: Float[np.ndarray, "letters states states"]
    """T of the module's conventions."""
    readout: Float[np.ndarray, " states"]
    """w of the module's conventions: what a belief is multiplied with to give its total of one."""
    stationary: Float[np.ndarray, " states"]
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
    return _measured("tom_quantum", axes=(2, 1), strength=s, shrink=c)


def bloch(strength: float) -> Component:
    """Weak measurements of a qubit along one of three axes, each drawn with probability 1/3.

    Beliefs are (1, bx, by, bz) with length of b at most 1. They fill a ball, which is no simplex: a
    decoy in as many dimensions as a tetrahedron. Measuring an axis i with strength s and outcome
    +-1 has probability (1 +- s b_i) / 6; it moves b_i to (b_i +- s) / (1 +- s b_i) and scales the
    others by sqrt(1 - s^2) over the same denominator. Letters: x+, x-, y+, y-, z+, z-.

    Raises ValueError unless the strength lies between 0 and 1.
    """
    if not 0 < strength < 1:
        raise ValueError(f"bloch: strength is {strength}; it must lie between 0 and 1")
    shrink = math.sqrt(1 - strength**2)
    return _measured("bloch", axes=(1, 2, 3), strength=strength, shrink=shrink)


def _measured(kind: str, axes: tuple[int, ...], strength: float, shrink: float) -> Component:
    """Measurements along `axes`, in the order of their letters, with outcomes + and - each."""
    n_axes, transitions = len(axes), []
    for axis in axes:
        for outcome in (strength, -strength):
            matrix = np.diag([1.0] + [shrink] * n_axes)
            matrix[axis, axis] = 1.0
            matrix[0, axis] = matrix[axis, 0] = outcome
            transitions.append(matrix / (2 * n_axes))
    certain = np.eye(n_axes + 1)[0]
    return Component(
        kind=kind,
        transitions=np.array(transitions),
        readout=certain,
        stationary=certain,
        true_k=None,
    )
