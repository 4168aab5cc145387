"""Documents by shard, chunks of tokens, special positions."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aanet_assets.lm.corpus import chunks, documents, load_tokenizer, special_positions
from aanet_assets.settings import CacheSettings, CorpusSettings
from aanet_assets_tests.small import small_study


def corpus(path: Path, **more) -> CorpusSettings:
    return CorpusSettings(files=str(path), **{"shuffle_buffer": 0, **more})


@pytest.fixture(params=["parquet", "jsonl", "txt"])
def ten_documents(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    texts = [f"document {i}" for i in range(10)]
    path = tmp_path / f"corpus.{request.param}"
    match request.param:
        case "parquet":
            pd.DataFrame({"text": texts}).to_parquet(path)
        case "jsonl":
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        case "txt":
            path.write_text("\n".join(texts))
    return path


def test_shards_partition_the_corpus_in_order(ten_documents: Path) -> None:
    shards = [list(documents(corpus(ten_documents), shard, 4)) for shard in range(3)]
    assert [len(shard) for shard in shards] == [4, 4, 2]
    assert [*chain(*shards)] == [f"document {i}" for i in range(10)]


def test_shuffled_shards_partition_the_corpus_too(ten_documents: Path) -> None:
    shuffled = corpus(ten_documents, shuffle_buffer=100)
    shards = [list(documents(shuffled, shard, 5)) for shard in range(2)]
    assert sorted(chain(*shards)) == [f"document {i}" for i in range(10)]
    assert [*chain(*shards)] != [f"document {i}" for i in range(10)]
    assert list(documents(shuffled, 1, 5)) == shards[1]


def test_a_corpus_that_ends_early(ten_documents: Path) -> None:
    with pytest.raises(ValueError, match=r"ends before shard 3, which begins at document 12"):
        list(documents(corpus(ten_documents), 3, 4))


def test_a_corpus_without_the_text_column(tmp_path: Path) -> None:
    pd.DataFrame({"body": ["a"]}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"no column 'text'; it has \['body'\]"):
        list(documents(corpus(tmp_path / "c.parquet"), 0, 1))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"match 0 files; they must be one or more"):
        list(documents(corpus(tmp_path / "*.parquet"), 0, 1))


def test_chunks_are_cut_and_remainders_dropped() -> None:
    tokenizer = load_tokenizer(small_study())
    letters = [f"a{1 + i % 3}" for i in range(11)]
    ids = tokenizer.convert_tokens_to_ids(letters)
    settings = CacheSettings(seq_len=4)
    found = list(chunks([" ".join(letters)], tokenizer, settings, prepend_bos=True))
    stream = [tokenizer.bos_token_id, *ids]
    assert found == [stream[0:4], stream[4:8], stream[8:12]]
    found = list(chunks([" ".join(letters)], tokenizer, settings, prepend_bos=False))
    assert found == [ids[0:4], ids[4:8]]


def test_long_documents_are_dropped() -> None:
    tokenizer = load_tokenizer(small_study())
    settings = CacheSettings(seq_len=2, max_doc_tokens=3)  # fewer than 12 characters pass
    assert list(chunks(["a1 a2 a3 b1"], tokenizer, settings, prepend_bos=True))
    assert not list(chunks(["a1 a2 a3 b1 "], tokenizer, settings, prepend_bos=True))


def test_position_zero_and_special_tokens_are_special() -> None:
    tokens = np.array([[5, 9, 3], [9, 5, 5]])
    np.testing.assert_array_equal(
        special_positions(tokens, [9]), [[True, True, False], [True, False, False]]
    )
