"""The notebook runs from its first cell to its last on a finished study."""

import os
import subprocess
import sys
from pathlib import Path

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
