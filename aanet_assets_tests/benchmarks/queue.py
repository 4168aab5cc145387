"""Two partitions at once: by Dagster's queue, a process each, and by `aanet run --workers`.

Makes the grid of a small study again and again, in turn by `aanet run --workers 2` and by
`aanet run --submit` with `aanet ui` beside it; each cell trains for so many steps that it takes a
minute or more of a core. Prints how long the commands took, and of that all runs together:
`python -m aanet_assets_tests.benchmarks.queue FOLDER --rounds 3` (FOLDER is to be new).
"""

import argparse
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import dagster as dg
from rich.console import Console
from rich.table import Table

from aanet_assets.orchestration.driver import plan
from aanet_assets.steps.aanets import aanet_metrics, aanet_models
from aanet_assets.steps.clusters import cluster_rows
from aanet_assets.storage.records import discard_record
from aanet_assets.study.settings import AANetSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study
from aanet_assets_tests.torture.home import STUDY, Home, new_home
from aanet_assets_tests.torture.server import Dagit

GRID = {"n_clusters": (6, 7), "ks": (3, 4)}
WAYS = {"in process": ("--workers", "2"), "by the queue": ("--submit",)}
_MODULE = """
from aanet_assets.orchestration.build import build_defs
from aanet_assets_tests.benchmarks.queue import study_of

study = study_of({steps})
defs = build_defs(study)
"""


def study_of(steps: int) -> Study:
    """The small study on a grid of its own, whose models train for so many steps."""
    return small_study(**GRID, selection={}, aanet=AANetSettings(max_steps=steps, batch_size=256))


def run(home: Home, *options: str) -> float:
    """Seconds of an `aanet run` up to the metrics.

    Raises:
        SystemExit: it failed.
    """
    module = str(home.folder / "studies" / f"{STUDY}.py")
    command = [str(Path(sys.executable).parent / "aanet"), "run", module, *options]
    started = time.monotonic()
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}")
    return time.monotonic() - started


def between_runs(since: datetime) -> float:
    """Seconds from the start of the first run since then to the end of the last."""
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_run_records(dg.RunsFilter(created_after=since))
    starts = [run.start_time for run in runs if run.start_time is not None]
    ends = [run.end_time for run in runs if run.end_time is not None]
    return max(ends) - min(starts)


def unmake_grid(study: Study) -> None:
    """Have every cell of the grid made anew."""
    for partition in plan(study):
        if partition.step in (aanet_models, aanet_metrics):
            discard_record(study, partition)


def main() -> None:
    """Both ways in turn; the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24_000, help="of each model's training")
    arguments = parser.parse_args()
    home = new_home(arguments.folder.resolve())
    study = study_of(arguments.steps)
    module = home.folder / "studies" / f"{STUDY}.py"
    module.write_text(_MODULE.format(steps=arguments.steps))
    os.environ |= {
        "AANET_HOME": str(home.folder),
        "DAGSTER_HOME": str(home.folder),
        "OMP_NUM_THREADS": "1",
    }
    # Dagster's own state is said relative to it.
    os.chdir(home.folder)
    run(home, "--workers", "2", "--until", cluster_rows.name)
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    dagit = Dagit(home)
    try:
        for _ in range(arguments.rounds):
            for way, options in WAYS.items():
                unmake_grid(study)
                begun = datetime.now(UTC)
                whole = run(home, "--until", aanet_metrics.name, *options)
                taken[way].append((whole, between_runs(begun)))
                print(
                    "{}: {:.0f} s, of which runs {:.0f} s".format(way, *taken[way][-1]), flush=True
                )
    finally:
        dagit.stop()
    cells = len(list(aanet_models.all_of(study)))
    table = Table("two at once", "whole command, s", "runs, s", "runs per cell and core, s")
    middle = {way: [median(each) for each in zip(*own, strict=True)] for way, own in taken.items()}
    for way, own in taken.items():
        each = [", ".join(f"{s:.0f}" for s in seconds) for seconds in zip(*own, strict=True)]
        table.add_row(way, *each, f"{2 * middle[way][1] / cells:.1f}")
    Console().print(table)
    inside, queued = middle.values()
    for name, i in (("whole command", 0), ("runs", 1)):
        print(f"{name}: the queue reaches {inside[i] / queued[i]:.3f} of it")


if __name__ == "__main__":
    main()
