"""Documents by shard, chunks of tokens, special positions."""

import json
import re
import time
from itertools import chain, islice
from pathlib import Path

import httpx2
import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from aanet_assets.science.activations import corpus as corpus_module
from aanet_assets.science.activations.corpus import (
    Tally,
    chunks,
    documents,
    load_tokenizer,
    special_positions,
)
from aanet_assets.science.activations.preflight import preflight
from aanet_assets.science.activations.stand_in import from_hub, persistently
from aanet_assets.study.settings import CacheSettings, CorpusSettings
from aanet_assets_tests.small import small_study


def corpus(path: Path, **more) -> CorpusSettings:
    return CorpusSettings(files=str(path), **more)


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


@pytest.fixture
def dataset(tmp_path: Path) -> CorpusSettings:
    """A dataset of five files of four documents each, named by file and place."""
    for file in range(5):
        texts = [f"{file}.{place}" for place in range(4)]
        pd.DataFrame({"text": texts}).to_parquet(tmp_path / f"part-{file}.parquet")
    return CorpusSettings(dataset=str(tmp_path))


def test_shards_of_a_dataset_take_its_files_in_turn(dataset: CorpusSettings) -> None:
    shards = [list(documents(dataset, shard, 2)) for shard in range(10)]
    files = [[text.split(".")[0] for text in shard] for shard in shards]
    assert all(len(set(file)) == 1 for file in files), "a shard reads one file"
    turn = [file[0] for file in files[:5]]
    assert sorted(turn) == list("01234")
    assert [file[0] for file in files[5:]] == turn, "and goes on in it in the next round"
    assert len({*chain(*shards)}) == 20
    other = dataset.model_copy(update={"seed": 1})
    assert turn != [next(documents(other, shard, 2)).split(".")[0] for shard in range(5)]
    assert list(documents(dataset, 7, 2)) == shards[7], "whatever was read before"
    with pytest.raises(ValueError, match=r"ends before shard 10"):
        list(documents(dataset, 10, 2))


def test_what_save_to_disk_has_written_is_read_by_its_own_list(tmp_path: Path) -> None:
    def save(*texts: str, shards: int) -> None:
        rows = {"n": list(range(len(texts))), "text": list(texts)}
        Dataset.from_dict(rows).save_to_disk(tmp_path / "one", num_shards=shards)
        part = DatasetDict({"train": Dataset.from_dict(rows), "test": Dataset.from_dict(rows)})
        part.save_to_disk(tmp_path / "two", num_shards={"train": shards, "test": 1})

    save("old 0", "old 1", "old 2", shards=3)
    save("0", "1", "2", "3", "4", shards=2)
    for folder in ("one", "two"):
        corpus = CorpusSettings(dataset=str(tmp_path / folder))
        assert len(list((tmp_path / folder).rglob("data-*-of-00003.arrow"))) == 3, "left behind"
        assert [list(documents(corpus, shard, 2)) for shard in range(3)] == [
            ["0", "1"], ["2", "3"], ["4"]
        ]  # fmt: skip
        with pytest.raises(ValueError, match=r"ends before shard 3"):
            list(documents(corpus, 3, 2))
        with pytest.raises(ValueError, match=r"has no column 'body'; it has \['n', 'text'\]"):
            list(documents(corpus.model_copy(update={"text_column": "body"}), 0, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "saved", "split": "valid"}, r"split 'valid'\): it has the splits train; set"),
        (
            {"dataset": "plain", "split": "test"},
            r"split 'test'\): .*Available splits: \['train'\]; s",
        ),
        ({"dataset": "plain", "config": "en"}, r"\(config 'en', split 'train'\): BuilderConfig"),
        ({"dataset": "plain", "text_column": "body"}, r"no column 'body'; it has \['text'\]"),
        ({"dataset": "empty"}, r"empty holds no file of data: put its files there, or"),
    ],
)
def test_a_dataset_folder_is_looked_at_before_any_work(
    tmp_path: Path, changes: dict, message: str
) -> None:
    DatasetDict({"train": Dataset.from_dict({"text": ["a"]})}).save_to_disk(tmp_path / "saved")
    for name in ("plain", "empty"):
        (tmp_path / name).mkdir()
    pd.DataFrame({"text": ["a"]}).to_parquet(tmp_path / "plain/a.parquet")
    corpus = changes | {"dataset": str(tmp_path / changes["dataset"])}
    preflight(small_study(truth=None, corpus={"dataset": str(tmp_path / "saved")}))
    preflight(small_study(truth=None, corpus={"dataset": str(tmp_path / "plain")}))
    with pytest.raises(ValueError, match=message) as refused:
        preflight(small_study(truth=None, corpus=corpus))
    assert "\n" not in str(refused.value)


