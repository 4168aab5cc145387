"""A study's model, kept loaded: texts to the residual stream, and edits of it to predictions."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from aanet_assets.science.activations.corpus import load_tokenizer, special_positions
from aanet_assets.science.activations.language_model import ResidualReader
from aanet_assets.science.activations.sae_config import parse_hook
from aanet_assets.science.activations.stand_in import from_hub
from aanet_assets.science.activations.tokens import (
    Place,
    opened,
    opening_ids,
    placing_encoder,
    special_ids,
)
from aanet_assets.science.activations.upper import Unedited, UpperReader
from aanet_assets.study.study import Study, resolve


def on_this_machine(study: Study) -> Study:
    """The study, on the CPU where it has been run on a GPU that is not here."""
    if study.device == "cuda" and not torch.cuda.is_available():
        return study.model_copy(update={"device": "cpu"})
    return study


class Chunk(NamedTuple):
    """Some tokens of a text, which the model reads at once."""

    text: int
    """Number of the text."""
    start: int
    """Place of the first token among the text's, BOS included."""
    ids: Int[np.ndarray, " seq"]
    places: list[Place]
    """Where each token stands in the text."""
    special: Bool[np.ndarray, " seq"]
    """Tokens that never count."""


class Reading(NamedTuple):
    """The chunks of a text, and what the model makes of each."""

    chunks: list[Chunk]
    residuals: list[Float32[np.ndarray, "seq d_model"]]
    """The model's own residual stream at the hook, never centred."""


class Reader:
    """A language model up to a hook and, once something is edited, above it.

    Texts are tokenised and cut as the study's activation cache is: what opens a document opens a
    text, chunks have `cache.seq_len` tokens, and neither special tokens nor the first token of a
    chunk count. Other than there, what is left at the end of a text is a chunk, too.

    Args:
        study: names the model.
        hook: the point of the residual stream, as SAELens names it.
        centred: whether the SAE reads a stream whose vectors have mean zero.
        wants_bos: whether the SAE was trained on sequences that begin with BOS.

    Raises:
        ValueError: the model or its tokenizer cannot be read.
        ConnectionError: they could not be had from a hub.
    """

    def __init__(self, study: Study, hook: str, *, centred: bool, wants_bos: bool):
        self._study, self._hook = study, parse_hook(hook)
        is_local = resolve(study.model).is_dir()
        with nullcontext() if is_local else from_hub(f"the language model {study.model}"):
            self._read = ResidualReader(study, self._hook)
            self.tokenizer = load_tokenizer(study)
        self._encode = placing_encoder(self.tokenizer)
        self._opening = opening_ids(self.tokenizer, study.cache.prepend_bos, wants_bos)
        self._special = special_ids(self.tokenizer)
        self._centred = centred
        self._last: tuple[str, Reading] | None = None
        self._edited: tuple[np.ndarray, np.ndarray, Unedited] | None = None

    def chunks(self, texts: Sequence[str]) -> list[Chunk]:
        """The chunks of some texts, in order.

        Raises:
            ValueError: a text has no token, or there is no text.
        """
        if not texts:
            raise ValueError("no text is given: give one or more")
        found = []
        for number, text in enumerate(texts):
            own, places = self._encode(text)
            if not own:
                which = f"text {number}" if len(texts) > 1 else "the text"
                raise ValueError(f"{which} has no token ({text!r}): give it some words")
            ids = opened(own, self._opening)
            whole = [*[None] * (len(ids) - len(own)), *places]
            size = self._study.cache.seq_len
            for start in range(0, len(ids), size):
                part = np.array(ids[start : start + size], dtype=np.int64)
                special = special_positions(part[None], self._special)[0]
                found.append(Chunk(number, start, part, whole[start : start + size], special))
        return found

    def read(self, texts: str | Sequence[str]) -> Reading:
        """Some texts, run up to the hook.

        The last single text is kept: whoever edits it asks for it again with each edit.

        Raises:
            ValueError: a text has no token, or there is no text.
        """
        if not isinstance(texts, str):
            chunks = self.chunks(texts)
            return Reading(chunks, self._residuals(chunks))
        if self._last is None or self._last[0] != texts:
            chunks = self.chunks([texts])
            self._last = texts, Reading(chunks, self._residuals(chunks))
        return self._last[1]

    def as_sae_reads(
        self, residual: Float32[np.ndarray, "seq d_model"]
    ) -> Float32[np.ndarray, "seq d_model"]:
        """The residual stream as the SAE reads it: some read one whose vectors have mean zero."""
        if not self._centred:
            return residual
        stream = torch.from_numpy(residual)
        return (stream - stream.mean(-1, keepdim=True)).numpy()

    def _residuals(self, chunks: Sequence[Chunk]) -> list[Float32[np.ndarray, "seq d_model"]]:
        # Chunks of one length are read at once; without padding, none changes another's numbers.
        by_length: dict[int, list[int]] = {}
        for place, chunk in enumerate(chunks):
            by_length.setdefault(len(chunk.ids), []).append(place)
        found: dict[int, np.ndarray] = {}
        size = self._study.cache.batch_chunks
        for places in by_length.values():
            for first in range(0, len(places), size):
                some = places[first : first + size]
                ids = torch.from_numpy(np.stack([chunks[place].ids for place in some]))
                found |= zip(some, self._read(ids).cpu().numpy(), strict=True)
        return [found[place] for place in range(len(chunks))]

    @cached_property
    def upper(self) -> UpperReader:
        """The layers above the hook; they are loaded when something is edited first."""
        return UpperReader(self._study, self._hook)

    @torch.inference_mode()
    def predict(
        self,
        ids: Int[np.ndarray, " seq"],
        residual: Float32[np.ndarray, "seq d_model"],
        steps: Float[np.ndarray, "edits d_model"],
    ) -> Float32[np.ndarray, "edits vocab"]:
        """Next-token distributions after the last token, with each of these added to its stream.

        What edits need of the tokens before it is kept for the next edit there, as of a point that
        is dragged.

        Args:
            ids: tokens of a chunk, up to the one that is edited.
            residual: the model's own stream of each; the layers below are not run again.
            steps: what is added at the last one.
        """
        tokens, stream = torch.from_numpy(ids), torch.from_numpy(residual).to(self._study.device)
        edits = stream[-1] + torch.from_numpy(steps.astype(np.float32)).to(stream)
        unedited = self._before_edits(ids, residual)
        return self.upper.edited(tokens, unedited, edits).softmax(-1).cpu().numpy()

    def _before_edits(
        self, ids: Int[np.ndarray, " seq"], residual: Float32[np.ndarray, "seq d_model"]
    ) -> Unedited:
        if self._edited is not None:
            kept_ids, kept_residual, unedited = self._edited
            if np.array_equal(ids, kept_ids) and np.array_equal(residual, kept_residual):
                return unedited
        tokens, stream = torch.from_numpy(ids), torch.from_numpy(residual).to(self._study.device)
        (unedited,) = self.upper.before_edits(tokens[None], stream[None])
        self._edited = ids, residual, unedited
        return unedited

    def token(self, id: int) -> str:
        """A token, decoded alone as in vertex samples; bytes that are no character are U+FFFD."""
        return str(self.tokenizer.decode([id], skip_special_tokens=True))

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every token that is predicted, decoded alone; special ones by their names."""
        named = {id: str(self.tokenizer.convert_ids_to_tokens(id)) for id in self._special}
        return [named.get(id) or self.token(id) for id in range(self.upper.whole.vocabulary)]
