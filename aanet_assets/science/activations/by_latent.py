"""Codes latent by latent, shard by shard: a group of latents is read without the others.

The file of a shard holds its codes by column: `ends` says where each latent's begin and end,
`tokens` at which of the shard's counted tokens they are, `values` what they are. `norms` are the
lengths of the residual stream at these tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Int
from safetensors import safe_open
from safetensors.numpy import save_file

from aanet_assets.science.activations.shards import counted_codes
from aanet_assets.science.activations.space import check_space
from aanet_assets.storage.files import replacing

CODE_BYTES = 6
"""Of one code: a token's number in four bytes, as a rule, and a value in two."""


def write_by_latent(shard: Path, path: Path) -> int:
    """Write the codes of one shard latent by latent; returns how many there are.

    Raises:
        OSError: the disk is too full.
    """
    codes = counted_codes([shard])
    path.parent.mkdir(parents=True, exist_ok=True)
    check_space(path, CODE_BYTES * codes.nnz, times=1)
    narrow = np.uint16 if len(codes.indptr) - 1 <= 2**16 else np.int32
    by_latent = codes.tocsc()
    del codes
    arrays = {
        "ends": by_latent.indptr.astype(np.int64),
        "tokens": by_latent.indices.astype(narrow),
        # They were in half precision before.
        "values": by_latent.data.astype(np.float16),
        "norms": counted_norms(shard),
    }
    with replacing(path) as temporary:
        save_file(arrays, temporary)
    return by_latent.nnz


def counted_norms(shard: Path) -> Float32[np.ndarray, " tokens"]:
    """Lengths of the residual stream at the tokens that count."""
    with safe_open(shard, framework="numpy") as file:
        return file.get_tensor("norms")[~file.get_tensor("special")]


@dataclass(frozen=True)
class Members:
    """Activations of some latents: a matrix (tokens, members) per shard, read when its turn comes.

    Going through them again reads them again; one shard's are in memory.
    """

    codes: "CodesByLatent"
    latents: Int[np.ndarray, " members"]

    def __iter__(self) -> Iterator[sp.csr_matrix]:
        for shard in range(len(self.codes.files)):
            yield self.codes.of_shard(shard, self.latents)


class CodesByLatent:
    """Codes of the counted tokens of several shards.

    In memory are the places of each latent's codes: 8 bytes per latent and shard.
    """

    def __init__(self, files: Sequence[Path], max_norm_ratio: float | None = None):
        """Open what `write_by_latent` wrote.

        Args:
            files: of the shards, in order.
            max_norm_ratio: tokens longer than this times the median have no codes for `members`;
                the lengths of all tokens are read for that (4 bytes each).
        """
        self.files = files
        self._ends: list[np.ndarray] = []
        self._sizes: list[int] = []
        for path in files:
            with safe_open(path, framework="numpy") as file:
                self._ends.append(file.get_tensor("ends"))
                self._sizes.append(file.get_slice("norms").get_shape()[0])
        self.norm_limit = None if max_norm_ratio is None else max_norm_ratio * self._median_norm()
        """Length of the residual stream above which a token is left out; None where none is."""

    @property
    def tokens(self) -> int:
        """Number of tokens, all of them."""
        return sum(self._sizes)

    @property
    def activity(self) -> Float[np.ndarray, " latents"]:
        """Share of the tokens, all of them, at which each latent is active."""
        return np.sum([np.diff(ends) for ends in self._ends], axis=0) / self.tokens

    @property
    def average_l0(self) -> float:
        """Mean number of active latents per token, all of them."""
        return sum(int(ends[-1]) for ends in self._ends) / self.tokens

    def members(self, latents: Int[np.ndarray, " members"]) -> Members:
        """Activations of some latents at all tokens, shard by shard."""
        return Members(self, latents)

    def at_all_tokens(self, latents: Int[np.ndarray, " members"]) -> sp.csr_matrix:
        """The same of all shards at once: (tokens, members)."""
        return sp.vstack(list(self.members(latents)), format="csr")

    def of_shard(self, shard: int, latents: Int[np.ndarray, " members"]) -> sp.csr_matrix:
        """Activations of some latents at the tokens of one shard: (tokens, members)."""
        ends = self._ends[shard]
        with safe_open(self.files[shard], framework="numpy") as file:
            tokens, values = file.get_slice("tokens"), file.get_slice("values")
            spans = [(int(ends[i]), int(ends[i + 1])) for i in latents]
            # An empty slice at the very end is an error to safetensors.
            some = [slice(*span) for span in spans if span[0] < span[1]]
            at = np.concatenate([np.zeros(0, np.int32), *(tokens[span] for span in some)])
            value = np.concatenate([np.zeros(0, np.float32), *(values[span] for span in some)])
            long = self._long(file)
        borders = np.cumsum([0, *(stop - start for start, stop in spans)])
        if long is not None:
            value[long[at]] = 0
        by_latent = sp.csc_matrix((value, at, borders), shape=(self._sizes[shard], len(latents)))
        if long is not None:
            by_latent.eliminate_zeros()
        return by_latent.tocsr()

    def _long(self, file: safe_open) -> Bool[np.ndarray, " tokens"] | None:
        return None if self.norm_limit is None else file.get_tensor("norms") > self.norm_limit

    def _median_norm(self) -> float:
        norms = np.empty(self.tokens, dtype=np.float32)
        end = 0
        for path, size in zip(self.files, self._sizes, strict=True):
            begin, end = end, end + size
            with safe_open(path, framework="numpy") as file:
                norms[begin:end] = file.get_tensor("norms")
        return float(np.median(norms, overwrite_input=True))
