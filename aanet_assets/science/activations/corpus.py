"""Documents of a corpus, shard by shard, and the chunks of tokens they are cut into.

A document has an address: shard `s` always holds documents `s * documents_per_shard` to
`(s + 1) * documents_per_shard - 1`, whatever was read before it.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Int

from aanet_assets.science.activations.dataset import local_files, saved_dataset, streamed_dataset
from aanet_assets.science.activations.stand_in import persistently
from aanet_assets.science.activations.text_files import KINDS, text_of, texts_in
from aanet_assets.science.activations.tokens import opened, opening_ids, text_encoder
from aanet_assets.storage.inputs import broken_links, files_like
from aanet_assets.study.settings import CacheSettings, CorpusSettings
from aanet_assets.study.study import Study, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_AT_ONCE = 256
"""Documents read, and tokenised, in one go."""


class Chunk(NamedTuple):
    """`seq_len` tokens of one document."""

    document: int
    """Which of the documents that were cut, counted from 0, the dropped ones included."""
    start: int
    """Place of its first token among the document's, BOS included."""
    tokens: list[int]


@dataclass
class Tally:
    """What became of the documents that chunks were cut from, the last of them included."""

    documents: int = 0
    """Documents looked at."""
    empty: int = 0
    """Of them without text."""
    too_long: int = 0
    """Dropped, of `4 * max_doc_tokens` characters or more."""
    too_short: int = 0
    """With fewer tokens than a chunk."""
    tokens_left_over: int = 0
    """Tokens of documents cut, and of those too short, that are in no chunk."""

    def dropped(self, cache: CacheSettings) -> str:
        """In words, which documents gave no tokens, and which setting decides it."""
        limit = 4 * cache.max_doc_tokens
        said = [
            (self.too_long, f"dropped as too long ({limit:,} characters or more; raise "
                            "cache.max_doc_tokens)"),
            (self.too_short, f"shorter than a chunk of {cache.seq_len} tokens (lower "
                             "cache.seq_len)"),
            (self.empty, "empty"),
        ]  # fmt: skip
        return ", ".join(f"{count:,} {what}" for count, what in said if count) or "none"

    def shortage(self, shard: int, found: int, cache: CacheSettings) -> str:
        """What to say of a shard whose documents give `found` chunks, which are too few."""
        ends = self.documents < cache.documents_per_shard
        more = (
            "the corpus ends there, so ask for fewer shards or less of each"
            if ends
            else "raise cache.documents_per_shard"
        )
        return (
            f"for shard {shard}, {self.documents:,} documents give {found * cache.seq_len:,} "
            f"tokens in whole chunks; cache.tokens_per_shard asks for {cache.tokens_per_shard:,}: "
            f"lower it, or {more}. Documents that give nothing: {self.dropped(cache)}; "
            f"{self.tokens_left_over:,} tokens were left over at the ends of others"
        )


def corpus_files(corpus: CorpusSettings) -> list[Path]:
    """Local files of a corpus, sorted; ValueError if there are none, of other kinds, or lost."""
    assert corpus.files is not None
    if lost := broken_links(corpus.files):
        raise ValueError(
            f"corpus files {corpus.files!r} match {lost[0]}, a link to {os.readlink(lost[0])}, "
            "which is not there: put the file back, or remove the link"
        )
    files = files_like(corpus.files)
    if len(kinds := {file.suffix for file in files}) != 1 or not kinds <= set(KINDS):
        raise ValueError(
            f"corpus files {corpus.files!r} match {len(files)} files; they must be one or more, "
            f"all of one kind: {', '.join(KINDS)}"
        )
    return files


def documents(corpus: CorpusSettings, shard: int, per_shard: int) -> Iterator[str]:
    """Texts of the documents of one shard.

    Local files are read one after the other, as if they were one. A dataset's own files are taken
    in turn, in an order drawn from `corpus.seed`: each shard reads a range of one of them, so
    neighbouring shards come from all over the dataset, and none reads another's documents first.
    Of what `save_to_disk` has written the rows are taken in their order.

    Raises:
        ValueError: the corpus has no such text column, something else than text in it, or ends
            before the shard begins.
        ConnectionError: it could not be read for minutes.
    """
    opened = _opener(corpus, shard, per_shard)
    texts: Iterator[str] | None = None
    found, name = 0, corpus.dataset or corpus.files

    def block() -> list[str]:
        nonlocal texts
        try:
            texts = texts or iter(opened(found))
            return list(islice(texts, _AT_ONCE))
        except BaseException:
            # What is left of a broken stream cannot be trusted: the next try opens a new one.
            texts = None
            raise

    while batch := persistently(block, f"reading the corpus {name}"):
        yield from batch
        found += len(batch)
    if not found:
        raise ValueError(
            f"the corpus ends before shard {shard}, which begins at document "
            f"{shard * per_shard:,}: ask for fewer shards or fewer documents per shard"
            if shard
            else f"the corpus {name} has no documents"
        )


