"""Chunks that stand in several places of a corpus: boilerplate, mirrors, pages posted again.

Word for word, by hashes; or but for some words, by the runs of tokens that two of them share (A.
Broder, On the resemblance and containment of documents, 1997).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse
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


RUN = 4
"""Tokens of a run."""
RESEMBLANCE = 0.4
"""Share of the runs of either of two chunks, from which on they are one text but for some words: in
16 tokens one may differ, in 256 some thirty; chunks that were written apart share hardly any."""


def near_repeats(chunks: Sequence[Sequence[int]]) -> int:
    """How many chunks are an earlier one but for some words.

    Args:
        chunks: token ids of each.
    """
    numbers: dict[tuple[int, ...], int] = {}
    places: list[int] = []
    ends = [0]
    for chunk in chunks:
        runs = {tuple(chunk[i : i + RUN]) for i in range(max(1, len(chunk) - RUN + 1))}
        places += [numbers.setdefault(run, len(numbers)) for run in sorted(runs)]
        ends.append(len(places))
    held = scipy.sparse.csr_matrix(
        (np.ones(len(places), dtype=np.int32), places, ends), (len(chunks), len(numbers))
    )
    sizes = np.diff(ends)
    pairs = scipy.sparse.coo_matrix(scipy.sparse.tril(held @ held.T, k=-1))
    either = sizes[pairs.row] + sizes[pairs.col] - pairs.data
    return len(np.unique(pairs.row[pairs.data >= RESEMBLANCE * either]))


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
