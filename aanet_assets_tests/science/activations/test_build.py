"""A shard is the same bytes whatever happened on the way; what cannot be made is said."""

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aanet_assets.science.activations import build, encode
from aanet_assets.science.activations.build import build_shard
from aanet_assets.science.activations.corpus import Tally, load_tokenizer
from aanet_assets.science.activations.fit import measure_fit
from aanet_assets.science.activations.shards import read_shard
from aanet_assets.science.toy.corpus import text_of
from aanet_assets.science.toy.process import UNION7
from aanet_assets.study.settings import CacheSettings, CorpusSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study

DOCUMENTS = 60


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two shards of 30 documents, of which two thirds are needed; 4 chunks to a block."""
    texts = [text_of(letters) for letters in UNION7.sample(DOCUMENTS, 40, seed=3)]
    pd.DataFrame({"text": texts}).to_parquet(tmp_path / "corpus.parquet")
    return small_study(
        truth=None,
        selection={},
        corpus=CorpusSettings(files=str(tmp_path / "corpus.parquet")),
        cache=CacheSettings(
            seq_len=17, documents_per_shard=30, tokens_per_shard=40 * 17 + 5, batch_chunks=4,
            training_shards=1, heldout_shards=1,
        ),
    )  # fmt: skip


def test_a_shard_holds_what_the_settings_ask_for(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "out/shard.safetensors"
    assert build_shard(study, 1, path, "digest", 20.0) == 0
    shard = read_shard(path)
    # 41 tokens with BOS: two chunks per document, so 20 documents give the 40 chunks.
    assert shard.tokens.shape == (40, 17)
    np.testing.assert_array_equal(shard.documents, np.repeat(np.arange(30, 50), 2))
    np.testing.assert_array_equal(shard.starts, np.tile([0, 17], 20))
    assert list(path.parent.iterdir()) == [path], "no block is left"
    l0 = shard.codes.nnz / (~shard.special).sum()
    assert path.stat().st_size <= (4.2 * l0 + 12) * shard.tokens.size + 1_000


@pytest.mark.parametrize("blocks", [1, 3, 10])
def test_an_interrupted_shard_goes_on_and_is_the_same_bytes(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    whole, path = tmp_path / "whole/shard.safetensors", tmp_path / "out/shard.safetensors"
    build_shard(study, 0, whole, "digest", 20.0)
    done, real = [], encode.Encoder.block

    def counted(self, chunked, first):
        if len(done) == blocks:
            raise KeyboardInterrupt
        done.append(chunked)
        return real(self, chunked, first)

    with monkeypatch.context() as patch:
        patch.setattr(encode.Encoder, "block", counted)
        if blocks < 10:
            with pytest.raises(KeyboardInterrupt):
                build_shard(study, 0, path, "digest", 20.0)
        else:
            # All blocks are there, and the kill came while they were joined.
            patch.setattr(build, "join_blocks", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                build_shard(study, 0, path, "digest", 20.0)
    assert not path.exists()
    assert build_shard(study, 0, path, "digest", 20.0) == 4 * blocks
    assert path.read_bytes() == whole.read_bytes()


def test_blocks_of_other_settings_are_not_used(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "out/shard.safetensors"
    build_shard(study, 0, path, "digest", 20.0)
    left = path.parent / ".shard.earlier.blocks"
    left.mkdir()
    shutil.copy(path, left / "000000.safetensors")
    assert build_shard(study, 0, path, "digest", 20.0) == 0
    assert not left.exists()


def test_a_shard_whose_documents_do_not_suffice(study: Study, tmp_path: Path) -> None:
    cache = study.cache.model_copy(update={"tokens_per_shard": 100 * 17})
    greedy = study.model_copy(update={"cache": cache})
    with pytest.raises(
        ValueError,
        match=r"shard 0, 30 documents give 1,020 tokens .* asks for 1,700: lower it, or raise "
        r"cache\.documents_per_shard\. Documents that give nothing: none; 210 tokens were left",
    ):
        build_shard(greedy, 0, tmp_path / "out/shard.safetensors", "digest", 20.0)


def test_documents_dropped_are_counted_and_named(study: Study, tmp_path: Path) -> None:
    path = Path(str(study.corpus.files))
    texts = pd.read_parquet(path)["text"].tolist()
    texts[31], texts[33], texts[35] = "a1 " * 500, "", "a1 b1"
    pd.DataFrame({"text": texts}).to_parquet(path)
    cache = study.cache.model_copy(update={"max_doc_tokens": 100})
    study, tally = study.model_copy(update={"cache": cache}), Tally()
    build_shard(study, 1, tmp_path / "shard", "digest", 20.0, tally)
    # 20 documents of 41 tokens are cut in two chunks, and the other three looked at.
    assert tally == Tally(
        documents=23, empty=1, too_long=1, too_short=1, tokens_left_over=20 * 7 + 3
    )
    pd.DataFrame({"text": texts[:31] + ["a1 " * 500] * 19}).to_parquet(path)
    with pytest.raises(
        ValueError,
        match=r"shard 1, 20 documents give 34 tokens .* the corpus ends there, .* 19 dropped as "
        r"too long \(400 characters or more; raise cache\.max_doc_tokens\); 7 tokens",
    ):
        build_shard(study, 1, tmp_path / "shard", "other", 20.0)
    pd.DataFrame({"text": ["a1 " * 500] * 19}).to_parquet(path)
    with pytest.raises(
        ValueError, match=r"none of the first 19 documents gives a chunk: 19 dropped as too long"
    ):
        measure_fit(study)


@pytest.mark.parametrize(("setting", "opening"), [("auto", "<bos>"), ("no", None), ("a1", "a1")])
def test_what_opens_documents_is_a_setting(
    study: Study, tmp_path: Path, setting: str, opening: str | None
) -> None:
    cache = study.cache.model_copy(update={"prepend_bos": setting})
    study = study.model_copy(update={"cache": cache})
    build_shard(study, 0, tmp_path / "shard", "digest", 20.0)
    shard = read_shard(tmp_path / "shard")
    tokenizer = load_tokenizer(study)
    firsts = set(tokenizer.convert_ids_to_tokens(shard.tokens[shard.starts == 0, 0].tolist()))
    assert firsts == {opening} if opening else "<bos>" not in firsts


def test_a_disk_without_room_is_told_before_any_work(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 0, 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(build, "Encoder", lambda _: pytest.fail("the model was loaded"))
    with pytest.raises(OSError, match=r"shard.safetensors needs 1\.1 GB .* has 1\.0 GB free: free"):
        build_shard(study, 0, tmp_path / "out/shard.safetensors", "digest", 20.0)
