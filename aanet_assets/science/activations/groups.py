"""Groups of tokens: frequent tokens alone, all others together in groups by a fixed rule.

Distributions summed into groups still mix as the distributions themselves do, and the divergence of
two of them is a lower bound of their own.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Int
from torch import Tensor


def group_tokens(counts: Int[np.ndarray, " vocab"], groups: int) -> Int[np.ndarray, " vocab"]:
    """The group of each token.

    A vocabulary of no more tokens than groups has one group per token, in order. Else the most
    frequent tokens are the first half of the groups, and the others, in an order that has nothing
    to do with their ids, are dealt to the second half in turn.

    Args:
        counts: how often each token occurs; of equally frequent ones the first are taken.
        groups: number of groups.
    """
    if len(counts) <= groups:
        return np.arange(len(counts))
    by_frequency = np.argsort(-counts, kind="stable")
    alone, others = np.split(by_frequency, [groups // 2])
    # Knuth's multiplicative hash, which is the same everywhere and at all times.
    others = others[np.argsort(others.astype(np.uint64) * np.uint64(2_654_435_761) % 2**32)]
    found = np.empty(len(counts), dtype=np.int64)
    found[alone] = np.arange(len(alone))
    found[others] = len(alone) + np.arange(len(others)) % (groups - len(alone))
    return found


def group_table(
    counts: Int[np.ndarray, " vocab"], ids: Mapping[str, int], groups: int
) -> pd.DataFrame:
    """The table `token_groups`.

    Args:
        counts: how often each token occurs.
        ids: tokens as the vocabulary spells them, with their ids.
        groups: number of groups.
    """
    spelled = {id: token for token, id in ids.items()}
    return pd.DataFrame(
        {
            "token_id": range(len(counts)),
            "token": [spelled.get(id) for id in range(len(counts))],
            "training_tokens": counts,
            "group_id": group_tokens(counts, groups),
        }
    )


class GroupedPredictions:
    """Sums next-token distributions into groups of tokens.

    Args:
        groups: the group of each token, from 0 on.
        device: where the logits are.
    """

    def __init__(self, groups: Int[np.ndarray, " vocab"], device: str = "cpu"):
        sizes = np.bincount(groups)
        self.number = len(sizes)
        # One row per group, filled up with a token of probability 0. Other than adding up in
        # place, such sums are the same in every run on a GPU, too.
        members = np.full((self.number, sizes.max()), len(groups))
        order = np.argsort(groups, kind="stable")
        place = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        members[groups[order], place] = order
        self._members = torch.from_numpy(members).to(device)

    def __call__(self, logits: Float32[Tensor, "*batch vocab"]) -> Float32[Tensor, "*batch groups"]:
        """Probability of each group."""
        probabilities = torch.nn.functional.pad(logits.softmax(-1), (0, 1))
        return probabilities[..., self._members].sum(-1)
