"""Real processes that want the same partition at the same time, and one that is killed over it."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aanet_assets.steps.aanets import aanet_models
from aanet_assets.steps.activations import activation_cache
from aanet_assets.steps.clusters import clustering
from aanet_assets.storage import file_locks
from aanet_assets.storage.locks import (
    BusyError,
    LostLeaseError,
    doubtful_notes,
    left_notes,
    nothing_being_made,
    partition_lock,
    remove_left_notes,
)
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import PROJECT
from aanet_assets_tests.elsewhere import of_another_machine
from aanet_assets_tests.small import small_study

PARTITION = aanet_models.at(n=7, k=3)
_HOLD = """
from aanet_assets.steps.aanets import aanet_models
from aanet_assets.storage.locks import partition_lock
from aanet_assets_tests.small import small_study

with partition_lock(small_study(), aanet_models.at(n=7, k=3)):
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
        with pytest.raises(BusyError, match=message), partition_lock(study, PARTITION):
            pass
        with partition_lock(study, aanet_models.at(n=7, k=2)):
            pass
        process.communicate("\n")
    with partition_lock(study, PARTITION):
        pass


def test_shared_activations_are_made_by_one_study_at_a_time(study: Study) -> None:
    other = study.sharing("other")
    shard = activation_cache.at(shard=0)
    with partition_lock(study, shard), partition_lock(study, PARTITION):
        with (
            pytest.raises(BusyError, match=r"activation_cache \[shard 0\]"),
            partition_lock(other, shard),
        ):
            pass
        with partition_lock(other, PARTITION):
            pass


def test_a_dead_process_is_no_obstacle(study: Study, tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert left_notes(study) == {}
        process.kill()
        process.wait()
        assert [holder.pid for holder in left_notes(study).values()] == [process.pid]
        with nothing_being_made(study):
            pass
        with partition_lock(study, PARTITION):
            assert left_notes(study) == {}
    assert left_notes(study) == {}


def test_removing_what_the_dead_left_keeps_what_the_living_hold(
    study: Study, tmp_path: Path
) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
    with partition_lock(study, clustering.at(n=7)):
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
    with pytest.raises(ValueError, match="wrong"), partition_lock(study, PARTITION):
        raise ValueError("wrong")
    with partition_lock(study, PARTITION):
        pass


def moved_elsewhere(note: Path) -> None:
    """Let a note be one of another machine."""
    content = json.loads(note.read_text())
    note.write_text(
        json.dumps(content | {"mark": of_another_machine(content["mark"]), "host": "node7"})
    )


def note_of(study: Study) -> Path:
    (note,) = study.paths.locks.rglob("*.json")
    return note


def test_the_holder_on_another_machine_is_named_with_it(study: Study, tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        moved_elsewhere(note_of(study))
        words = rf"right now by process {process.pid} of node7, since .* there, on that machine"
        with pytest.raises(BusyError, match=words), partition_lock(study, PARTITION):
            pass


def test_a_note_of_another_machine_is_left_alone(study: Study, tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
    note = note_of(study)
    moved_elsewhere(note)
    remove_left_notes(study)
    assert left_notes(study) == {}
    assert {path: found.host for path, found in doubtful_notes(study).items()} == {note: "node7"}
    # One of an earlier version does not say whose it is.
    note.write_text(json.dumps({"pid": process.pid, "since": 0.0}))
    remove_left_notes(study)
    assert list(doubtful_notes(study)) == [note]


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has no locks, and leases that expire while a test waits."""

    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(file_locks, "LEASE", 1.0)


def lease_of(study: Study) -> Path:
    return study.paths.locks / "aanet_models/n7_k3.lease"


@pytest.mark.usefixtures("without_locks")
def test_where_there_are_no_locks_a_lease_keeps_others_away(study: Study) -> None:
    with partition_lock(study, PARTITION) as require_held:
        with (
            pytest.raises(BusyError, match="is being made right now"),
            partition_lock(study, PARTITION),
        ):
            pass
        require_held()
        with pytest.raises(BusyError), nothing_being_made(study):
            pass
    assert not lease_of(study).exists()
    with partition_lock(study, PARTITION):
        pass


@pytest.mark.usefixtures("without_locks")
@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_a_lease_holds_by_whatever_clock_its_file_has_its_time(
    study: Study, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    with partition_lock(study, PARTITION) as require_held:
        renewed = threading.Event()

        def renew_by_another_clock() -> None:
            while not renewed.wait(0.1):
                then = time.time() + ahead
                os.utime(lease_of(study), (then, then))

        elsewhere = threading.Thread(target=renew_by_another_clock)
        elsewhere.start()
        try:
            with pytest.raises(BusyError), partition_lock(study, PARTITION):
                pass
            require_held()
        finally:
            renewed.set()
            elsewhere.join()


@pytest.mark.usefixtures("without_locks")
def test_the_lease_of_the_dead_is_taken_over(study: Study) -> None:
    with partition_lock(study, PARTITION):
        left = lease_of(study).read_bytes()
    lease_of(study).write_bytes(left)
    with partition_lock(study, PARTITION) as require_held:
        require_held()
        assert lease_of(study).read_bytes() != left


@pytest.mark.usefixtures("without_locks")
@pytest.mark.parametrize("other", [None, b"of another"])
def test_a_lease_that_was_lost_is_noticed(study: Study, other: bytes | None) -> None:
    words = r"aanet_models \[n_clusters 7, k 3\] of study 'small': the lease on it was lost"
    with partition_lock(study, PARTITION) as require_held:
        lease_of(study).unlink()
        if other is not None:
            lease_of(study).write_bytes(other)
        with pytest.raises(LostLeaseError, match=words):
            require_held()
