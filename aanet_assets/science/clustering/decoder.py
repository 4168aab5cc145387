"""Decoder rows as the clusterings see them: normalised, and which latents are in use at all."""

import numpy as np
from jaxtyping import Bool, Float

BLOCK_ROWS, BLOCK_COSINES = 1024, 2**24
"""Of a matrix of cosines, rows and entries at most that are in memory."""


def rows_at_once(columns: int) -> int:
    """Rows of a block of a matrix of so many columns."""
    return max(1, min(BLOCK_ROWS, BLOCK_COSINES // max(1, columns)))


def unit_rows(
    decoder: Float[np.ndarray, "latents d_model"],
) -> Float[np.ndarray, "latents d_model"]:
    """Rows scaled to length one; a zero row stays zero.

    Raises:
        ValueError: an entry is NaN or infinite.
    """
    finite = np.isfinite(decoder).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"decoder row {int(np.argmin(finite))} holds a NaN or infinite entry "
            f"({int((~finite).sum())} such rows); every entry must be finite: check the SAE's file"
        )
    norms = np.linalg.norm(decoder, axis=1, keepdims=True)
    return decoder / np.where(norms > 0, norms, 1)


def usable_latents(
    decoder: Float[np.ndarray, "latents d_model"],
    activity_rate: Float[np.ndarray, " latents"],
    min_activity_rate: float,
    duplicate_cosine: float,
) -> Bool[np.ndarray, " latents"]:
    """Latents that take part in a clustering.

    Left out are latents that never fire (rate 0) or fire at a share of tokens below
    `min_activity_rate`, latents with a zero decoder row, and near-duplicates: going through the
    rest in order, a latent whose row has |cosine| > `duplicate_cosine` with an earlier latent that
    was kept. With `duplicate_cosine` 1 nothing counts as a duplicate.

    Raises:
        ValueError: a decoder entry or an activity rate is not finite.
    """
    if not np.isfinite(activity_rate).all():
        raise ValueError(
            f"the activity rate of latent {int(np.argmin(np.isfinite(activity_rate)))} is not "
            "finite; rates are shares of tokens, from 0 to 1"
        )
    rows = unit_rows(decoder)
    usable = (activity_rate > 0) & (activity_rate >= min_activity_rate) & rows.any(axis=1)
    candidates = np.flatnonzero(usable)
    earlier, later = _close_pairs(rows[candidates], duplicate_cosine)
    # Pairs come ordered by their earlier latent, so that one is settled when its pairs come up.
    for i, j in zip(candidates[earlier], candidates[later], strict=True):
        if usable[i]:
            usable[j] = False
    return usable


def _close_pairs(
    rows: Float[np.ndarray, "latents d_model"], cosine: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs i < j with |cosine| above the limit, ordered by i; in blocks, to bound memory."""
    earlier, later = [np.zeros(0, int)], [np.zeros(0, int)]
    step = rows_at_once(len(rows))
    for start in range(0, len(rows), step):
        block = np.abs(rows[start : start + step] @ rows[start:].T)
        # Rounding can lift the cosine of a row with its copy above 1.
        i, j = np.nonzero(np.triu(np.minimum(block, 1) > cosine, k=1))
        earlier.append(start + i)
        later.append(start + j)
    return np.concatenate(earlier), np.concatenate(later)
