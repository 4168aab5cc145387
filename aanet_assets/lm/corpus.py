"""Documents of a corpus, shard by shard, and the chunks of tokens they are cut into.

A document has an address: shard `s` always holds documents `s * documents_per_shard` to
`(s + 1) * documents_per_shard - 1`, whatever was read before it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Bool, Int

from aanet_assets.inputs import files_like
from aanet_assets.lm.network import persistently
from aanet_assets.settings import CacheSettings, CorpusSettings
from aanet_assets.study import Study, resolve

if TYPE_CHECKING:
    from datasets import IterableDataset
    from transformers import PreTrainedTokenizerBase

_BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".txt": "text"}
_AT_ONCE = 256
"""Documents read, and tokenised, in one go."""


class Chunk(NamedTuple):
    """`seq_len` tokens of one document."""

    document: int
    """Which of the documents that were cut, counted from 0, the dropped ones included."""
    start: int
    """Place of its first token among the document's, BOS included."""
    tokens: list[int]


def corpus_files(corpus: CorpusSettings) -> list[Path]:
    """Local files of a corpus, sorted; ValueError if there are none or of different kinds."""
    assert corpus.files is not None
    files = files_like(corpus.files)
    if len(kinds := {file.suffix for file in files}) != 1 or not kinds <= set(_BUILDERS):
        raise ValueError(
            f"corpus files {corpus.files!r} match {len(files)} files; they must be one or more, "
            f"all of one kind: {', '.join(_BUILDERS)}"
        )
    return files


def documents(corpus: CorpusSettings, shard: int, per_shard: int) -> Iterator[str]:
    """Texts of the documents of one shard.

    Local files are read one after the other, as if they were one. A dataset's own files are taken
    in turn, in an order drawn from `corpus.seed`: each shard reads a range of one of them, so
    neighbouring shards come from all over the dataset, and none reads another's documents first.

    Raises:
        ValueError: the corpus has no such text column, something else than text in it, or ends
            before the shard begins.
        ConnectionError: it could not be read for minutes.
    """
    opened = _opener(corpus, shard, per_shard)
    rows: Iterator[dict[str, Any]] | None = None
    found, name = 0, corpus.dataset or corpus.files

    def block() -> list[dict[str, Any]]:
        nonlocal rows
        try:
            rows = rows or iter(opened(found))
            return list(islice(rows, _AT_ONCE))
        except BaseException:
            # What is left of a broken stream cannot be trusted: the next try opens a new one.
            rows = None
            raise

    while batch := persistently(block, f"reading the corpus {name}"):
        for row in batch:
            yield _text(row, corpus.text_column)
        found += len(batch)
    if not found:
        raise ValueError(
            f"the corpus ends before shard {shard}, which begins at document "
            f"{shard * per_shard:,}: ask for fewer shards or fewer documents per shard"
            if shard
            else f"the corpus {name} has no documents"
        )


def _opener(
    corpus: CorpusSettings, shard: int, per_shard: int
) -> Callable[[int], "IterableDataset"]:
    """A function that opens the shard at one of its documents."""
    from datasets import load_dataset

    def opened(at: int) -> "IterableDataset":
        if corpus.files is not None:
            files = [file for file in corpus_files(corpus) if not _is_empty(file)]
            if not files:
                raise ValueError(f"the corpus {corpus.files} has no documents")
            rows = load_dataset(
                _BUILDERS[files[0].suffix],
                data_files=list(map(str, files)),
                split="train",
                streaming=True,
            )
            first = shard * per_shard
        else:
            assert corpus.dataset is not None
            folder = resolve(corpus.dataset)
            rows = load_dataset(
                str(folder) if folder.is_dir() else corpus.dataset,
                corpus.config,
                split=corpus.split,
                revision=corpus.revision,
                streaming=True,
            )
            count = rows.num_shards
            order = np.random.default_rng(corpus.seed).permutation(count)
            rows = rows.shard(num_shards=count, index=int(order[shard % count]))
            first = shard // count * per_shard
        return rows.skip(first + at).take(per_shard - at)

    return opened


def _is_empty(file: Path) -> bool:
    """Whether it has nothing in it, which datasets cannot read."""
    if file.suffix == ".parquet":
        return pq.read_metadata(file).num_rows == 0
    return file.stat().st_size == 0


def _text(row: dict[str, Any], column: str) -> str:
    if column not in row:
        raise ValueError(
            f"the corpus has no column {column!r}; it has {sorted(row)}: set corpus.text_column"
        )
    text = row[column]
    if not isinstance(text, str | None):
        raise ValueError(
            f"the corpus's column {column!r} holds {type(text).__name__}, as in {text!r:.60}; it "
            "must hold text: set corpus.text_column"
        )
    return text or ""


def load_tokenizer(study: Study) -> "PreTrainedTokenizerBase":
    """The model's own tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(**study.pretrained)


def chunks(
    texts: Iterable[str],
    tokenizer: "PreTrainedTokenizerBase",
    cache: CacheSettings,
    prepend_bos: bool,
) -> Iterator[Chunk]:
    """Non-overlapping chunks of `seq_len` tokens, each from one document.

    BOS, where asked for, opens the document. Documents of `4 * max_doc_tokens` characters or more
    and remainders shorter than `seq_len` are dropped.
    """
    bos = []
    if prepend_bos:
        if tokenizer.bos_token_id is None:
            raise ValueError("the SAE wants BOS before each document; the tokenizer has none")
        bos = [tokenizer.bos_token_id]
    short = (
        (place, text)
        for place, text in enumerate(texts)
        if 0 < len(text) < 4 * cache.max_doc_tokens
    )
    while batch := list(islice(short, _AT_ONCE)):
        places, batch_texts = zip(*batch, strict=True)
        ids = tokenizer(list(batch_texts), add_special_tokens=False, verbose=False)["input_ids"]
        for place, own in zip(places, ids, strict=True):
            tokens = bos + own
            for start in range(0, len(tokens) - cache.seq_len + 1, cache.seq_len):
                yield Chunk(place, start, tokens[start : start + cache.seq_len])


def special_positions(
    tokens: Int[np.ndarray, "chunks seq"], special_ids: Iterable[int]
) -> Bool[np.ndarray, "chunks seq"]:
    """True at position 0 of each chunk and at special tokens: these never count."""
    special = np.isin(tokens, np.fromiter(special_ids, dtype=np.int64))
    special[:, 0] = True
    return special