def test_files_of_a_dataset_folder_that_are_passed_over_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(2):
        (tmp_path / f"{i}.jsonl").write_text('{"text": "one"}\n')
    study = small_study(truth=None, corpus={"dataset": str(tmp_path)})
    with caplog.at_level("WARNING"):
        preflight(study)
        assert not caplog.messages
        (tmp_path / "more.csv").write_text("text\ntwo\n")
        preflight(study)
    (said,) = caplog.messages
    assert "passes over 1 of the files in" in said
    assert "more.csv among them" in said
    caplog.clear()
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: '*.jsonl'\n---\n"
    )
    preflight(study)
    assert not caplog.messages


def test_words_that_stand_for_nothing_in_csv_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,text\n1,NA\n2,null\n3,\n4,more\n")
    corpus = CorpusSettings(dataset=str(tmp_path))
    assert list(documents(corpus, 0, 9)) == ["NA", "null", "", "more"]


def test_a_broken_connection_is_taken_up_where_it_broke(
    monkeypatch: pytest.MonkeyPatch, ten_documents: Path
) -> None:
    opened, waits = [], []
    real = corpus_module._opener

    def flaky(*arguments):
        def at(place: int):
            opened.append(place)
            if len(opened) in (1, 3):
                raise ConnectionError("Couldn't reach the Hub")
            return broken(real(*arguments)(place), after=3 if len(opened) == 2 else None)

        return at

    def broken(rows, after: int | None):
        yield from islice(rows, after)
        if after is not None:
            raise httpx2.ReadTimeout("The read operation timed out")

    monkeypatch.setattr(corpus_module, "_opener", flaky)
    monkeypatch.setattr(corpus_module, "_AT_ONCE", 2)
    monkeypatch.setattr(time, "sleep", waits.append)
    assert list(documents(corpus(ten_documents), 0, 10)) == [f"document {i}" for i in range(10)]
    assert opened == [0, 0, 2, 2], "from the last whole block on"
    assert len(waits) == 3


