"""A copy of the finished small study, for tests to damage."""

import shutil
from pathlib import Path

import pytest

from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import Finished


@pytest.fixture
def study(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The small study with its files elsewhere."""
    data = finished.study.paths.root.parent
    shutil.copytree(data / "small", tmp_path / "data" / "small")
    (tmp_path / "data" / "inputs").symlink_to(data / "inputs")
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    return finished.study
