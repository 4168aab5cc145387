"""From chunks of tokens to sparse codes: the language model up to the SAE's layer, and the SAE."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aanet_assets.science.activations.corpus import Chunk, load_tokenizer, special_positions
from aanet_assets.science.activations.language_model import ResidualReader
from aanet_assets.science.activations.sae import hook_of, load_sae, prepends_bos, reads_centred
from aanet_assets.science.activations.shards import Block
from aanet_assets.science.activations.stand_in import from_hub
from aanet_assets.science.activations.tokens import special_ids
from aanet_assets.study.study import Study, resolve
from aanet_assets.study.threads import torch_threads

if TYPE_CHECKING:
    from sae_lens import SAE

_LARGEST_FLOAT16 = 65504.0


class Encoder:
    """A study's language model, SAE and tokenizer."""

    def __init__(self, study: Study):
        with nullcontext() if study.sae.directory else from_hub(f"the SAE {study.sae.name}"):
            self.sae = load_sae(study.sae, study.device)
        is_local = resolve(study.model).is_dir()
        with nullcontext() if is_local else from_hub(f"the language model {study.model}"):
            self.read = ResidualReader(study, hook_of(self.sae), reads_centred(self.sae))
            self.tokenizer = load_tokenizer(study)
        self.n_latents: int = self.sae.cfg.d_sae
        self.prepends_bos = prepends_bos(self.sae)
        self._threshold = study.cache.activity_threshold

    def special(self, tokens: Int[np.ndarray, "chunks seq"]) -> Bool[np.ndarray, "chunks seq"]:
        """Positions that never count."""
        return special_positions(tokens, special_ids(self.tokenizer))

    def block(self, chunked: list[Chunk], first_document: int) -> Block:
        """The block of some chunks; their documents are counted on from `first_document`.

        Raises:
            ValueError: a code that counts is not finite, or too large for float16.
        """
        return self.pack(chunked, *self.encode(chunked), first_document)

    @torch.inference_mode()
    def encode(
        self, chunked: list[Chunk]
    ) -> tuple[Float[Tensor, "chunks seq d_model"], Float[Tensor, "chunks seq latents"]]:
        """Residual stream, and codes in its units, at all positions of some chunks."""
        with torch_threads(self.read.threads):
            stream = self.read(torch.tensor([chunk.tokens for chunk in chunked]))
            return stream, codes_of(self.sae, stream)

    @torch.inference_mode()
    def pack(
        self,
        chunked: list[Chunk],
        stream: Float[Tensor, "chunks seq d_model"],
        codes: Float[Tensor, "chunks seq latents"],
        first_document: int,
    ) -> Block:
        """The block of some chunks whose residual stream and codes are known; see `block`."""
        tokens = np.array([chunk.tokens for chunk in chunked], dtype=np.int32)
        special = self.special(tokens)
        with torch_threads(self.read.threads):
            counts, latents, values = sparse(codes, torch.from_numpy(special), self._threshold)
        # The narrowest integers that hold them: two bytes for most SAEs.
        narrow = np.min_scalar_type(self.n_latents)
        return Block(
            tokens,
            special,
            np.array([first_document + chunk.document for chunk in chunked], dtype=np.int64),
            np.array([chunk.start for chunk in chunked], dtype=np.int32),
            stream.norm(dim=-1).cpu().numpy(),
            counts.cpu().numpy().astype(narrow),
            latents.cpu().numpy().astype(narrow),
            values.half().cpu().numpy(),
        )


def codes_of(
    sae: "SAE", stream: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch latents"]:
    """Codes whose product with the decoder rows is the reconstruction, but for a part without them.

    They are the SAE's own, unless it normalises each token: then they are scaled back to the
    token's length, as SAELens scales the reconstruction.
    """
    codes = sae.encode(stream).float()
    # SAELens keeps what it divided by until it decodes.
    match sae.cfg.normalize_activations:
        case "layer_norm":
            return codes * cast(Tensor, sae.ln_std)
        case "constant_norm_rescale":
            return codes / cast(Tensor, sae.x_norm_coeff)
        case _:
            return codes


def without_codes(
    sae: "SAE", stream: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """The part of the reconstruction that no code makes: that of zero codes."""
    return sae.decode(0 * sae.encode(stream))


def sparse(
    codes: Float[Tensor, "chunks seq latents"],
    special: Bool[Tensor, "chunks seq"],
    threshold: float,
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " codes"], Float[Tensor, " codes"]]:
    """Codes above the threshold at positions that are not special: counts, latents and values.

    Raises:
        ValueError: a code that counts is not finite, or too large for float16.
    """
    codes = codes.masked_fill(special.to(codes.device)[..., None], 0).flatten(0, 1)
    least, most = codes.aminmax()
    # Written so that a NaN fails, too.
    if not (float(most) <= _LARGEST_FLOAT16 and float(least) >= -_LARGEST_FLOAT16):
        raise ValueError(
            "the SAE gave a code that is not finite or above 65,504: check that the SAE "
            "belongs to this model, layer and dtype"
        )
    active = codes > threshold
    tokens, latents = active.nonzero(as_tuple=True)
    return active.sum(1), latents, codes[tokens, latents]
