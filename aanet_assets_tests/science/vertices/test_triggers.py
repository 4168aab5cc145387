"""Places of tokens in decoded text, against the tokens' own bytes, for several decoders."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from aanet_assets.science.vertices.triggers import DecodedChunk, Trigger

TEXTS = (
    "the cat\n\nthe dog",
    "the\u2003\u3000 cat sat",
    "日本語の文章には空白がない。 the",
    "the cat 😀 sat on  it",
    "the 😀😀é dog\t\tsat ",
    "the 字\ufffd字 cat",
)


class Kind(NamedTuple):
    """A tokenizer, and the bytes that its tokens stand for."""

    tokenizer: PreTrainedTokenizerFast
    bytes_of: Callable[[str], bytes]
    opens_with_space: bool = False
    """Whether decoding drops a first space."""


_BYTES = {char: byte for byte, char in enumerate(
    chr(byte) if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255
    else chr(256 + sum(not (33 <= b <= 126 or 161 <= b <= 172 or b >= 174) for b in range(byte)))
    for byte in range(256)
)}  # fmt: skip
_WORDS = ("the", " cat", " dog", " sat")


def byte_level(**settings) -> Kind:
    """As GPT-2's: every byte has a token."""
    vocabulary, merges = list(_BYTES), []
    for word in _WORDS:
        word = word.replace(" ", "Ġ")
        for i in range(2, len(word) + 1):
            if word[:i] not in vocabulary:
                vocabulary.append(word[:i])
                merges.append((word[: i - 1], word[i - 1]))
    model = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, merges))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, **settings)
    return Kind(tokenizer, lambda token: bytes(_BYTES[char] for char in token))


def sentence_pieces() -> Kind:
    """As Llama's: spaces are part of the words, what is unknown falls back to bytes."""
    vocabulary = [f"<0x{byte:02X}>" for byte in range(256)] + ["▁"]
    vocabulary += sorted({char for word in _WORDS for char in word.strip()})
    merges = []
    for word in ("▁the", *_WORDS):
        word = word.replace(" ", "▁")
        for i in range(2, len(word) + 1):
            if word[:i] not in vocabulary:
                vocabulary.append(word[:i])
                merges.append((word[: i - 1], word[i - 1]))
    model = Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(vocabulary)}, merges,
            byte_fallback=True, fuse_unk=True, unk_token="<0x00>",
        )
    )  # fmt: skip
    model.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    model.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip

    def bytes_of(token: str) -> bytes:
        if token.startswith("<0x"):
            return bytes([int(token[3:5], 16)])
        return token.replace("▁", " ").encode()

    return Kind(PreTrainedTokenizerFast(tokenizer_object=model), bytes_of, True)


KINDS = {"byte_level": byte_level, "sentence_pieces": sentence_pieces}


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> np.ndarray:
    return np.array(tokenizer(text, add_special_tokens=False)["input_ids"])


def decoded(tokenizer, ids: np.ndarray) -> tuple[str, list[Trigger]]:
    """A chunk's text, and all of its tokens in it."""
    chunk = DecodedChunk(tokenizer, ids)
    return chunk.text, [chunk.trigger(position) for position in range(len(ids))]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_places_are_those_of_the_tokens_own_bytes(kind: str, text: str) -> None:
    tokenizer, bytes_of, opens_with_space = KINDS[kind]()
    ids = ids_of(tokenizer, text)
    found, triggers = decoded(tokenizer, ids)
    assert found == text
    parts = [bytes_of(token) for token in tokenizer.convert_ids_to_tokens(ids.tolist())]
    whole = b"".join(parts).decode()
    dropped = int(opens_with_space)
    assert whole[dropped:] == text
    characters = [i for i, char in enumerate(whole) for _ in char.encode()]
    at = 0
    for part, trigger in zip(parts, triggers, strict=True):
        first, last = characters[at] - dropped, characters[at + len(part) - 1] - dropped
        at += len(part)
        start, end = trigger.start, trigger.end
        if last < 0:
            assert (start, end) == (None, None), "the space that decoding drops"
            continue
        assert start is not None
        assert end == last + 1
        # What of a token the tokenizer does not show when it stands alone is its leading space.
        assert start == max(first, 0) or (text[first] == " " and start == first + 1)
        assert text[start:end] == (trigger.token or " ") or "\ufffd" in trigger.token


