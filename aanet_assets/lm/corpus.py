"""Documents of a corpus, shard by shard, and the chunks of tokens they are cut into."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from aanet_assets.inputs import files_like
from aanet_assets.settings import CacheSettings, CorpusSettings
from aanet_assets.study import Study

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".txt": "text"}
_TOKENIZER_BATCH = 256


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
    """Texts of documents `shard * per_shard` and the `per_shard - 1` after it.

    Raises:
        ValueError: the corpus has no such text column, or ends before the shard begins.
    """
    from datasets import load_dataset

    if corpus.files is not None:
        files = corpus_files(corpus)
        rows = load_dataset(
            _BUILDERS[files[0].suffix],
            data_files=list(map(str, files)),
            split="train",
            streaming=True,
        )
    else:
        assert corpus.dataset is not None
        rows = load_dataset(
            corpus.dataset, corpus.config, split=corpus.split, revision=corpus.revision,
            streaming=True,
        )  # fmt: skip
    if corpus.shuffle_buffer:
        rows = rows.shuffle(seed=corpus.seed, buffer_size=corpus.shuffle_buffer)
    found = 0
    for row in rows.skip(shard * per_shard).take(per_shard):
        if corpus.text_column not in row:
            raise ValueError(
                f"the corpus has no column {corpus.text_column!r}; it has {sorted(row)}: set "
                "corpus.text_column"
            )
        found += 1
        yield row[corpus.text_column]
    if not found:
        raise ValueError(
            f"the corpus ends before shard {shard}, which begins at document "
            f"{shard * per_shard:,}: ask for fewer shards or fewer documents per shard"
        )


def load_tokenizer(study: Study) -> "PreTrainedTokenizerBase":
    """The model's own tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(study.model_source)


def chunks(
    texts: Iterable[str],
    tokenizer: "PreTrainedTokenizerBase",
    cache: CacheSettings,
    prepend_bos: bool,
) -> Iterator[list[int]]:
    """Non-overlapping chunks of `seq_len` token ids, each from one document.

    BOS, where asked for, opens the document. Documents of `4 * max_doc_tokens` characters or more
    and remainders shorter than `seq_len` are dropped.
    """
    bos = []
    if prepend_bos:
        if tokenizer.bos_token_id is None:
            raise ValueError("the SAE wants BOS before each document; the tokenizer has none")
        bos = [tokenizer.bos_token_id]
    short = (text for text in texts if len(text) < 4 * cache.max_doc_tokens)
    while batch := list(islice(short, _TOKENIZER_BATCH)):
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            tokens = bos + ids
            for start in range(0, len(tokens) - cache.seq_len + 1, cache.seq_len):
                yield tokens[start : start + cache.seq_len]


def special_positions(
    tokens: Int[np.ndarray, "chunks seq"], special_ids: Iterable[int]
) -> Bool[np.ndarray, "chunks seq"]:
    """True at position 0 of each chunk and at special tokens: these never count."""
    special = np.isin(tokens, np.fromiter(special_ids, dtype=np.int64))
    special[:, 0] = True
    return special
