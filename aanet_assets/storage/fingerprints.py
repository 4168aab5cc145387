"""SHA-256 of input files, each computed once: kept with what the file system says of the file.

Weights of a large model take minutes to read, and every status and every sensor asks. What is kept
lies in `data/.fingerprints/`, a small file for each input, so that processes need not wait for one
another. It can be removed at any time.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from aanet_assets.storage.files import write_json
from aanet_assets.study.layout import data_root, fingerprints
from aanet_assets.study.progress import Progress

_AT_ONCE = 2**24
_KEPT_FROM = 2**16
"""Bytes from which reading what is kept is quicker than hashing."""
_SETTLED = 2.0
"""Seconds after a change from which another one would have another time: clocks of file systems
tick at most that slowly."""

Stamp = tuple[int, int, int, int]
"""Size, inode, time of modification and time of change, the last of which nobody can set."""
_seen: dict[Path, tuple[Stamp, str]] = {}


def hash_of_bytes(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def hash_of(path: Path) -> str:
    """SHA-256 of a file's whole content, in hexadecimal.

    It is computed anew when size, inode, time of modification or time of change differ, the last of
    which nobody can set. What was changed within the last two seconds is not kept: it could change
    once more in the same tick of the file system's clock.
    """
    real = path.resolve()
    stamp = stamp_of(real)
    known = _seen.get(real) or _kept(real)
    if known is not None and known[0] == stamp:
        _seen[real] = known
        return known[1]
    started = _time_of_the_disk(real)
    found = _hash(real, stamp[0])
    if stamp_of(real) == stamp and max(stamp[2:]) / 1e9 < started - _SETTLED:
        _seen[real] = stamp, found
        if stamp[0] >= _KEPT_FROM:
            # Where it cannot be kept, it is computed again.
            with suppress(OSError):
                write_json(_place(real), {"path": str(real), "stamp": stamp, "sha256": found})
    return found


def read_hash_of(path: Path) -> str:
    """SHA-256 of a file's content, read now, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(files: Iterable[Path], hashed: Callable[[Path], str] = read_hash_of) -> str:
    """Hash of names and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode())
        digest.update(bytes.fromhex(hashed(path)))
    return digest.hexdigest()[:16]


def stamp_of(path: Path) -> Stamp:
    """What the file system says of a file; another content has another one."""
    stat = os.stat(path)
    return stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def _time_of_the_disk(file: Path) -> float:
    """Now, by the clock that gives a file its times: that of a file server may go differently.

    This machine's, where the file lies on another disk than the project.
    """
    with suppress(OSError), tempfile.TemporaryFile(dir=data_root()) as probe:
        new = os.fstat(probe.fileno())
        if new.st_dev == os.stat(file).st_dev:
            return new.st_mtime
    return time.time()


def _place(path: Path) -> Path:
    return fingerprints() / f"{hash_of_bytes(os.fsencode(path))[:32]}.json"


def _kept(path: Path) -> tuple[Stamp, str] | None:
    """What an earlier process found; None where there is nothing, or something damaged."""
    try:
        kept = json.loads(_place(path).read_bytes())
        size, inode, modified, changed = kept["stamp"]
        if kept["path"] != str(path) or len(bytes.fromhex(kept["sha256"])) != 32:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (size, inode, modified, changed), kept["sha256"]


def _hash(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    progress = Progress(size, "bytes", f"hashing {path.name}")
    with path.open("rb") as file:
        while block := file.read(_AT_ONCE):
            digest.update(block)
            progress.advance(len(block))
    return digest.hexdigest()
