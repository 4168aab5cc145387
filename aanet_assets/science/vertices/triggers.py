"""Where the tokens of a chunk stand in its decoded text.

A tokenizer decodes whole sequences. Alone, a token may lose its leading space or be half of a
character, and beside others it may be tidied up. So places are told from the texts of the chunk's
beginnings, and a place that does not show the token is not given at all.
"""

import re
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PIECE = "\ufffd"
"""What bytes are decoded to that are not a whole character."""


class Trigger(NamedTuple):
    """One token of a chunk, as it stands in the chunk's text."""

    token: str
    """The token, decoded alone; bytes that are not a whole character are U+FFFD."""
    word_index: int
    """Words, split at white space, in the text up to and including the token, minus 1; at
    least 0."""
    text_word: str | None
    """The word in which the token stands, the last one where it touches several; empty where it
    stands in white space, None where its place is not known."""
    start: int | None
    """Its first character in the text, of the whole character if it is a piece of one; None where
    it is not known."""
    end: int | None
    """One past its last character."""


class DecodedChunk:
    """The text of a chunk, special tokens left out, and the places of its tokens in it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", ids: Int[np.ndarray, " seq"]):
        self._tokenizer, self._ids = tokenizer, ids.tolist()
        # The triggers of a chunk often stand side by side and need the same beginnings.
        self._beginning = cache(lambda tokens: self._decode(self._ids[:tokens]))
        self.text = self._beginning(len(self._ids))

    def trigger(self, position: int) -> Trigger:
        """The token at a position of the chunk."""
        token = self._decode(self._ids[position : position + 1])
        place = self._place(position, token)
        # The beginning ends with U+FFFD within a character, which may be white space as a whole.
        up_to = self._beginning(position + 1) if place is None else self.text[: place[1]]
        index = max(len(up_to.split()) - 1, 0)
        if place is None:
            return Trigger(token, index, None, None, None)
        start, end = place
        touched = [
            word[0]
            for word in re.finditer(r"\S+", self.text)
            if word.start() < end and word.end() > start
        ]
        return Trigger(token, index, touched[-1] if touched else "", start, end)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _reached(self, tokens: int) -> int:
        """Characters of the text that the first tokens are sure to make up."""
        furthest = 0
        for count in range(tokens, 0, -1):
            beginning = self._beginning(count)
            if self.text.startswith(beginning):
                return max(furthest, len(beginning))
            # It ends within a character, or is tidied up only with what follows. An earlier one
            # may still reach further: pieces of characters can undo whole ones before them.
            pairs = zip(beginning, self.text, strict=False)
            furthest = max(
                furthest, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            )
        return furthest

    def _place(self, position: int, token: str) -> tuple[int, int] | None:
        start, end = self._reached(position), self._reached(position + 1)
        after = self._beginning(position + 1)
        if after.endswith(_PIECE) and not self.text.startswith(after):
            end = min(end + 1, len(self.text))  # the character that it begins or goes on with
        elif start == end and _PIECE in token and self.text[:end].endswith(_PIECE):
            start -= 1  # of several pieces that are one U+FFFD together, this is not the first
        added = self.text[start:end]
        if not added:
            return None
        if token and added.endswith(token):
            return end - len(token), end
        bare = token.strip().strip(_PIECE).strip()
        if _PIECE in token:
            return (start, end) if bare in added else None
        if bare:
            at = start + added.find(bare)
            return (at, at + len(bare)) if added.count(bare) == 1 else None
        return (start, end) if added.isspace() else None
