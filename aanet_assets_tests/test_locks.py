"""Real processes that want the same partition at the same time, and one that is killed over it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aanet_assets.lineage import Partition
from aanet_assets.locks import (
    BusyError,
    left_notes,
    making,
    nothing_being_made,
    remove_left_notes,
)
from aanet_assets.study import Study
from aanet_assets_tests.conftest import PROJECT
from aanet_assets_tests.small import small_study

PARTITION = Partition("aanet_models", n=7, k=3)
_HOLD = """
from aanet_assets.lineage import Partition
from aanet_assets.locks import making
from aanet_assets_tests.small import small_study

with making(small_study(), Partition("aanet_models", n=7, k=3)):
    print("held", flush=True)
    input()
"""


@contextmanager
def holder(home: Path) -> Iterator[subprocess.Popen]:
    """Another process that is making `PARTITION` of the study in this project's folder."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "AANET_HOME": str(home)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    return small_study()


def test_the_second_one_is_told_who_the_first_is(study: Study, tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        message = (
            rf"aanet_models \[n_clusters 7, k 3\] of study 'small' is being made right now by "
            rf"process {process.pid}, since .*\(kill {process.pid}\), then try again"
        )
        with pytest.raises(BusyError, match=message), making(study, PARTITION):
            pass
        with making(study, Partition("aanet_models", n=7, k=2)):
            pass
        process.communicate("\n")
    with making(study, PARTITION):
        pass


def test_a_dead_process_is_no_obstacle(study: Study, tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert left_notes(study) == {}
        process.kill()
        process.wait()
        assert list(left_notes(study).values()) == [process.pid]
        with nothing_being_made(study):
            pass
        with making(study, PARTITION):
            assert left_notes(study) == {}
    assert left_notes(study) == {}


def test_removing_what_the_dead_left_keeps_what_the_living_hold(
    study: Study, tmp_path: Path
) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
    with making(study, Partition("clustering", n=7)):
        remove_left_notes(study)
        notes = [path.stem for path in study.paths.locks.rglob("*.json")]
        assert notes == ["n7"]
    assert not list(study.paths.locks.rglob("*.json"))


def test_nobody_tidies_up_under_someone_at_work(study: Study, tmp_path: Path) -> None:
    with (
        holder(tmp_path) as process,
        pytest.raises(BusyError, match=f"by process {process.pid}"),
        nothing_being_made(study),
    ):
        pass


def test_an_error_in_the_work_lets_go_of_the_lock(study: Study) -> None:
    with pytest.raises(ValueError, match="wrong"), making(study, PARTITION):
        raise ValueError("wrong")
    with making(study, PARTITION):
        pass
