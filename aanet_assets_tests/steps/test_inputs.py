"""A study that makes its own model, corpus and SAE finds them where it put them."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.science.activations import gguf_model, own_sae, prose
from aanet_assets.science.toy.corpus import text_of
from aanet_assets.science.toy.process import UNION7
from aanet_assets.steps.checks import local as checks
from aanet_assets_tests.small import small_study


def test_model_corpus_and_sae_are_made_where_the_study_reads_them(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the toy's model and language in the place of a package's and of prose."""
    study = small_study(
        name="local",
        model="data/local/model",
        sae={"directory": "data/local/sae"},
        corpus={"files": "data/local/corpus/*.parquet"},
        truth=None,
        selection={},
        local={
            "package": "none",
            "layer": 1,
            "latents": 96,
            "active": 6,
            "sae_tokens": 8_192,
            "sae_steps": 200,
        },
        fit={"tokens": 2_000},
    )
    texts = [text_of(row) for row in UNION7.sample(400, 33, seed=3)]

    def write_model(package: str, folder: Path) -> list[Path]:
        shutil.copytree(small_study().model_source, folder, dirs_exist_ok=True)
        return sorted(folder.iterdir())

    def write_prose(path: Path, characters: int, seed: int) -> tuple[int, int]:
        path.parent.mkdir()
        pd.DataFrame({"text": texts}).to_parquet(path)
        return len(texts), sum(map(len, texts))

    monkeypatch.setattr(gguf_model, "write_model", write_model)
    monkeypatch.setattr(prose, "write_prose", write_prose)
    monkeypatch.setattr(checks, "SENTENCE", text_of(UNION7.sample(1, 16, seed=0)[0]))
    monkeypatch.setattr(own_sae, "_FRESH", 2_000)
    # All cores for so small a model, beside other tests, are many times slower than one.
    monkeypatch.setattr(own_sae, "torch_threads", nullcontext)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        driver = Driver(study, instance)
        for partition in plan(study, until="sae_fit"):
            driver.materialise(partition)
    root = study.paths.root
    assert root / "model" == Path(study.model_source)
    assert json.loads((root / "sae/training.json").read_text())["latents"] == 96
    assert (root / "corpus/prose.parquet").exists()
