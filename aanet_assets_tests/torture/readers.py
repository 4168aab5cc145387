"""Runs that make grid partitions again and again, beside people who use the tables.

`python -m aanet_assets_tests.torture.readers --minutes 10`: workers are `aanet run` processes; of
the readers two open the database anew for every look and check that they see whole partitions, one
holds it open to read, one to write. Exits with 1 if anything fails on either side.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from aanet_assets.steps.aanets import aanet_metrics, aanet_models
from aanet_assets.storage.step import Partition
from aanet_assets_tests.torture.compare import differences, state
from aanet_assets_tests.torture.faults import all_partitions, arguments, unmake
from aanet_assets_tests.torture.home import STUDY, Home, aanet, load_libraries_once, new_home
from aanet_assets_tests.torture.report import markdown
from aanet_assets_tests.torture.users import SqlUser

# Who reads and who writes cannot open the same file at once: each of these finds a new one.
_HOLDERS = ("reader", "writer")
_VISITORS = ("visitor", "visitor")


@dataclass
class Counts:
    """What went on, and what went wrong."""

    runs: int = 0
    swaps: int = 0
    looks: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def runs_beside_readers(home: Home, seconds: float, workers: int, seed: int) -> Counts:
    """Have workers and readers at work side by side for so long."""
    counts = Counts()
    expected = state(home.paths)
    grid = [p for p in all_partitions() if p.step is aanet_metrics]
    over = threading.Event()
    with ExitStack() as there, ThreadPoolExecutor(workers + 1) as pool:
        users = []
        for kind in _HOLDERS:
            users.append(there.enter_context(SqlUser(home.paths, kind)))
            # As if somebody had written into it: it is made anew although no partition changed.
            os.utime(home.paths.database)
            home.update_database()
        users += [there.enter_context(SqlUser(home.paths, kind)) for kind in _VISITORS]
        swaps = pool.submit(_count_swaps, home, over)
        ends = time.monotonic() + seconds
        work = [
            pool.submit(_work, home, grid[i::workers], ends, random.Random(f"{seed} {i}"))
            for i in range(workers)
        ]
        for done in work:
            runs, problems = done.result()
            counts.runs += runs
            counts.problems += problems
        over.set()
        counts.swaps = swaps.result()
        there.close()
    for user in users:
        counts.looks[user.kind] = counts.looks.get(user.kind, 0) + user.looks
        counts.problems += user.problems
    counts.problems += differences(expected, state(home.paths))
    return counts


def _work(
    home: Home, own: Sequence[Partition], ends: float, rng: random.Random
) -> tuple[int, list[str]]:
    """Make one of the worker's own places of the grid again, models and metrics, until the end."""
    runs, problems = 0, []
    while time.monotonic() < ends and not problems:
        metrics = rng.choice(own)
        for partition in (metrics, aanet_models.at(**metrics.at.numbers)):
            unmake(home, partition, keep_files=rng.random() < 0.5)
        ended = aanet(home, *arguments(metrics))
        runs += 1
        if ended.code:
            problems.append(f"a run beside readers failed:\n{ended.output[-2000:]}")
    return runs, problems


def _count_swaps(home: Home, over: threading.Event) -> int:
    swaps, last = 0, home.paths.database.stat().st_ino
    while not over.wait(0.01):
        now = home.paths.database.stat().st_ino
        swaps, last = swaps + (now != last), now
    return swaps


def main() -> int:
    options = argparse.ArgumentParser(description="Runs beside users of the tables.")
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--workers", type=int, default=4)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    load_libraries_once()
    with tempfile.TemporaryDirectory(prefix="readers_", ignore_cleanup_errors=True) as folder:
        home = new_home(Path(folder) / "home")
        ended = aanet(home, "run", STUDY)
        if ended.code:
            raise SystemExit(f"the undisturbed run failed:\n{ended.output}")
        counts = runs_beside_readers(home, 60 * asked.minutes, asked.workers, asked.seed)
    print(*counts.problems, sep="\n")
    names = ["minutes", "runs", "new databases seen", *(f"looks of a {k}" for k in counts.looks)]
    row = [asked.minutes, counts.runs, counts.swaps, *counts.looks.values()]
    print(markdown([*names, "errors"], [[*row, len(counts.problems)]]))
    return 1 if counts.problems else 0


if __name__ == "__main__":
    sys.exit(main())
