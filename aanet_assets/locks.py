"""One process at a time makes a partition, and none while a study is being tidied up.

The locks are the operating system's: they end with their process, however it ends. A lock file
stays when its lock is let go, and means nothing then: removing it while another process opens it
would let two hold "the" lock. A note beside it says who holds it, for the message to others.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from aanet_assets.files import write_json
from aanet_assets.lineage import Partition
from aanet_assets.records import record_path
from aanet_assets.study import Study

_NOTE = ".json"


class BusyError(RuntimeError):
    """Something is being made by another process right now; the message says by which."""


@contextmanager
def making(study: Study, partition: Partition) -> Iterator[None]:
    """Be the only one who works on a partition.

    Raises:
        BusyError: another process does; names it, and says what to do.
    """
    path = _lock_file(study, partition)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = path.with_suffix(_NOTE)
    with ExitStack() as held:
        with _gate(study):
            try:
                held.enter_context(FileLock(path, timeout=0))
            except Timeout:
                raise BusyError(_who(study, str(partition), path)) from None
            write_json(note, {"pid": os.getpid(), "since": time.time()})
        try:
            yield
        finally:
            with _gate(study):
                note.unlink(missing_ok=True)
                held.close()


@contextmanager
def nothing_being_made(study: Study) -> Iterator[None]:
    """Keep every process from starting on a partition of the study; those who try wait.

    Raises:
        BusyError: a partition is being made already.
    """
    with _gate(study):
        for path in sorted(study.paths.locks.glob("*/*.lock")):
            if _is_held(path):
                raise BusyError(_who(study, f"{path.parent.name} ({path.stem})", path))
        yield


def left_notes(study: Study) -> dict[Path, int]:
    """Notes of processes that ended without letting go of their lock, with their numbers."""
    if not study.paths.locks.is_dir():
        return {}
    with _gate(study):
        return {note: _read(note)[0] for note in _left(study)}


def remove_left_notes(study: Study) -> None:
    """Remove the notes that nobody stands behind."""
    with _gate(study):
        for note in _left(study):
            note.unlink(missing_ok=True)


def _left(study: Study) -> list[Path]:
    notes = sorted(study.paths.locks.glob(f"*/*{_NOTE}"))
    return [note for note in notes if not _is_held(note.with_suffix(".lock"))]


def _lock_file(study: Study, partition: Partition) -> Path:
    record = record_path(study, partition).relative_to(study.paths.records)
    return study.paths.locks / record.with_suffix(".lock")


def _gate(study: Study) -> FileLock:
    """Passed by everyone who takes or lets go of a lock: whoever stands in it sees no change."""
    study.paths.locks.mkdir(parents=True, exist_ok=True)
    return FileLock(study.paths.locks / "gate.lock")


def _is_held(path: Path) -> bool:
    """Whether a process holds this lock; ask from within the gate, where trying disturbs nobody."""
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _read(note: Path) -> tuple[int, float]:
    content = json.loads(note.read_text(encoding="utf-8"))
    return content["pid"], content["since"]


def _who(study: Study, what: str, lock: Path) -> str:
    pid, since = _read(lock.with_suffix(_NOTE))
    clock = time.strftime("%H:%M:%S", time.localtime(since))
    return (
        f"{what} of study {study.name!r} is being made right now by process {pid}, since {clock}. "
        f"Wait until it is done, or stop that process (kill {pid}), then try again"
    )
