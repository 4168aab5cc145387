"""Shards of the activation cache: token ids and sparse codes in one safetensors file each.

Codes are stored token by token: how many latents are active, which ones, and their values in
float16 (about 4 bytes per active latent). Special positions hold no codes at all, so they cannot
leak into any statistic.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Int
from safetensors import safe_open
from safetensors.numpy import save_file

from aanet_assets.files import replacing

_LARGEST_FLOAT16 = 65504.0


@dataclass(frozen=True)
class Shard:
    """Token ids, special positions and codes; row `chunk * seq + position` of codes is a token."""

    tokens: Int[np.ndarray, "chunks seq"]
    special: Bool[np.ndarray, "chunks seq"]
    codes: sp.csr_matrix


class ShardWriter:
    """Gathers batches of codes and writes them as one shard."""

    def __init__(self, n_latents: int, activity_threshold: float):
        self.n_latents, self.activity_threshold = n_latents, activity_threshold
        self._tokens: list[np.ndarray] = []
        self._special: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._latents: list[np.ndarray] = []
        self._values: list[np.ndarray] = []

    def add(
        self,
        tokens: Int[np.ndarray, "chunks seq"],
        special: Bool[np.ndarray, "chunks seq"],
        codes: Float32[np.ndarray, "chunks seq latents"],
    ) -> None:
        """Add a batch; codes at special positions are dropped.

        Raises:
            ValueError: a code that counts is not finite, or too large for float16.
        """
        codes = np.where(special[..., None], np.float32(0), codes).reshape(-1, self.n_latents)
        if not np.isfinite(codes).all() or codes.max(initial=0) > _LARGEST_FLOAT16:
            raise ValueError(
                "the SAE gave a code that is not finite or above 65,504: check that the SAE "
                "belongs to this model, layer and dtype"
            )
        rows, latents = np.nonzero(codes > self.activity_threshold)
        self._tokens.append(tokens.astype(np.int32))
        self._special.append(special)
        self._counts.append(np.bincount(rows, minlength=len(codes)).astype(np.int32))
        self._latents.append(latents.astype(np.int32))
        self._values.append(codes[rows, latents].astype(np.float16))

    def write(self, path: Path) -> None:
        """Write the shard; ValueError if no document was long enough for one chunk."""
        if not self._tokens:
            raise ValueError(
                "no document of this shard is long enough for one chunk: lower cache.seq_len or "
                "raise cache.documents_per_shard"
            )
        arrays = {
            "tokens": np.concatenate(self._tokens),
            "special": np.concatenate(self._special),
            "counts": np.concatenate(self._counts),
            "latents": np.concatenate(self._latents),
            "values": np.concatenate(self._values),
        }
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata={"n_latents": str(self.n_latents)})


def read_shard(path: Path) -> Shard:
    """Read one shard; codes in float32."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        n_latents = int(file.metadata()["n_latents"])
    ends = np.concatenate([[0], np.cumsum(arrays["counts"], dtype=np.int64)])
    codes = sp.csr_matrix(
        (arrays["values"].astype(np.float32), arrays["latents"], ends),
        shape=(len(arrays["counts"]), n_latents),
    )
    return Shard(arrays["tokens"], arrays["special"], codes)


def counted_codes(paths: Iterable[Path]) -> sp.csr_matrix:
    """Codes of all tokens that count, over several shards in order: (tokens, latents)."""
    parts: Sequence[sp.csr_matrix] = [
        shard.codes[~shard.special.ravel()] for shard in map(read_shard, paths)
    ]
    return sp.vstack(parts, format="csr")


def counted_tokens(paths: Iterable[Path]) -> Int[np.ndarray, "tokens"]:
    """Token ids of the same tokens as `counted_codes`."""
    shards = map(read_shard, paths)
    return np.concatenate([shard.tokens[~shard.special] for shard in shards])
