"""Atomic writes: a reader sees the old file or the new one, never half of one."""

import errno
import json
import math
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aanet_assets.storage.processes import State, process_mark, state_of

# Name, mark of the writing process (of earlier versions its number only), something random; DuckDB
# adds a log of its own.
_TEMPORARY = re.compile(r"\..+\.(\d[^.]*)-[^.-]+\.tmp(\.wal)?")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if the block succeeds.

    The temporary file is removed if the block raises, KeyboardInterrupt included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{process_mark()}-{uuid.uuid4().hex[:8]}.tmp")
    # The system gives a new file the permissions of any other. They are not worked out from the
    # umask, which can only be read by setting it, for all threads.
    with temporary.open("xb") as created:
        mode = stat.S_IMODE(os.fstat(created.fileno()).st_mode)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        # Whoever wrote it may have made a file of its own in its place.
        temporary.chmod(mode)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Let the new name outlast a power cut: a record must not come back without its files."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        # Some disks of other machines know no such thing of folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(opened)


def temporary_files(folder: Path) -> dict[Path, State]:
    """Temporary files under `folder`, and what became of the processes that write them."""
    return {
        path: state_of(name[1])
        for path in sorted(folder.rglob(".*"))
        if (name := _TEMPORARY.fullmatch(path.name))
    }


def abandoned(folder: Path) -> list[Path]:
    """Temporary files under `folder` whose writer is certainly gone: it was killed."""
    return [path for path, state in temporary_files(folder).items() if state == "gone"]


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> Path:
    """Write JSON atomically; equal content gives equal bytes. NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path


def write_json_lines(path: Path, rows: Iterable[Any]) -> Path:
    """Write one JSON object per line, atomically. NaN is refused."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
    return path


def finite_or_null(values: Iterable[float]) -> list[float | None]:
    """For JSON, which knows no NaN: a number that is not finite becomes null."""
    return [float(value) if math.isfinite(value) else None for value in values]
