"""A disk that is full: the study's own, or the one of the whole `data/` folder, Dagster's too."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aanet_assets.storage.step import Partition
from aanet_assets_tests.torture.compare import State
from aanet_assets_tests.torture.faults import (
    Fault,
    arguments,
    compare,
    go_on,
    has_tables,
    unmake,
)
from aanet_assets_tests.torture.home import Home, aanet

_SIZE = "64m"
_FULL = ("No space left on device", "disk is full", "is the disk full?", "free some space")


def mount_problem(folder: Path) -> str | None:
    """Why no small disk can be mounted here; None if one can."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder],
        capture_output=True, text=True,
    )  # fmt: skip
    if mounted.returncode:
        return mounted.stderr.strip()
    subprocess.run(["umount", folder], check=True)
    return None


@contextmanager
def on_a_disk(home: Home, folder: Path) -> Iterator[Path]:
    """Move a folder of the home to a small disk of its own; yields where that disk is."""
    disk = home.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", disk], check=True)
    try:
        shutil.move(folder, disk / folder.name)
        folder.symlink_to(disk / folder.name)
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill_up(home: Home, expected: State, partition: Partition, rng: random.Random) -> Fault:
    """Let the disk become full in the middle of a partition, make room, let another run go on.

    The home is used up afterwards.
    """
    everything = rng.random() < 0.5
    needed = sum(path.stat().st_size for path in home.files(partition))
    if has_tables(home, partition):
        needed += home.paths.database.stat().st_size
    if everything:
        needed += 100_000  # Dagster's record of the run.
    data = home.paths.root.parent
    with on_a_disk(home, data if everything else home.paths.root) as disk:
        unmake(home, partition, keep_files=False)
        ballast = disk / "ballast"
        size = shutil.disk_usage(disk).free - rng.randrange(needed + 1)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        ended = aanet(home, *arguments(partition))
        in_the_middle = not home.record(partition).exists()
        problems = []
        if ended.code:
            errors = [line for line in ended.output.splitlines() if line.startswith("error ")]
            is_clear = len(errors) == 1 and any(words in errors[0] for words in _FULL)
            if not is_clear or "Traceback" in ended.output:
                problems.append(f"not one clear line: {ended.output[-2000:]}")
        elif in_the_middle:
            problems.append(f"the run seemed to succeed: {ended.output[-2000:]}")
        ballast.unlink()
        failed, resumed = go_on(home, [partition])
        differing, left = compare(home, expected)
    kind = "full disk"
    return Fault(partition, kind, in_the_middle, problems + failed + differing, left, resumed)
