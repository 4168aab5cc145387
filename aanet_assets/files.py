"""Atomic writes: a reader sees the old file or the new one, never half of one."""

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if the block succeeds.

    The temporary file is removed if the block raises, KeyboardInterrupt included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
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
