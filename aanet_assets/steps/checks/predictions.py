"""Checks of groups of tokens, and of the model's predictions at a held-out shard."""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError

from aanet_assets.science.activations.predictions import read_losses, read_predictions
from aanet_assets.science.activations.shards import read_chunks
from aanet_assets.storage.step import Finding

TOLERANCE = 1e-3
"""How far from 1 a distribution may sum; rounding to float16 moves it by less than 0.0006."""


def check_groups(table: pd.DataFrame, groups: int) -> list[Finding]:
    """Check that the groups are numbered without a gap, and as many as the settings say."""
    expected = min(groups, len(table))
    found = np.unique(table["group_id"].to_numpy(np.int64))
    said = (
        f"{len(table):,} tokens are in {len(found):,} groups; {expected:,} are wanted "
        "(predictions.groups, or one per token), numbered from 0 on"
    )
    return [Finding("groups", np.array_equal(found, np.arange(expected)), said)]


def check_predictions(path: Path, shard: Path, table: pd.DataFrame) -> list[Finding]:
    """Check the predictions at one shard; where the file is none, nothing else is said."""
    (fit,) = table.to_dict("records")
    try:
        found, losses = read_predictions(path), read_losses(path)
    except (SafetensorError, OSError) as error:
        said = f"{path.name} does not hold predictions: {error}"
        return [Finding("structure", False, said)]
    _, special = read_chunks(shard)
    expected = int((~special).sum()), fit["groups"]
    fits = found.shape == expected and losses.shape == expected[:1]
    said = (
        f"probabilities have shape {found.shape} and {len(losses):,} tokens a loss; the shard has "
        f"{expected[0]:,} counted tokens, and there are {expected[1]:,} groups"
    )
    if not fits:
        return [Finding("structure", False, said)]
    sums = found.sum(axis=1, dtype=np.float64)
    # Written so that a NaN counts, too.
    wrong = int((~((np.abs(sums - 1) <= TOLERANCE) & (found >= 0).all(axis=1))).sum())
    return [
        Finding("structure", True, said),
        Finding(
            "distributions",
            not wrong,
            f"{wrong:,} of {len(found):,} tokens have probabilities that are below 0 or do not sum "
            f"to 1 (by {TOLERANCE:g}); none may",
        ),
        Finding(
            "predicts",
            bool(fit["cross_entropy"] < fit["unigram_cross_entropy"]),
            f"the model's cross-entropy is {fit['cross_entropy']:.3f} nats a token, and "
            f"{fit['unigram_cross_entropy']:.3f} by the frequency of tokens alone; a model that "
            "does not do better was not made for this text, or is not the right one: what depends "
            "on its predictions says nothing",
            blocking=False,
        ),
    ]