def _opener(corpus: CorpusSettings, shard: int, per_shard: int) -> Callable[[int], Iterable[str]]:
    """A function that gives the shard's texts from one of its documents on."""

    def opened(at: int) -> Iterable[str]:
        if corpus.files is not None:
            texts = texts_in(corpus_files(corpus), corpus, shard * per_shard + at)
            return islice(texts, per_shard - at)
        if (saved := saved_dataset(corpus)) is not None:
            first = shard * per_shard
            rows = range(len(saved))[first + at : first + per_shard]
            # Of no rows it can select none.
            return (_text(cast(dict, row), corpus) for row in (saved.select(rows) if rows else ()))
        files = local_files(corpus)
        rows = None if files else streamed_dataset(corpus)
        count = len(files) if rows is None else rows.num_shards
        order = np.random.default_rng(corpus.seed).permutation(count)
        turn, first = int(order[shard % count]), shard // count * per_shard + at
        if rows is None:
            return islice(texts_in([files[turn]], corpus, first), per_shard - at)
        rows = rows.shard(num_shards=count, index=turn).skip(first).take(per_shard - at)
        return (_text(row, corpus) for row in rows)

    return opened


def _text(row: dict, corpus: CorpusSettings) -> str:
    if corpus.text_column not in row:
        raise ValueError(
            f"the corpus {corpus.dataset} has no column {corpus.text_column!r}; it has "
            f"{sorted(row)}: set corpus.text_column"
        )
    return text_of(row[corpus.text_column], corpus.text_column, f"the corpus {corpus.dataset}")


def load_tokenizer(study: Study, local_files_only: bool = False) -> "PreTrainedTokenizerBase":
    """The model's own tokenizer.

    Raises:
        ValueError: the model's folder has none.
    """
    from transformers import AutoTokenizer

    folder = resolve(study.model)
    wanted = (
        f"the model folder {folder} has no tokenizer that transformers reads (tokenizer.json, as a "
        "rule, and tokenizer_config.json): copy the model's own into it"
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            **study.pretrained, local_files_only=local_files_only
        )
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        if not folder.is_dir():
            raise
        raise ValueError(f"{wanted} ({_first_line(error)})") from None
    # Of a folder without its files transformers makes a tokenizer without a vocabulary.
    files = type(tokenizer).vocab_files_names.values()
    names = {"tokenizer.json", "tekken.json", *files}
    if folder.is_dir() and files and not any((folder / name).is_file() for name in names):
        raise ValueError(wanted)
    return tokenizer


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def chunks(
    texts: Iterable[str],
    tokenizer: "PreTrainedTokenizerBase",
    cache: CacheSettings,
    prepend_bos: bool,
    tally: Tally | None = None,
) -> Iterator[Chunk]:
    """Non-overlapping chunks of `seq_len` tokens, each from one document.

    BOS, where asked for, opens the document, once. Control tokens that a text spells are text.
    Documents of `4 * max_doc_tokens` characters or more and remainders shorter than `seq_len` are
    dropped.

    Args:
        texts: the documents.
        tokenizer: the model's.
        cache: says how to cut, and may overrule the SAE on BOS.
        prepend_bos: whether the SAE wants BOS.
        tally: counts what becomes of the documents.

    Raises:
        ValueError: BOS is wanted and there is none.
    """
    bos = opening_ids(tokenizer, cache.prepend_bos, prepend_bos)
    encode = text_encoder(tokenizer)
    tally = Tally() if tally is None else tally
    numbered, limit = enumerate(texts), 4 * cache.max_doc_tokens
    while batch := list(islice(numbered, _AT_ONCE)):
        ids = iter(encode([text for _, text in batch if 0 < len(text) < limit]))
        for place, text in batch:
            tally.documents += 1
            tally.empty += not text
            tally.too_long += len(text) >= limit
            if not 0 < len(text) < limit:
                continue
            own = next(ids)
            tokens = opened(own, bos)
            tally.too_short += len(tokens) < cache.seq_len
            tally.tokens_left_over += len(tokens) % cache.seq_len
            for start in range(0, len(tokens) - cache.seq_len + 1, cache.seq_len):
                yield Chunk(place, start, tokens[start : start + cache.seq_len])


def special_positions(
    tokens: Int[np.ndarray, "chunks seq"], special_ids: Iterable[int]
) -> Bool[np.ndarray, "chunks seq"]:
    """True at position 0 of each chunk and at special tokens: these never count."""
    special = np.isin(tokens, np.fromiter(special_ids, dtype=np.int64))
    special[:, 0] = True
    return special
