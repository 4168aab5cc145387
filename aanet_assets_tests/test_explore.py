"""The notebooks run from their first cell to their last on a finished study."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aanet_assets_tests.conftest import PROJECT, Finished


def explored(study: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "docs/explore.py"), study],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(PROJECT)},
    )


def test_the_notebook_shows_what_the_study_found(finished: Finished) -> None:
    done = explored(finished.study.name)
    assert done.returncode == 0, done.stderr
    for said in (
        "consolidated_metrics",
        "elbow: ",
        "geometric: ",
        "reaches a category",
        "vertex_id",
    ):
        assert said in done.stdout


def test_the_notebook_started_elsewhere_says_where_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AANET_HOME")
    monkeypatch.chdir(tmp_path)
    done = explored("toy")
    assert done.returncode == 1
    assert f"{tmp_path}/data/toy/metrics.duckdb is not there: set AANET_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_finding_is_told_from_cluster_to_steering(
    finished: Finished, study_module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    study_module("small_notebook")
    monkeypatch.setenv("AANET_HOME", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    notebook = json.loads((PROJECT / "docs/explore.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    told: dict[str, Any] = {}
    for cell in cells:
        exec(cell.replace('open_study("toy")', f"open_study({finished.study.name!r})"), told)
    assert told["study"].study == finished.study
    assert told["placed"]["active"].any()
    assert len(plt.gcf().axes[0].lines) == 2
    # The file needs nothing else, and what was steered most moved most.
    assert (tmp_path / "simplex.safetensors").is_file()
    assert told["changes"]["change"] > 0.01
    plt.close("all")
