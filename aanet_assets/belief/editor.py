"""The model's predictions at single held-out tokens whose residual stream is replaced."""

import numpy as np
import torch
from jaxtyping import Float, Int

from aanet_assets.activations.groups import GroupedPredictions
from aanet_assets.activations.sae_config import parse_hook, read_config
from aanet_assets.activations.upper import UpperReader
from aanet_assets.belief.edits import Edited
from aanet_assets.belief.heldout import Heldout, Placed, Simplex
from aanet_assets.study.study import Study

LOGITS_AT_ONCE = 2**26
CHUNKS_AT_ONCE = 64


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

    def residual(self, tokens: Int[np.ndarray, " tokens"]) -> Float[np.ndarray, "tokens d_model"]:
        """Residual stream at some tokens."""
        chunks, which = np.unique(self._heldout.chunks[tokens], return_inverse=True)
        streams = []
        for start in range(0, len(chunks), CHUNKS_AT_ONCE):
            text = torch.from_numpy(
                self._heldout.text[chunks[start : start + CHUNKS_AT_ONCE]].astype(np.int64)
            )
            streams.append(self._reader.residual(text).cpu())
        return torch.cat(streams)[which, self._heldout.positions[tokens]].numpy()

    def predict(
        self,
        tokens: Int[np.ndarray, " tokens"],
        streams: Float[np.ndarray, "tokens edits d_model"],
    ) -> Float[np.ndarray, "tokens edits groups"]:
        """Next-token distributions with each of these vectors in a token's residual stream."""
        found = np.empty((*streams.shape[:2], self._sums.number))
        positions = self._heldout.positions[tokens]
        if not self._reader.has_upper:
            positions = np.zeros_like(positions)
        for position in np.unique(positions):
            own = np.flatnonzero(positions == position)
            size = max(1, LOGITS_AT_ONCE // (streams.shape[1] * self._reader.whole.vocabulary))
            for start in range(0, len(own), size):
                some = own[start : start + size]
                found[some] = self._at(int(position), tokens[some], streams[some])
        return found

    @torch.inference_mode()
    def _at(
        self,
        position: int,
        tokens: Int[np.ndarray, " tokens"],
        streams: Float[np.ndarray, "tokens edits d_model"],
    ) -> Float[np.ndarray, "tokens edits groups"]:
        text = self._heldout.text[self._heldout.chunks[tokens], : position + 1].astype(np.int64)
        ids = torch.from_numpy(text)
        edits = torch.from_numpy(streams.astype(np.float32)).to(self._device)
        logits = self._reader.edited(ids, self._reader.residual(ids), edits)
        return self._sums(logits).cpu().double().numpy()

    def without(self, simplex: Simplex, here: Placed) -> Edited:
        """Tokens of a cluster, with the residual stream less what the cluster writes."""
        written = here.rows @ simplex.cluster.basis.T
        return Edited(here.tokens, self.residual(here.tokens) - written)
