"""One process at a time makes a partition, and none while a study is being tidied up.

The locks are the operating system's: they end with their process, however it ends. A lock file
stays when its lock is let go, and means nothing then: removing it while another process opens it
would let two hold "the" lock. A note beside it says who holds it, for the message to others.

Where a disk has no such locks, as some that many machines share, a lease stands in: a file that its
holder touches every 20 s, and that others take over when they have seen it untouched for a minute.
"""

import errno
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import BaseFileLock, FileLock, SoftFileLease

from aanet_assets.storage.files import write_json
from aanet_assets.storage.processes import has_this_kernel, host, pid_of, process_mark, state_of
from aanet_assets.storage.records import record_path
from aanet_assets.storage.step import Partition
from aanet_assets.study.layout import StudyPaths
from aanet_assets.study.study import Study

_NOTE = ".json"
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
_LEASE = 60.0
"""Seconds for which a lease must be seen untouched before another process takes it over."""


class BusyError(RuntimeError):
    """Something is being made by another process right now; the message says by which."""


class LostLeaseError(RuntimeError):
    """A process stood still, or lost the disk, for so long that others may have its lease."""


class Holder(NamedTuple):
    """Who wrote a note."""

    pid: int
    mark: str
    """Of the process; empty in a note of an earlier version."""
    host: str
    since: float
    """Unix time."""


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[BaseFileLock]:
    """Hold a file's lock; wait for it as long as it takes, or for `timeout` seconds.

    To see whether a lease is still held takes longer than that.

    Raises:
        TimeoutError: another process holds it.
    """
    # The library's own stand-in is a file that would outlive its process.
    lock: BaseFileLock = FileLock(path, timeout=timeout, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        patience = timeout if timeout < 0 else timeout + 1.5 * _LEASE
        lock = SoftFileLease(path.with_suffix(".lease"), lease_duration=_LEASE, timeout=patience)
        lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def making(study: Study, partition: Partition) -> Iterator[Callable[[], None]]:
    """Be the only one who works on a partition; yields what makes sure that one still is.

    Raises:
        BusyError: another process does; names it, and says what to do.
        LostLeaseError: by what is yielded.
    """

    def require_held() -> None:
        if isinstance(lock, SoftFileLease) and not _is_own(lock):
            raise LostLeaseError(
                f"{partition} of study {study.name!r}: the lease on it was lost, since this "
                f"process stood still or could not reach the disk for {_LEASE:.0f} s, and another "
                "may be making it now: nothing was recorded; run again"
            )

    path, paths = _lock_file(study, partition), partition.step.paths(study)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = path.with_suffix(_NOTE)
    with ExitStack() as held:
        with _gate(paths):
            try:
                lock = held.enter_context(locked(path, timeout=0))
            except TimeoutError:
                raise BusyError(_who(study, str(partition), path)) from None
            mark = process_mark()
            own = Holder(pid_of(mark), mark, host(), time.time())
            write_json(note, own._asdict())
        try:
            yield require_held
        finally:
            with _gate(paths):
                note.unlink(missing_ok=True)
                held.close()


def _is_own(lease: SoftFileLease) -> bool:
    """Whether the file still says that this process holds the lease; its thread may lag behind."""
    try:
        return str(lease.token) in Path(lease.lock_file).read_text(encoding="utf-8")
    except OSError:
        return False


@contextmanager
def nothing_being_made(study: Study) -> Iterator[None]:
    """Keep every process from starting on a partition of the study; those who try wait.

    Raises:
        BusyError: a partition is being made already.
    """
    with _gate(study.paths):
        for path in sorted(study.paths.locks.glob("*/*.lock")):
            if _is_held(path):
                raise BusyError(_who(study, f"{path.parent.name} ({path.stem})", path))
        yield


def left_notes(study: Study) -> dict[Path, Holder]:
    """Notes of processes that ended without letting go of their lock."""
    return {note: holder for note, holder in _unheld(study).items() if _has_ended(holder)}


def doubtful_notes(study: Study) -> dict[Path, Holder]:
    """Notes of other machines whose locks are not seen to be held from here.

    Not every disk shows one machine the locks of another.
    """
    return {note: holder for note, holder in _unheld(study).items() if not _has_ended(holder)}


def remove_left_notes(study: Study) -> None:
    """Remove the notes that nobody stands behind."""
    with _gate(study.paths):
        for note, holder in _notes_without_lock(study):
            if _has_ended(holder):
                note.unlink(missing_ok=True)


def _unheld(study: Study) -> dict[Path, Holder]:
    if not study.paths.locks.is_dir():
        return {}
    with _gate(study.paths):
        return dict(_notes_without_lock(study))


def _notes_without_lock(study: Study) -> Iterator[tuple[Path, Holder]]:
    for note in sorted(study.paths.locks.glob(f"*/*{_NOTE}")):
        if not _is_held(note.with_suffix(".lock")):
            yield note, _read(note)


def _has_ended(holder: Holder) -> bool:
    """Of the writer of a note whose lock nobody holds: one kernel knows all its locks."""
    return has_this_kernel(holder.mark) or state_of(holder.mark) == "gone"


def _lock_file(study: Study, partition: Partition) -> Path:
    paths = partition.step.paths(study)
    record = record_path(study, partition).relative_to(paths.records)
    return paths.locks / record.with_suffix(".lock")


@contextmanager
def _gate(paths: StudyPaths) -> Iterator[None]:
    """Passed by everyone who takes or lets go of a lock: whoever stands in it sees no change."""
    paths.locks.mkdir(parents=True, exist_ok=True)
    with locked(paths.locks / "gate.lock"):
        yield


def _is_held(path: Path) -> bool:
    """Whether a process holds this lock; ask from within the gate, where trying disturbs nobody."""
    try:
        with locked(path, timeout=0):
            return False
    except TimeoutError:
        return True


def _read(note: Path) -> Holder:
    content = json.loads(note.read_text(encoding="utf-8"))
    return Holder(
        content["pid"], content.get("mark", ""), content.get("host", ""), content["since"]
    )


def _who(study: Study, what: str, lock: Path) -> str:
    holder = _read(lock.with_suffix(_NOTE))
    clock = time.strftime("%H:%M:%S", time.localtime(holder.since))
    if state_of(holder.mark) == "unknown":
        by = f"process {holder.pid} of {holder.host or 'an unknown machine'}"
        how = "there, on that machine or in that container"
    else:
        by, how = f"process {holder.pid}", f"(kill {holder.pid})"
    return (
        f"{what} of study {study.name!r} is being made right now by {by}, since {clock}. "
        f"Wait until it is done, or stop that process {how}, then try again"
    )
