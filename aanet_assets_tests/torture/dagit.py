"""`kill -9` of Dagit's processes while it fills the grid: a run's, the daemon's, all of them."""

import json
import random
import time
from collections.abc import Mapping
from contextlib import suppress

import psutil

from aanet_assets.steps.aanets import aanet_metrics, aanet_models
from aanet_assets.storage.step import Partition
from aanet_assets_tests.torture.compare import State
from aanet_assets_tests.torture.faults import (
    Fault,
    all_partitions,
    compare,
    go_on,
    has_begun,
    unmake,
)
from aanet_assets_tests.torture.home import Home
from aanet_assets_tests.torture.server import Dagit

KINDS = ("a run", "the daemon", "all of Dagit")
_GRID = (aanet_models, aanet_metrics)
_PATIENCE = 480.0


def kill_in_backfill(
    home: Home,
    expected: State,
    kind: str,
    seconds: Mapping[Partition, float],
    rng: random.Random,
) -> Fault:
    """Kill something in the middle of a backfill over the grid, and do nothing else.

    Where all of Dagit is killed, it is started again. The fault's seconds are those from the kill
    until everything is green. The home is used up afterwards.
    """
    grid = [p for p in all_partitions() if p.step in _GRID]
    models = [p for p in grid if p.step is aanet_models]
    dagit = Dagit(home)
    try:
        for partition in grid:
            unmake(home, partition, keep_files=False)
        backfill = dagit.backfill(_GRID, models)
        hit = _first_that_begins(home, models)
        doomed = _processes_of(kind, home, dagit, hit)
        time.sleep(rng.uniform(0, seconds[hit]))
        for process in doomed:
            process.kill()
        killed = time.monotonic()
        in_the_middle = not home.record(hit).exists()
        if kind == "all of Dagit":
            dagit.process.wait()
            dagit = Dagit(home)
        problems = _wait_until_green(dagit, backfill)
        seconds_to_green = time.monotonic() - killed
    finally:
        dagit.stop()
    left_to_do = [f"{p} was not made" for p in grid if not home.record(p).exists()]
    problems += left_to_do or go_on(home, [])[0]
    differing, left = compare(home, expected)
    return Fault(hit, kind, in_the_middle, problems + differing, left, seconds_to_green)


def _processes_of(kind: str, home: Home, dagit: Dagit, hit: Partition) -> list[psutil.Process]:
    everything = dagit.processes()
    if kind == "all of Dagit":
        return everything
    if kind == "the daemon":
        return [p for p in everything if any("dagster._daemon" in word for word in p.cmdline())]
    note = home.paths.locks / home.record(hit).relative_to(home.paths.records)
    return [psutil.Process(json.loads(note.read_text())["pid"])]


def _first_that_begins(home: Home, wanted: list[Partition]) -> Partition:
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up:
        for partition in wanted:
            if has_begun(home, partition):
                return partition
        time.sleep(0.005)
    raise RuntimeError("the backfill did not begin")


def _wait_until_green(dagit: Dagit, backfill: str) -> list[str]:
    """Wait for the end of the backfill and of all runs; what is not green then."""
    give_up = time.monotonic() + _PATIENCE
    status, runs = "", -1
    while time.monotonic() < give_up:
        # An error while Dagit is being started again.
        with suppress(OSError):
            status, runs = dagit.status_of_backfill(backfill), dagit.unfinished_runs()
        if status.startswith(("COMPLETED", "FAILED", "CANCELED")) and not runs:
            break
        time.sleep(1)
    if status == "COMPLETED_SUCCESS" and not runs:
        return []
    return [f"after the kill the backfill is {status}, and {runs} runs are unfinished"]