def test_white_space_stands_in_no_word_and_chinese_tokens_are_characters() -> None:
    tokenizer = byte_level().tokenizer

    def shown(text: str) -> list[tuple[str, str | None]]:
        _, triggers = decoded(tokenizer, ids_of(tokenizer, text))
        return [(trigger.token, trigger.text_word) for trigger in triggers]

    assert shown("the cat\n\nthe") == [
        ("the", "the"), (" cat", "cat"), ("\n", ""), ("\n", ""), ("the", "the"),
    ]  # fmt: skip
    piece = ("\ufffd", "")
    assert shown("the\u3000 cat") == [("the", "the"), piece, piece, piece, (" cat", "cat")]
    assert shown("字の the") == 6 * [("\ufffd", "字の")] + [(" ", ""), ("the", "the")]


def test_indices_count_words_up_to_the_token() -> None:
    tokenizer = byte_level().tokenizer
    ids = ids_of(tokenizer, "\n the cat\nthe")
    beginnings = (str(tokenizer.decode(ids[: i + 1].tolist())) for i in range(len(ids)))
    assert [trigger.word_index for trigger in decoded(tokenizer, ids)[1]] == [
        max(len(beginning.split()) - 1, 0) for beginning in beginnings
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_a_character_count_the_words_up_to_the_whole_of_it(kind: str, text: str) -> None:
    tokenizer = KINDS[kind]().tokenizer
    _, triggers = decoded(tokenizer, ids_of(tokenizer, text))
    placed = [trigger for trigger in triggers if trigger.end is not None]
    indices = [trigger.word_index for trigger in placed]
    assert indices == [max(len(text[: trigger.end].split()) - 1, 0) for trigger in placed]
    assert indices == sorted(indices)


def test_a_chunk_that_begins_and_ends_within_a_character() -> None:
    tokenizer = byte_level().tokenizer
    text, triggers = decoded(tokenizer, ids_of(tokenizer, "😀 the 😀")[2:-1])
    # Two bytes that go on with nothing are one U+FFFD each; three that nothing ends are one.
    assert text == "\ufffd\ufffd the \ufffd"
    places = [(trigger.start, trigger.end) for trigger in triggers]
    assert places[:2] == [(0, 1), (1, 2)]
    assert places[-3:] == 3 * [(7, 8)]


def test_bytes_that_undo_a_whole_character_before_them_are_not_placed_wrongly() -> None:
    tokenizer = sentence_pieces().tokenizer
    text, triggers = decoded(tokenizer, ids_of(tokenizer, "the 字字")[:-1])
    assert text == "the \ufffd\ufffd\ufffd\ufffd\ufffd"
    for trigger in triggers[-5:]:
        assert trigger.token == "\ufffd"
        assert trigger.start is None or text[trigger.start : trigger.end].strip("\ufffd") == ""


class Tidying:
    """Decodes as tokenizers do that tidy up: no space before punctuation and contractions."""

    tokens = ("hello", " ,", " do", " n't", " you", " ?", "##ing")

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        text = "".join(self.tokens[i] for i in ids)
        for untidy in (" ,", " n't", " ?"):
            text = text.replace(untidy, untidy[1:])
        return text.replace("##", "") if len(ids) > 1 else text


def test_tidied_text_shows_its_tokens_or_has_no_places_for_them() -> None:
    chunk = DecodedChunk(Tidying(), np.array([0, 1, 2, 3, 4, 6, 5]))  # type: ignore[arg-type]
    assert chunk.text == "hello, don't youing?"
    shown = [
        None if trigger.start is None else chunk.text[trigger.start : trigger.end]
        for trigger in map(chunk.trigger, range(7))
    ]
    # What tidying leaves of a token alone is not in the text: there is no place to give.
    assert shown == ["hello", ",", " do", "n't", " you", None, "?"]


def test_special_tokens_have_no_place() -> None:
    tokenizer = byte_level(bos_token="<s>").tokenizer
    text, (bos, the) = decoded(
        tokenizer, np.array([tokenizer.bos_token_id, *ids_of(tokenizer, "the")])
    )
    assert text == "the"
    assert bos == Trigger("", 0, None, None, None)
    assert the == Trigger("the", 0, "the", 0, 3)
