"""Affinities between latents from how often they fire at the same tokens.

Every measure reads the two-by-two table of a pair of latents: tokens where both are active (a),
only the one or the other (b, c), neither (d).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

BLOCK_ROWS = 512


def cooccurrence(
    codes: csr_matrix, threshold: float, kind: str
) -> Float[np.ndarray, "latents latents"]:
    """Symmetric affinity of every pair of latents, in [0, 1], float32.

    A latent is active at a token when its code exceeds `threshold`. Kinds:

    - `jaccard`: a / (a + b + c)
    - `dice`: 2a / (2a + b + c)
    - `overlap`: a / min(a + b, a + c)
    - `phi`: |phi|, the absolute correlation of the two activity indicators
    - `mutual_information`: of the two indicators, divided by the arithmetic mean of their entropies

    The last two are high for latents that avoid one another too. Where a measure is undefined (a
    latent that never fires or, for the last two, always fires) the affinity is 0.

    Raises:
        ValueError: unknown kind, or codes of no token.
    """
    if kind not in MEASURES:
        raise ValueError(f"co-occurrence kind {kind!r} is unknown; it must be one of {[*MEASURES]}")
    tokens, latents = codes.shape  # pyright: ignore[reportGeneralTypeIssues]
    if tokens == 0:
        raise ValueError("there are no tokens to count co-occurrences on; cache at least one shard")
    active = codes.copy()
    active.data = (codes.data > threshold).astype(np.int32)
    active.eliminate_zeros()
    by_latent = active.T.tocsr()
    fires = np.asarray(active.sum(axis=0), dtype=np.float64).ravel()
    affinity = np.empty((latents, latents), dtype=np.float32)
    for start in range(0, latents, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        both = (by_latent[rows] @ active).toarray().astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = MEASURES[kind](both, fires[rows, None], fires[None, :], float(tokens))
        affinity[rows] = np.clip(np.nan_to_num(values, nan=0, posinf=0, neginf=0), 0, 1)
    return affinity


def _jaccard(both: np.ndarray, i: np.ndarray, j: np.ndarray, tokens: float) -> np.ndarray:
    return both / (i + j - both)


def _dice(both: np.ndarray, i: np.ndarray, j: np.ndarray, tokens: float) -> np.ndarray:
    return 2 * both / (i + j)


def _overlap(both: np.ndarray, i: np.ndarray, j: np.ndarray, tokens: float) -> np.ndarray:
    return both / np.minimum(i, j)


def _phi(both: np.ndarray, i: np.ndarray, j: np.ndarray, tokens: float) -> np.ndarray:
    # Square roots one by one: their product is symmetric in i and j to the last bit.
    spread = np.sqrt(i * (tokens - i)) * np.sqrt(j * (tokens - j))
    return np.abs(tokens * both - i * j) / spread


def _mutual_information(
    both: np.ndarray, i: np.ndarray, j: np.ndarray, tokens: float
) -> np.ndarray:
    only_i, only_j = i - both, j - both
    neither = tokens - i - only_j
    off_i, off_j = tokens - i, tokens - j
    information = (
        _cell(both, i, j, tokens)
        + _cell(neither, off_i, off_j, tokens)
        + (_cell(only_i, i, off_j, tokens) + _cell(only_j, off_i, j, tokens))
    )
    entropy_i = _cell(i, i, i, tokens) + _cell(off_i, off_i, off_i, tokens)
    entropy_j = _cell(j, j, j, tokens) + _cell(off_j, off_j, off_j, tokens)
    # The mean entropy is 0 only where both latents are constant: 0/0, undefined.
    return 2 * information / (entropy_i + entropy_j)


def _cell(count: np.ndarray, row: np.ndarray, column: np.ndarray, tokens: float) -> np.ndarray:
    """One cell's p log(p / (p_row p_column)), 0 where the cell is empty."""
    ratio = np.where(count > 0, count * tokens / (row * column), 1)
    return count / tokens * np.log(ratio)


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]] = {
    "jaccard": _jaccard,
    "dice": _dice,
    "overlap": _overlap,
    "phi": _phi,
    "mutual_information": _mutual_information,
}
