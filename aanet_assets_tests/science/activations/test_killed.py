"""A shard whose process gets a real SIGKILL, again and again, ends as the bytes of a quiet run."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from aanet_assets.science.activations.build import build_shard
from aanet_assets.science.toy.corpus import text_of
from aanet_assets.science.toy.process import UNION7
from aanet_assets.study.settings import CacheSettings, CorpusSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study

CHUNKS = 600
BUILD = """
import sys
from pathlib import Path
from aanet_assets.science.activations.build import build_shard
from aanet_assets.study.study import Study
study = Study.model_validate_json(sys.argv[1])
build_shard(study, 0, Path(sys.argv[2]), "digest", 20.0)
"""


def study_of(folder: Path) -> Study:
    """One shard of 300 blocks."""
    texts = [text_of(letters) for letters in UNION7.sample(CHUNKS, 16, seed=5)]
    pd.DataFrame({"text": texts}).to_parquet(folder / "corpus.parquet")
    return small_study(
        truth=None,
        selection={},
        corpus=CorpusSettings(files=str(folder / "corpus.parquet")),
        cache=CacheSettings(
            seq_len=17, documents_per_shard=CHUNKS, tokens_per_shard=CHUNKS * 17, batch_chunks=2,
            training_shards=1, heldout_shards=1,
        ),
    )  # fmt: skip


def blocks_in(folder: Path) -> int:
    """Whole blocks that lie there now."""
    return len(list(folder.glob(".shard.digest.blocks/[0-9]*.safetensors")))


def test_a_shard_killed_at_random_moments_ends_as_the_same_bytes(tmp_path: Path) -> None:
    study, draw = study_of(tmp_path), random.Random(0)
    whole, path = tmp_path / "whole/shard.safetensors", tmp_path / "out/shard.safetensors"
    build_shard(study, 0, whole, "digest", 20.0)
    command = [sys.executable, "-c", BUILD, study.model_dump_json(), str(path)]
    left = 0
    for _ in range(2):
        process = subprocess.Popen(command)
        while blocks_in(path.parent) < left + 20:
            assert process.poll() is None, "it ended before the kill"
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not path.exists()
        left = blocks_in(path.parent)
    assert left >= 40
    assert build_shard(study, 0, path, "digest", 20.0) == 2 * left
    assert path.read_bytes() == whole.read_bytes()
    assert [*path.parent.iterdir()] == [path]
