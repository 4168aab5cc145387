"""Chunks that stand in several places of a corpus: boilerplate, mirrors, pages posted again.

Word for word, by hashes of all; or but for some words, by comparing the samples of a vertex.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt64

from aanet_assets.science.activations.shards import Shard, chunk_tokens


def chunk_hashes(tokens: Int[np.ndarray, "chunks seq"]) -> UInt64[np.ndarray, " chunks"]:
    """Eight bytes that stand for the token ids of each chunk, whatever integers hold them."""
    rows = np.ascontiguousarray(tokens, dtype=np.int32)
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype=np.uint64)


def hashes_of(shards: Iterable[Path]) -> UInt64[np.ndarray, " different"]:
    """Hashes of all chunks of some shards, each once; one shard at a time is in memory."""
    parts = [np.unique(chunk_hashes(chunk_tokens(shard))) for shard in shards]
    return np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *parts]))


LOOKED_AT = 200
"""Chunks of a vertex that are compared, at most: each with every other one."""
_DIFFERENT = 0.2
"""Share of the tokens in which two chunks may differ and be one text but for some words."""
_LONGER = 3
"""Tokens by which a passage may be longer than the one in its place."""


def near_repeats(tokens: Int[np.ndarray, "chunks seq"]) -> int:
    """How many chunks are an earlier one but for some words.

    Two are where all but a fifth of their tokens are equal, and of what chance would not make equal
    still all but a fifth: place by place, or from both ends up to one passage that another of about
    its length stands for.
    """
    _, frequency = np.unique(tokens, return_counts=True)
    by_chance = float(((frequency / max(tokens.size, 1)) ** 2).sum())
    enough = 1 - _DIFFERENT * (1 - by_chance)
    length = tokens.shape[1]
    found = 0
    for number in range(1, len(tokens)):
        one, earlier = tokens[number], tokens[:number]
        same = earlier == one
        start = _run(same)
        equal = [same.sum(axis=1), np.minimum(start + _run(same[:, ::-1]), length)]
        for more in range(1, min(_LONGER + 1, length)):
            for moved in (earlier[:, :-more] == one[more:], earlier[:, more:] == one[:-more]):
                equal.append(np.minimum(start + _run(moved[:, ::-1]), length - more))
        found += bool(np.max(equal) >= enough * length)
    return found


def _run(same: Bool[np.ndarray, "chunks seq"]) -> Int[np.ndarray, " chunks"]:
    """How many are true before the first that is not."""
    return np.where(same.all(axis=1), same.shape[1], same.argmin(axis=1))


def without(shard: Shard, known: UInt64[np.ndarray, " different"]) -> Shard:
    """The shard without the chunks whose hashes are known; the shard itself if there are none."""
    kept = ~np.isin(chunk_hashes(shard.tokens), known)
    if kept.all():
        return shard
    per_chunk = ("tokens", "special", "documents", "starts", "norms")
    return replace(
        shard,
        codes=shard.codes[np.repeat(kept, shard.tokens.shape[1])],
        **{name: getattr(shard, name)[kept] for name in per_chunk},
    )
