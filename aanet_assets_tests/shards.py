"""Dense codes as a shard of the activation cache."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from aanet_assets.science.activations.encode import sparse
from aanet_assets.science.activations.shards import Block, save_block


def block_of(
    tokens: Int[np.ndarray, "chunks seq"],
    special: Bool[np.ndarray, "chunks seq"],
    codes: Float[np.ndarray, "chunks seq latents"],
    threshold: float,
    norms: Float32[np.ndarray, "chunks seq"] | None = None,
) -> Block:
    """The block of these codes; chunks are a document each, and all tokens of length one."""
    dense = torch.from_numpy(codes.astype(np.float32))
    found = sparse(dense, torch.from_numpy(special), threshold)
    counts, latents, values = (part.numpy() for part in found)
    documents = np.arange(len(tokens))
    starts = np.zeros(len(tokens), dtype=np.int32)
    return Block(
        tokens.astype(np.int32),
        special,
        documents,
        starts,
        np.ones(tokens.shape, dtype=np.float32) if norms is None else norms,
        counts.astype(np.uint16),
        latents.astype(np.uint16),
        values.astype(np.float16),
    )


def write_shard(
    path: Path,
    tokens: Int[np.ndarray, "chunks seq"],
    special: Bool[np.ndarray, "chunks seq"],
    codes: Float[np.ndarray, "chunks seq latents"],
    threshold: float,
    norms: Float32[np.ndarray, "chunks seq"] | None = None,
) -> Path:
    """Write them as a shard of one block."""
    save_block(path, block_of(tokens, special, codes, threshold, norms), codes.shape[2])
    return path
