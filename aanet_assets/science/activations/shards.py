"""Shards of the activation cache: token ids and sparse codes in one safetensors file each.

Codes are stored token by token: how many latents are active, which ones (in the narrowest integers
that hold them), and their values in float16: 4 bytes per active latent where the SAE has at most
65,535. Special positions hold no codes at all, so they cannot leak into any statistic.

Of every chunk the file says which document it comes from and where in it it begins; of every token
how long the residual stream is there.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float16, Float32, Int, Integer, UInt
from safetensors import safe_open
from safetensors.numpy import save_file

from aanet_assets.storage.files import replacing

ARRAYS = ("tokens", "special", "documents", "starts", "norms", "counts", "latents", "values")


@dataclass(frozen=True)
class Shard:
    """Token ids, special positions and codes; row `chunk * seq + position` of codes is a token."""

    tokens: Int[np.ndarray, "chunks seq"]
    special: Bool[np.ndarray, "chunks seq"]
    documents: Int[np.ndarray, " chunks"]
    """Number of each chunk's document in the corpus."""
    starts: Int[np.ndarray, " chunks"]
    """Place of the chunk's first token in its document, BOS included."""
    norms: Float32[np.ndarray, "chunks seq"]
    """Length of the residual stream."""
    codes: sp.csr_matrix


@dataclass(frozen=True)
class Block:
    """Some chunks of a shard, as they are stored."""

    tokens: Int[np.ndarray, "chunks seq"]
    special: Bool[np.ndarray, "chunks seq"]
    documents: Int[np.ndarray, " chunks"]
    starts: Int[np.ndarray, " chunks"]
    norms: Float32[np.ndarray, "chunks seq"]
    counts: UInt[np.ndarray, " tokens"]
    """Active latents of each token, position by position; 0 at special ones."""
    latents: UInt[np.ndarray, " codes"]
    """Which they are."""
    values: Float16[np.ndarray, " codes"]


def save_block(path: Path, block: Block, n_latents: int) -> None:
    """Write one block, or a whole shard of one block."""
    arrays = {name: np.ascontiguousarray(getattr(block, name)) for name in ARRAYS}
    with replacing(path) as temporary:
        save_file(arrays, temporary, metadata={"n_latents": str(n_latents)})


def join_blocks(blocks: Sequence[Path], path: Path) -> None:
    """Write one file out of those of its blocks, array by array, in memory for one of them.

    Raises:
        IndexError: there are no blocks.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(block, framework="numpy")) for block in blocks]
        # Arrays of the whole shard grow in files of their own, which are then mapped, not read.
        scratch = Path(stack.enter_context(TemporaryDirectory(dir=blocks[0].parent)))
        arrays = {}
        for name in files[0].keys():  # noqa: SIM118 - no dictionary
            shapes = [file.get_slice(name).get_shape() for file in files]
            length = sum(shape[0] for shape in shapes)
            first = files[0].get_tensor(name)
            if length == 0:
                arrays[name] = first
                continue
            whole = np.lib.format.open_memmap(
                scratch / name, mode="w+", dtype=first.dtype, shape=(length, *first.shape[1:])
            )
            end = 0
            for file, shape in zip(files, shapes, strict=True):
                begin, end = end, end + shape[0]
                whole[begin:end] = file.get_tensor(name)
            arrays[name] = whole
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata=files[0].metadata())


def chunks_in(path: Path) -> int:
    """Number of chunks in a block or shard."""
    with safe_open(path, framework="numpy") as file:
        return file.get_slice("tokens").get_shape()[0]


def chunk_tokens(path: Path) -> Int[np.ndarray, "chunks seq"]:
    """Token ids of a block or shard, without its codes."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor("tokens")


def read_chunks(
    path: Path,
) -> tuple[Int[np.ndarray, "chunks seq"], Bool[np.ndarray, "chunks seq"]]:
    """Token ids and special positions of a shard, without its codes."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor("tokens"), file.get_tensor("special")


def read_shard(path: Path) -> Shard:
    """Read one shard; codes in float32."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in ARRAYS}
        n_latents = int(file.metadata()["n_latents"])
    return Shard(
        *(arrays[name] for name in ("tokens", "special", "documents", "starts", "norms")),
        codes=code_matrix(arrays["counts"], arrays["latents"], arrays["values"], n_latents),
    )


def code_matrix(
    counts: Integer[np.ndarray, " tokens"],
    latents: Integer[np.ndarray, " codes"],
    values: Float16[np.ndarray, " codes"],
    n_latents: int,
) -> sp.csr_matrix:
    """Codes as they are stored, as a matrix (tokens, latents) in float32."""
    ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return sp.csr_matrix(
        (values.astype(np.float32), latents.astype(np.int32), ends),
        shape=(len(counts), n_latents),
    )


def counted_codes(paths: Iterable[Path]) -> sp.csr_matrix:
    """Codes of all tokens that count, over several shards in order: (tokens, latents)."""
    parts: Sequence[sp.csr_matrix] = [
        shard.codes[~shard.special.ravel()] for shard in map(read_shard, paths)
    ]
    return sp.vstack(parts, format="csr")


def counted_tokens(paths: Iterable[Path]) -> Int[np.ndarray, " tokens"]:
    """Token ids of the same tokens as `counted_codes`."""
    return np.concatenate([tokens[~special] for tokens, special in map(read_chunks, paths)])


def token_counts(paths: Iterable[Path], vocabulary: int) -> Int[np.ndarray, " vocab"]:
    """How often each token of a vocabulary is one of them, shard by shard."""
    counts = np.zeros(vocabulary, dtype=np.int64)
    for path in paths:
        counts += np.bincount(counted_tokens([path]), minlength=vocabulary)
    return counts
