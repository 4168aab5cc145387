"""Atomic writes: a reader sees the old file or the new one, never half of one."""

import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aanet_assets.processes import is_running

# Name, number of the writing process, something random; DuckDB adds a log of its own.
_TEMPORARY = re.compile(r"\..+\.(\d+)-[^.]+\.tmp(\.wal)?")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if the block succeeds.

    The temporary file is removed if the block raises, KeyboardInterrupt included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.{os.getpid()}-"
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes private files; artefacts get the permissions of any other new file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def abandoned(folder: Path) -> list[Path]:
    """Temporary files under `folder` that no running process is writing: theirs was killed."""
    found = []
    for path in sorted(folder.rglob(".*")):
        name = _TEMPORARY.fullmatch(path.name)
        # Its writer may have finished it by now.
        with suppress(FileNotFoundError):
            # The time of the last change cannot be set back, unlike the time of the last write.
            if name and not is_running(int(name[1]), path.stat().st_ctime):
                found.append(path)
    return found


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
