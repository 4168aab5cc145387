"""Chunks that stand in several places of a corpus: boilerplate, mirrors, pages posted again."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt64

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
