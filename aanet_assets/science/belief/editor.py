"""The model's predictions at single held-out tokens whose residual stream is replaced."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from aanet_assets.science.activations.groups import GroupedPredictions
from aanet_assets.science.activations.sae_config import parse_hook, read_config
from aanet_assets.science.activations.upper import Unedited, UpperReader
from aanet_assets.science.belief.edits import Edited
from aanet_assets.science.belief.heldout import Heldout, Placed, Simplex
from aanet_assets.study.study import Study

LOGITS_AT_ONCE = 2**26
CHUNKS_AT_ONCE = 16
KEPT = 2**32
"""Bytes of unedited chunks that are kept for the clusters to come; others are read again."""


class Editor:
    """Runs a study's model below and above its hook, at tokens of the held-out text.

    Args:
        study: names the model.
        heldout: the text.
        groups: the group of each token of the vocabulary.

    Raises:
        ValueError: the model cannot be read, or split at the hook.
    """

    def __init__(self, study: Study, heldout: Heldout, groups: Int[np.ndarray, " vocab"]):
        self._reader = UpperReader(
            study, parse_hook(str(read_config(study.sae).metadata.hook_name))
        )
        self._sums = GroupedPredictions(groups, study.device)
        self._heldout, self._device = heldout, study.device
        self._kept: dict[int, Unedited] = {}
        self._room = KEPT

    def residual(self, tokens: Int[np.ndarray, " tokens"]) -> Float[np.ndarray, "tokens d_model"]:
        """Residual stream at some tokens."""
        found = np.empty((len(tokens), self._reader.whole.body.config.hidden_size), np.float32)
        for own, unedited in self._chunks_of(tokens):
            found[own] = unedited.residual[self._heldout.positions[tokens[own]]].cpu().numpy()
        return found

    @torch.inference_mode()
    def predict(
        self,
        tokens: Int[np.ndarray, " tokens"],
        streams: Float[np.ndarray, "tokens edits d_model"],
    ) -> Float[np.ndarray, "tokens edits groups"]:
        """Next-token distributions with each of these vectors in a token's residual stream."""
        edits = torch.from_numpy(streams.astype(np.float32)).to(self._device)
        found = np.empty((*streams.shape[:2], self._sums.number))
        ids = torch.from_numpy(self._heldout.token_ids[tokens].astype(np.int64))
        if not self._reader.has_upper:
            # What stands before a token does not matter: all can be edited at once.
            number = edits.shape[1]
            size = max(1, LOGITS_AT_ONCE // (number * self._reader.whole.vocabulary))
            for some in np.split(np.arange(len(tokens)), range(size, len(tokens), size)):
                same = ids[some].repeat_interleave(number)[:, None]
                logits = self._reader.logits(same, edits[some].flatten(0, 1)[:, None])
                found[some] = self._summed(logits[:, 0].unflatten(0, (len(some), number)))
            return found
        for own, unedited in self._chunks_of(tokens):
            for place in own:
                chunk = self._heldout.chunks[tokens[place]]
                text = self._heldout.text[chunk, : self._heldout.positions[tokens[place]] + 1]
                before = torch.from_numpy(text.astype(np.int64))
                found[place] = self._summed(self._reader.edited(before, unedited, edits[place]))
        return found

    def _summed(self, logits: Float[Tensor, "*batch vocab"]) -> Float[np.ndarray, "*batch groups"]:
        return self._sums(logits).cpu().double().numpy()

    def _chunks_of(
        self, tokens: Int[np.ndarray, " tokens"]
    ) -> Iterator[tuple[Int[np.ndarray, " own"], Unedited]]:
        """Places in `tokens` of those of each of their chunks, and the chunk as it is."""
        chunks, which = np.unique(self._heldout.chunks[tokens], return_inverse=True)
        for first in range(0, len(chunks), CHUNKS_AT_ONCE):
            some = chunks[first : first + CHUNKS_AT_ONCE].tolist()
            new = [chunk for chunk in some if chunk not in self._kept]
            there = self._kept | dict(zip(new, self._read(new), strict=True))
            for place, chunk in enumerate(some, first):
                yield np.flatnonzero(which == place), there[chunk]

    def _read(self, chunks: list[int]) -> list[Unedited]:
        if not chunks:
            return []
        text = torch.from_numpy(self._heldout.text[chunks].astype(np.int64))
        found = self._reader.before_edits(text, self._reader.residual(text))
        size = sum(each.size for each in found)
        if size <= self._room:
            self._room -= size
            self._kept |= zip(chunks, found, strict=True)
        return found

    def without(self, simplex: Simplex, here: Placed) -> Edited:
        """Tokens of a cluster, with the residual stream less what the cluster writes."""
        written = here.rows @ simplex.cluster.basis.T
        return Edited(here.tokens, self.residual(here.tokens) - written)
