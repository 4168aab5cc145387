"""Affinities between latents from how often they fire at the same tokens.

Every measure reads the two-by-two table of a pair of latents: tokens where both are active (a),
only the one or the other (b, c), neither (d).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, vstack

BLOCK_PAIRS = 2**23
"""Pairs of latents that are counted, or measured, in one go."""


class Affinity(NamedTuple):
    """Affinity of every pair of latents, in [0, 1]: `pairs` plus the outer square of `apart`."""

    pairs: csr_matrix
    """(latents, latents), float32, symmetric; nothing for pairs that need no entry."""
    apart: Float[np.ndarray, " latents"]
    """Gives pairs that never fire together theirs: zeros for all kinds but `phi`."""

    def toarray(self) -> Float[np.ndarray, "latents latents"]:
        """All pairs at once."""
        return self.pairs.toarray() + np.outer(self.apart, self.apart)


def cooccurrence(codes: Iterable[csr_matrix], threshold: float, kind: str) -> Affinity:
    """Symmetric affinity of every pair of latents.

    A latent is active at a token when its code exceeds `threshold`. Kinds:

    - `jaccard`: a / (a + b + c)
    - `dice`: 2a / (2a + b + c)
    - `overlap`: a / min(a + b, a + c)
    - `phi`: |phi|, the absolute correlation of the two activity indicators
    - `mutual_information`: of the two indicators, divided by the arithmetic mean of their entropies

    The last two are high for latents that avoid one another too. Where a measure is undefined (a
    latent that never fires or, for the last two, always fires) the affinity is 0. Pairs that fire
    together somewhere take 8 bytes each; for `mutual_information` all pairs do.

    Args:
        codes: (tokens, latents), shard by shard, each of which is looked at once.
        threshold: of activity.
        kind: of the affinity.

    Raises:
        ValueError: unknown kind, or codes of no token.
    """
    if kind not in MEASURES:
        raise ValueError(f"co-occurrence kind {kind!r} is unknown; it must be one of {[*MEASURES]}")
    counts, fires, tokens = counts_of(codes, threshold)
    apart = np.zeros(len(fires))
    if kind == "phi":
        # Of two latents that are never active together, |phi| is the product of one number each.
        np.divide(fires, tokens - fires, out=apart, where=fires < tokens)
        apart = np.sqrt(apart)
    start = 0
    for place, block in enumerate(counts):
        rows = np.arange(start, start + len(block.indptr) - 1)
        counts[place] = _measured(block, rows, fires, apart, float(tokens), kind)
        start += len(rows)
    return Affinity(vstack(counts, format="csr"), apart)


def counts_of(
    codes: Iterable[csr_matrix], threshold: float
) -> tuple[list[csr_matrix], Float[np.ndarray, " latents"], int]:
    """Tokens at which pairs of latents fire together, by blocks of rows; each latent alone; all.

    A latent fires with itself as often as it fires.

    Raises:
        ValueError: codes of no token.
    """
    blocks: list[csr_matrix] = []
    fires, tokens = np.zeros(0), 0
    for part in codes:
        tokens_here, latents = part.shape  # pyright: ignore[reportGeneralTypeIssues]
        active = csr_matrix(
            ((part.data > threshold).astype(np.uint32), part.indices, part.indptr),
            shape=part.shape,
            copy=True,
        )
        active.eliminate_zeros()
        by_latent = active.T.tocsr()
        here = np.diff(by_latent.indptr).astype(np.float64)
        fires, tokens = (here if tokens == 0 else fires + here), tokens + tokens_here
        step = max(1, BLOCK_PAIRS // max(latents, 1))
        for place, start in enumerate(range(0, latents, step)):
            both = by_latent[start : start + step] @ active
            both.sort_indices()
            if place == len(blocks):
                blocks.append(both)
            else:
                blocks[place] = blocks[place] + both
    if tokens == 0:
        raise ValueError("there are no tokens to count co-occurrences on; cache at least one shard")
    return blocks, fires, tokens


def _measured(
    counts: csr_matrix,
    rows: Int[np.ndarray, " rows"],
    fires: Float[np.ndarray, " latents"],
    apart: Float[np.ndarray, " latents"],
    tokens: float,
    kind: str,
) -> csr_matrix:
    """Affinities, less `apart`, of the pairs in some rows that fire together."""
    if kind == "mutual_information":
        i, j = rows.repeat(len(fires)), np.tile(np.arange(len(fires)), len(rows))
        both = counts.toarray().ravel()
    else:
        i, j, both = rows.repeat(np.diff(counts.indptr)), counts.indices, counts.data
    with np.errstate(divide="ignore", invalid="ignore"):
        values = MEASURES[kind](both.astype(np.float64), fires[i], fires[j], tokens)
    values = np.clip(np.nan_to_num(values, nan=0, posinf=0, neginf=0), 0, 1) - apart[i] * apart[j]
    found = values.astype(np.float32)
    if kind == "mutual_information":
        return csr_matrix(found.reshape(counts.shape))
    return csr_matrix((found, counts.indices, counts.indptr), shape=counts.shape)


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
