"""Text stays text, whatever kind of tokenizer; special tokens; what opens a document."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from aanet_assets.science.activations.corpus import chunks, load_tokenizer
from aanet_assets.science.activations.tokens import (
    opening_ids,
    placing_encoder,
    special_ids,
    text_encoder,
)
from aanet_assets.steps.checks.activations import special_ids_in
from aanet_assets.study.settings import CacheSettings
from aanet_assets_tests.science.activations.tokenizers import (
    CONTROL,
    KINDS,
    ORDINARY,
    slow_tokenizer,
    small_tokenizer,
)
from aanet_assets_tests.small import small_study

SPELLED = "<s>the cat <|im_start|> sat </s> on the <s>mat<|im_start|>"


@pytest.fixture(scope="module", params=[*KINDS, "slow"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PreTrainedTokenizerBase:
    if request.param == "slow":
        return slow_tokenizer(tmp_path_factory.mktemp("slow"))
    return small_tokenizer(request.param)


def control_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    ids = tokenizer.convert_tokens_to_ids(list(CONTROL))
    assert isinstance(ids, list)
    return set(ids)


def test_control_tokens_in_text_are_text(tokenizer: PreTrainedTokenizerBase) -> None:
    assert control_ids(tokenizer) & set(tokenizer(SPELLED)["input_ids"])
    (ids,) = text_encoder(tokenizer)([SPELLED])
    assert ids
    assert not control_ids(tokenizer) & set(ids)
    assert tokenizer.convert_tokens_to_ids("sat") in ids or "s" in tokenizer.decode(ids)


@pytest.mark.parametrize("text", ["the cat", "  the\n cat 😀 é", SPELLED, ""])
def test_places_are_those_of_the_text(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids, places = placing_encoder(tokenizer)(text)
    assert [ids] == text_encoder(tokenizer)([text])
    assert len(places) == len(ids)
    if not tokenizer.is_fast:
        assert set(places) <= {None}
        return
    for id, place in zip(ids, places, strict=True):
        assert place is not None
        start, end = place
        assert 0 <= start < end <= len(text)
        # Marks of a word's beginning, or of what goes on with one.
        token = str(tokenizer.decode([id])).strip("\ufffd \u2581").removeprefix("##")
        assert id == tokenizer.unk_token_id or token in text[start:end]


@pytest.mark.parametrize(
    "text", ["the cat sat", f"the {ORDINARY} cat", "é ½ \ufdfa zzz", " \n ", ""]
)
def test_ids_of_other_texts_are_as_ever(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert text_encoder(tokenizer)([text]) == [tokenizer(text, add_special_tokens=False).input_ids]


def test_ordinary_added_tokens_stay_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    table = tokenizer.convert_tokens_to_ids(ORDINARY)
    assert table in text_encoder(tokenizer)([f"the {ORDINARY} cat"])[0]
    assert table not in special_ids(tokenizer)


def test_texts_of_a_byte_level_bpe_come_back() -> None:
    tokenizer = small_tokenizer("byte_level")
    (ids,) = text_encoder(tokenizer)([SPELLED])
    assert tokenizer.decode(ids, skip_special_tokens=True) == SPELLED
    split = tokenizer(SPELLED, add_special_tokens=False, split_special_tokens=True)
    assert ids == split["input_ids"]


def test_the_shipped_toy() -> None:
    tokenizer = load_tokenizer(small_study())
    unknown = tokenizer.unk_token_id
    words = ["a1", "g4", "<bos>", "c2", "<pad>", "<unk>", "what"]
    expected = [0, 22, unknown, 7, unknown, unknown, unknown]
    assert text_encoder(tokenizer)([" ".join(words)]) == [expected]


def test_padding_with_an_ordinary_word_leaves_it_a_word() -> None:
    for pad in ("!", "cat"):
        tokenizer = small_tokenizer("byte_level", pad_token=pad, bos_token="<s>")
        (found,) = text_encoder(tokenizer)([pad])
        plain = small_tokenizer("byte_level")
        assert found == plain(pad, add_special_tokens=False)["input_ids"]
        assert tokenizer.pad_token_id in special_ids(tokenizer)


def test_every_token_marked_special_is_special(tokenizer: PreTrainedTokenizerBase) -> None:
    assert control_ids(tokenizer) <= set(special_ids(tokenizer))
    assert set(tokenizer.all_special_ids) <= set(special_ids(tokenizer))


def test_the_check_finds_the_same_in_the_files(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    assert special_ids_in(tmp_path) == special_ids(tokenizer)


def test_a_config_that_overrules_the_tokenizers_file(tmp_path: Path) -> None:
    plainly = small_tokenizer("byte_level")
    plainly.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    config["added_tokens_decoder"] = {
        "2": {"content": "<|im_start|>", "special": False, **plain},
        str(len(plainly)): {"content": "<|late|>", "special": True, **plain},
    }
    path.write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert special_ids(tokenizer) == special_ids_in(tmp_path) == [0, 1, len(plainly)]


def test_text_that_spells_bos_gets_one(tokenizer: PreTrainedTokenizerBase) -> None:
    (chunk, *_) = chunks([SPELLED], tokenizer, CacheSettings(seq_len=4), True)
    special = np.isin(chunk.tokens, sorted(control_ids(tokenizer)))
    assert special.tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("setting", "sae_wants", "opening"),
    [
        ("auto", True, ["<s>"]),
        ("auto", False, []),
        ("yes", False, ["<s>"]),
        ("no", True, []),
        ("<|im_start|>", False, ["<|im_start|>"]),
    ],
)
def test_who_says_what_opens_a_document(setting: str, sae_wants: bool, opening: list[str]) -> None:
    tokenizer = small_tokenizer("word_level")
    settings = CacheSettings(seq_len=3, prepend_bos=setting)
    (chunk,) = chunks(["the cat sat"], tokenizer, settings, sae_wants)
    assert tokenizer.convert_ids_to_tokens(chunk.tokens) == [*opening, "the", "cat", "sat"][:3]


def test_end_of_text_stands_in_for_bos() -> None:
    tokenizer = small_tokenizer("word_level", eos_token="</s>")
    assert opening_ids(tokenizer, "auto", True) == [tokenizer.eos_token_id]
    assert opening_ids(tokenizer, "yes", False) == [tokenizer.eos_token_id]


def test_no_token_to_open_with() -> None:
    tokenizer = small_tokenizer("word_level", pad_token="<|im_start|>")
    with pytest.raises(ValueError, match=r"the SAE wants BOS .* neither BOS nor end-of-text: set"):
        opening_ids(tokenizer, "auto", True)
    assert opening_ids(tokenizer, "auto", False) == opening_ids(tokenizer, "no", True) == []
    with pytest.raises(ValueError, match=r"prepend_bos is 'the cat', which the tokenizer does not"):
        opening_ids(tokenizer, "the cat", True)
