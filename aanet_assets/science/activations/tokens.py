"""Texts to token ids, in which text stays text; special tokens; the token before a document."""

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_UNSPELLABLE = "\ufdd0"
"""A code point that is no character and never will be one, so that no text holds it."""


def special_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Ids that never count: the tokens with a role, and every added token marked special."""
    marked = [id for id, token in tokenizer.added_tokens_decoder.items() if token.special]
    return sorted({id for id in (*tokenizer.all_special_ids, *marked) if id is not None})


def control_names(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """How special tokens are spelled, sorted; those that are spelled like any word left out.

    Some models pad with `!`: a text's exclamation marks are nothing but that.
    """
    marked = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    names = {*tokenizer.all_special_tokens, *marked}
    return sorted(name for name in names if len(name) > 1 and not name.isalnum())


def text_encoder(
    tokenizer: "PreTrainedTokenizerBase",
) -> Callable[[Sequence[str]], list[list[int]]]:
    """A function that gives the ids of texts, nothing put before or after them.

    A control token that a text spells is made of the tokens of its letters.

    Raises:
        ValueError: the tokenizer makes a control token of such a text whatever it is told.
    """
    names = control_names(tokenizer)
    encode = _fast(tokenizer, names) if tokenizer.is_fast else _slow(tokenizer, names)
    ids_of_names: Any = tokenizer.convert_tokens_to_ids(names)
    control = {*ids_of_names} - {cast(int | None, tokenizer.unk_token_id)}
    for name, ids in zip(names, encode(names) if names else [], strict=True):
        if control & set(ids):
            raise ValueError(
                f"the tokenizer {tokenizer.name_or_path} makes a control token of the text "
                f"{name!r}, whatever it is told: use one with a tokenizer.json"
            )
    return encode


def _fast(
    tokenizer: "PreTrainedTokenizerBase", names: Sequence[str]
) -> Callable[[Sequence[str]], list[list[int]]]:
    backend = _backend(tokenizer, names)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        found = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    return encode


Place = tuple[int, int] | None
"""A token's first character in its text and one past its last, whole characters even for pieces of
one; None where it is not known."""


def placing_encoder(
    tokenizer: "PreTrainedTokenizerBase",
) -> Callable[[str], tuple[list[int], list[Place]]]:
    """A function that gives the ids of a text as `text_encoder` does, and where each one stands.

    Tokenizers without a tokenizer.json do not tell places.

    Raises:
        ValueError: as `text_encoder`.
    """
    encode = text_encoder(tokenizer)
    if not tokenizer.is_fast:

        def unplaced(text: str) -> tuple[list[int], list[Place]]:
            (ids,) = encode([text])
            return ids, [None] * len(ids)

        return unplaced
    backend = _backend(tokenizer, control_names(tokenizer))

    def placed(text: str) -> tuple[list[int], list[Place]]:
        found = backend.encode(text, add_special_tokens=False)
        return found.ids, list(found.offsets)

    return placed


def opened(ids: list[int], opening: list[int]) -> list[int]:
    """A document's ids behind what opens it, unless they begin with that."""
    return ids if ids[:1] == opening else opening + ids


def _backend(tokenizer: "PreTrainedTokenizerBase", names: Sequence[str]) -> "Tokenizer":
    whole: Tokenizer = getattr(tokenizer, "backend_tokenizer")  # noqa: B009
    return _without_names(whole.to_str(), tuple(names))


@lru_cache(maxsize=1)
def _without_names(backend: str, names: tuple[str, ...]) -> "Tokenizer":
    """A copy in which these tokens keep their ids under names that no text can spell.

    `split_special_tokens` does not do: it keeps added tokens from being looked for, but most
    special tokens stand in the model's own vocabulary, too, where Unigram, WordLevel, WordPiece and
    a BPE whose training text spelled them find them.
    """
    from tokenizers import Tokenizer

    hidden = {name: _UNSPELLABLE + name for name in names}
    state = json.loads(backend)
    state |= {"truncation": None, "padding": None, "post_processor": None}
    for token in state["added_tokens"]:
        if token["content"] in hidden:
            # A normaliser might take the code point away.
            token |= {"content": hidden[token["content"]], "normalized": False}
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {hidden.get(name, name): id for name, id in model["vocab"].items()}
    else:
        model["vocab"] = [[hidden.get(name, name), score] for name, score in model["vocab"]]
    if "unk_token" in model:
        model["unk_token"] = hidden.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        model["merges"] = [
            (left, right)
            for left, right in model["merges"]
            if hidden.keys().isdisjoint((left, right, left + right))
        ]
    copy = Tokenizer.from_str(json.dumps(state))
    copy.encode_special_tokens = True
    return copy


def _slow(
    tokenizer: "PreTrainedTokenizerBase", names: Sequence[str]
) -> Callable[[Sequence[str]], list[list[int]]]:
    # To split special tokens is, with these, to split ordinary added tokens, too: so only where
    # it has to be.
    spelled = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def encode(texts: Sequence[str]) -> list[list[int]]:
        found = []
        for text in texts:
            split: dict[str, Any] = {"split_special_tokens": True} if spelled.search(text) else {}
            ids = tokenizer(text, add_special_tokens=False, verbose=False, **split)["input_ids"]
            found.append(ids)
        return found

    return encode


def opening_ids(tokenizer: "PreTrainedTokenizerBase", setting: str, sae_wants: bool) -> list[int]:
    """What stands before each document: one id or none.

    Args:
        setting: `cache.prepend_bos`.
        sae_wants: what the SAE says, which counts where the setting is `auto`.

    Raises:
        ValueError: it is BOS and there is neither BOS nor end-of-text, or no token of this name.
    """
    if setting == "no" or (setting == "auto" and not sae_wants):
        return []
    if setting not in ("auto", "yes"):
        id = tokenizer.get_vocab().get(setting)
        if id is None:
            raise ValueError(
                f"cache.prepend_bos is {setting!r}, which the tokenizer does not have: set it to "
                f"'auto', 'yes', 'no' or a token, as {_few(tokenizer.all_special_tokens)}"
            )
        return [id]
    # Models that have no BOS were trained on documents with end-of-text between them.
    roles: tuple[Any, ...] = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    if opening := [id for id in roles if id is not None]:
        return opening[:1]
    wanted = "cache.prepend_bos is 'yes'" if setting == "yes" else "the SAE wants BOS"
    raise ValueError(
        f"{wanted} before each document, and the tokenizer has neither BOS nor end-of-text: set "
        f"cache.prepend_bos to 'no' or to a token, as {_few(control_names(tokenizer))}"
    )


def _few(names: Sequence[str]) -> str:
    return (", ".join(map(repr, names[:5])) or "none") + (", ..." if len(names) > 5 else "")
