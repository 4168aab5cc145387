"""Whether the disk has room for what is about to be written."""

import shutil
from pathlib import Path

HEADROOM = 2**30
"""Bytes that stay free."""


def check_space(path: Path, size: int, times: int = 3) -> None:
    """Refuse to begin a file of `size` bytes, which for a while takes the place of so many.

    Of three, for a shard: it is written as blocks first, then as whole arrays, then as one file.

    Raises:
        OSError: with what is needed and what is free.
    """
    needed, free = times * size + HEADROOM, shutil.disk_usage(path.parent).free
    if free < needed:
        raise OSError(
            f"{path.name} needs {needed / 1e9:,.1f} GB while it is written, 1.1 GB of them as "
            f"head-room, and {path.parent} has {free / 1e9:,.1f} GB free: free some space and run "
            "again; what is there is kept"
        )