def test_a_network_that_stays_down_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    now, tries = [0.0], []
    monkeypatch.setattr(time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def unreachable() -> None:
        tries.append(now[0])
        raise ConnectionError("Couldn't reach 'HuggingFaceFW/fineweb' on the Hub")

    with pytest.raises(ConnectionError) as failed:
        persistently(unreachable, "reading the corpus HuggingFaceFW/fineweb")
    assert re.fullmatch(
        r"reading the corpus HuggingFaceFW/fineweb failed for 3\d\d s, the last time with: "
        r"ConnectionError: Couldn't reach 'HuggingFaceFW/fineweb' on the Hub\. Check the network "
        r"and run again: it goes on from the last whole block",
        str(failed.value),
    )
    pauses = np.diff(tries)
    assert len(tries) > 8
    assert pauses.max() > 10 * pauses.min(), "the pauses grow"


def test_what_the_hub_does_not_give_is_one_clear_message() -> None:
    with (
        pytest.raises(ConnectionError) as failed,
        from_hub("the SAE gpt2-small-res-jb/blocks.8.hook_resid_pre"),
    ):
        raise httpx2.ConnectError("[Errno -2] Name or service not known")
    assert str(failed.value) == (
        "the SAE gpt2-small-res-jb/blocks.8.hook_resid_pre could not be loaded from the Hugging "
        "Face hub (ConnectError: [Errno -2] Name or service not known). Check the network; a gated "
        "model needs the token (HF_TOKEN) of an account that has accepted its licence; without the "
        "hub, name a directory instead"
    )


def test_other_errors_are_not_tried_again() -> None:
    tries = []

    def wrong() -> None:
        tries.append(0)
        raise FileNotFoundError("Dataset 'nobody/nothing' doesn't exist on the Hub")

    with pytest.raises(FileNotFoundError, match="nobody/nothing"):
        persistently(wrong, "reading")
    assert len(tries) == 1


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "txt"])
def test_an_empty_corpus(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"c.{kind}"
    if kind == "parquet":
        pd.DataFrame({"text": pd.Series([], dtype=str)}).to_parquet(path)
    else:
        path.touch()
    with pytest.raises(ValueError, match=rf"c\.{kind} has no documents"):
        list(documents(corpus(path), 0, 5))


def test_a_column_of_something_else(tmp_path: Path) -> None:
    pd.DataFrame({"text": [1, 2]}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"'text' holds int, as in 1; it must hold text"):
        list(documents(corpus(tmp_path / "c.parquet"), 0, 5))


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


def test_a_link_whose_file_is_gone_is_refused(ten_documents: Path, tmp_path: Path) -> None:
    links, kind = tmp_path / "links", ten_documents.suffix
    links.mkdir()
    (links / f"a{kind}").symlink_to(ten_documents)
    both = corpus(links / f"*{kind}")
    assert len(list(documents(both, 0, 4))) == 4
    (links / f"b{kind}").symlink_to(tmp_path / f"gone{kind}")
    for pattern in (both, corpus(links / f"b{kind}")):
        with pytest.raises(ValueError, match=r"b\.\w+, a link to .*gone\.\w+, which is not there"):
            list(documents(pattern, 0, 4))


def test_dropped_documents_are_counted() -> None:
    texts = ["a1 a2", "a1 " * 9, "", "a1 a2 a3", "a1", "b1 b2"]
    tally = Tally()
    settings = CacheSettings(seq_len=2, max_doc_tokens=3)
    cut = chunks(texts, load_tokenizer(small_study()), settings, False, tally)
    assert len([next(cut), next(cut)]) == 2
    assert tally == Tally(documents=4, empty=1, too_long=1, tokens_left_over=1)
    assert len(list(cut)) == 1
    assert tally == Tally(documents=6, empty=1, too_long=1, too_short=1, tokens_left_over=2)
    assert tally.dropped(settings) == (
        "1 dropped as too long (12 characters or more; raise cache.max_doc_tokens), 1 shorter than "
        "a chunk of 2 tokens (lower cache.seq_len), 1 empty"
    )


def test_chunks_are_cut_and_remainders_dropped() -> None:
    tokenizer = load_tokenizer(small_study())
    letters = [f"a{1 + i % 3}" for i in range(11)]
    ids = tokenizer.convert_tokens_to_ids(letters)
    assert isinstance(ids, list)
    settings = CacheSettings(seq_len=4)
    found = list(chunks([" ".join(letters)], tokenizer, settings, prepend_bos=True))
    stream = [tokenizer.bos_token_id, *ids]
    assert found == [(0, 0, stream[0:4]), (0, 4, stream[4:8]), (0, 8, stream[8:12])]
    found = list(chunks([" ".join(letters)], tokenizer, settings, prepend_bos=False))
    assert found == [(0, 0, ids[0:4]), (0, 4, ids[4:8])]


def test_long_documents_are_dropped() -> None:
    tokenizer = load_tokenizer(small_study())
    settings = CacheSettings(seq_len=2, max_doc_tokens=3)  # fewer than 12 characters pass
    assert list(chunks(["a1 a2 a3 b1"], tokenizer, settings, prepend_bos=True))
    assert not list(chunks(["a1 a2 a3 b1 "], tokenizer, settings, prepend_bos=True))


def test_documents_keep_their_numbers_when_others_are_dropped() -> None:
    texts = ["a1 a2", "a1 " * 9, "", "a1 a2 a3"]
    settings = CacheSettings(seq_len=2, max_doc_tokens=3)
    found = chunks(texts, load_tokenizer(small_study()), settings, prepend_bos=False)
    assert [(chunk.document, chunk.start) for chunk in found] == [(0, 0), (3, 0)]


def test_position_zero_and_special_tokens_are_special() -> None:
    tokens = np.array([[5, 9, 3], [9, 5, 5]])
    np.testing.assert_array_equal(
        special_positions(tokens, [9]), [[True, True, False], [True, False, False]]
    )
