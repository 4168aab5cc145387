"""Fixtures of the tests of what Dagster is told."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "inputs").symlink_to(Path("data/inputs").resolve())
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance
