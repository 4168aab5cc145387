"""A copy of the finished small study, for tests to damage."""

import shutil
from pathlib import Path

import pytest

from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.conftest import Finished


@pytest.fixture
def paths(finished: Finished, tmp_path: Path) -> StudyPaths:
    """The small study's files, elsewhere."""
    folder = tmp_path / "small"
    shutil.copytree(finished.study.paths.root, folder)
    return StudyPaths(folder)
