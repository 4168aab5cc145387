"""One process at a time makes a partition, and none while a study is being tidied up.

The locks are the operating system's: they end with their process, however it ends. A lock file
stays when its lock is let go, and means nothing then: removing it while another process opens it
would let two hold "the" lock. A note beside it says who holds it, for the message to others.

A study that is kept in object storage has a lease there besides, which other machines see.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import SoftFileLease

from aanet_assets.storage.bucket import Bucket
from aanet_assets.storage.file_locks import LEASE, locked
from aanet_assets.storage.files import write_json
from aanet_assets.storage.lease import HeldError, Lease, leased, look
from aanet_assets.storage.processes import has_this_kernel, host, pid_of, process_mark, state_of
from aanet_assets.storage.remote import bucket_of
from aanet_assets.storage.step import Partition
from aanet_assets.study.layout import StudyPaths
from aanet_assets.study.study import Study

_NOTE, _LEASE = ".json", ".lease"


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
def partition_lock(study: Study, partition: Partition) -> Iterator[Callable[[], None]]:
    """Be the only one who works on a partition; yields what makes sure that one still is.

    Raises:
        BusyError: another process does; names it, and says what to do.
        LostLeaseError: by what is yielded.
    """

    def require_held() -> None:
        is_lost = isinstance(lock, SoftFileLease) and not _is_held_here(lock)
        if is_lost or (lease is not None and not lease.renew()):
            where = "the disk" if is_lost else study.remote
            raise LostLeaseError(
                f"{partition} of study {study.name!r}: the lease on it was lost, since this "
                f"process stood still or could not reach {where} for {LEASE:.0f} s, and another "
                "may be making it now: nothing was recorded; run again"
            )

    lease: Lease | None = None
    path, paths = _lock_file(study, partition), partition.step.paths(study)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = path.with_suffix(_NOTE)
    with ExitStack() as held:
        with _gate(paths):
            try:
                lock = held.enter_context(locked(path, timeout=0))
            except TimeoutError:
                raise BusyError(_who(study, str(partition), _holder_of(path))) from None
            mark = process_mark()
            own = Holder(pid_of(mark), mark, host(), time.time())
            write_json(note, own._asdict())
        try:
            with _lease(study, partition, own) as lease:
                yield require_held
        finally:
            with _gate(paths):
                note.unlink(missing_ok=True)
                held.close()


@contextmanager
def _lease(study: Study, partition: Partition, holder: Holder) -> Iterator[Lease | None]:
    """Hold the partition where its results are kept, if that is not its folder."""
    bucket = bucket_of(study, partition.step)
    if bucket is None:
        yield None
        return
    name = _lock_file(study, partition).relative_to(partition.step.paths(study).root)
    # Metadata of objects are in ASCII.
    notes = {
        field: str(value).encode("ascii", "replace").decode()
        for field, value in holder._asdict().items()
    }
    try:
        with leased(bucket, name.with_suffix(_LEASE).as_posix(), notes) as lease:
            yield lease
    except HeldError as error:
        raise BusyError(_who(study, str(partition), _holder(error.notes))) from None


def _is_held_here(lease: SoftFileLease) -> bool:
    """Whether the file still says that this process holds the lease; its thread may lag behind."""
    try:
        return str(lease.token) in Path(lease.lock_file).read_text(encoding="utf-8")
    except OSError:
        return False


@contextmanager
def submit_lock(study: Study) -> Iterator[None]:
    """Be the only one who asks for what the study lacks; others wait.

    Raises:
        RemoteError: where its results are kept cannot be reached.
    """
    study.paths.locks.mkdir(parents=True, exist_ok=True)
    with locked(study.paths.locks / "submit.lock"), ExitStack() as held:
        # Machines that share a bucket need not share a folder.
        while study.remote is not None:
            bucket = Bucket(f"{study.remote}/{study.name}")
            with suppress(HeldError):
                held.enter_context(leased(bucket, "locks/submit", {"mark": process_mark()}))
                break
            time.sleep(1)
        yield


@contextmanager
def nothing_being_made(study: Study) -> Iterator[None]:
    """Keep every process from starting on a partition of the study; those who try wait.

    Raises:
        BusyError: a partition is being made already.
    """
    with _gate(study.paths):
        for path in sorted(study.paths.locks.glob("*/*.lock")):
            if _is_held(path):
                raise BusyError(_who(study, f"{path.parent.name} ({path.stem})", _holder_of(path)))
        if study.remote is not None:
            bucket = Bucket(f"{study.remote}/{study.name}")
            for name, found in bucket.list().items():
                if name.endswith(_LEASE) and found.size and (notes := look(bucket, name)[1]):
                    raise BusyError(_who(study, name, _holder(notes)))
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
            yield note, _holder(json.loads(note.read_text(encoding="utf-8")))


def _has_ended(holder: Holder) -> bool:
    """Of the writer of a note whose lock nobody holds: one kernel knows all its locks."""
    return has_this_kernel(holder.mark) or state_of(holder.mark) == "gone"


def _lock_file(study: Study, partition: Partition) -> Path:
    folder = partition.step.paths(study).locks / partition.step.name
    return folder / f"{partition.at.stem}.lock"


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


def _holder_of(lock: Path) -> Holder:
    return _holder(json.loads(lock.with_suffix(_NOTE).read_text(encoding="utf-8")))


def _holder(notes: Mapping[str, Any]) -> Holder:
    return Holder(
        int(notes["pid"]), notes.get("mark", ""), notes.get("host", ""), float(notes["since"])
    )


def _who(study: Study, what: str, holder: Holder) -> str:
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
