"""Injects faults over all assets of a small study and compares with an undisturbed run.

`make torture`: kills of the run that makes a partition, alone and beside people who use the tables;
full disks; kills of Dagit's processes in the middle of a backfill. After every fault `aanet run`
goes on to the end; then every file must be byte-equal and every table equal to those of a run that
nothing disturbed. Exits with 1 if anything is lost or different.
"""

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from aanet_assets.storage.step import Partition
from aanet_assets_tests.torture import dagit, disk, kills
from aanet_assets_tests.torture.compare import State, differences, state
from aanet_assets_tests.torture.faults import Fault, all_partitions
from aanet_assets_tests.torture.home import (
    STUDY,
    Home,
    aanet,
    copy_home,
    load_libraries_once,
    new_home,
)
from aanet_assets_tests.torture.report import dagit_table, faults_table

# What strikes every asset, in turn.
_KINDS = ("kill", "kill", "kill beside SQL", "kill", "full disk")


class Torture:
    """A reference that nothing disturbed, and the faults that are compared with it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.reference = new_home(folder / "reference")
        ended = aanet(self.reference, "run", STUDY)
        if ended.code:
            raise SystemExit(f"the undisturbed run failed:\n{ended.output}")
        self.expected: State = state(self.reference.paths)
        print(f"undisturbed run: {ended.seconds:.1f} s")
        spare = self.new_copy()
        self.seconds: kills.Durations = {
            p: kills.seconds_of_work(spare, p) for p in all_partitions()
        }
        if again := differences(self.expected, state(spare.paths)):
            raise SystemExit("made again, without any fault: " + "; ".join(again))
        self.no_disk = disk.mount_problem(folder / "disk")
        self._own = threading.local()

    def new_copy(self) -> Home:
        """The reference, to be maltreated."""
        return copy_home(self.reference, Path(tempfile.mkdtemp(dir=self.folder)) / "home")

    def fault(self, kind: str, partition: Partition, seed: str) -> Fault:
        """Inject one fault; a worker's kills all strike the same home, one after the other."""
        rng = random.Random(seed)
        if kind == "full disk" and self.no_disk is None:
            home = self.new_copy()
            same = [p for p in all_partitions() if p.step is partition.step]
            largest = max(same, key=lambda p: sum(f.stat().st_size for f in home.files(p)))
            fault = disk.fill_up(home, self.expected, largest, rng)
            shutil.rmtree(home.folder)
            return fault
        home = getattr(self._own, "home", None) or self.new_copy()
        inject = kills.kill_beside_user if kind == "kill beside SQL" else kills.kill
        self._own.home = None
        fault = inject(home, self.expected, partition, self.seconds, rng)
        self._own.home = None if fault.problems else home
        return fault

    def dagit_fault(self, kind: str, seed: str) -> Fault:
        """Kill something of Dagit in the middle of a backfill."""
        home = self.new_copy()
        fault = dagit.kill_in_backfill(home, self.expected, kind, self.seconds, random.Random(seed))
        shutil.rmtree(home.folder)
        return fault


def planned(count: int, seed: int) -> list[tuple[str, Partition]]:
    """Which kinds of faults strike which partitions: every asset equally often."""
    partitions = all_partitions()
    steps = list(dict.fromkeys(p.step for p in partitions))
    rng = random.Random(seed)
    found = []
    for i in range(count):
        step, kind = steps[i % len(steps)], _KINDS[i // len(steps) % len(_KINDS)]
        found.append((kind, rng.choice([p for p in partitions if p.step is step])))
    return found


def main() -> int:
    options = argparse.ArgumentParser(
        description="Injects faults; compares with an undisturbed run."
    )
    options.add_argument("--faults", type=int, default=240, help="over all assets")
    options.add_argument("--backfills", type=int, default=3, help="in each, Dagit is killed once")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--workers", type=int, default=2)
    asked = options.parse_args()
    started = time.monotonic()
    load_libraries_once()
    faults: list[Fault] = []
    with tempfile.TemporaryDirectory(prefix="torture_", ignore_cleanup_errors=True) as folder:
        torture = Torture(Path(folder))
        if torture.no_disk:
            print(f"no full disks, kills instead: {torture.no_disk}")
        with ThreadPoolExecutor(asked.workers) as pool:
            jobs = [
                pool.submit(_caught, torture.fault, kind, partition, f"{asked.seed} {i}")
                for i, (kind, partition) in enumerate(planned(asked.faults, asked.seed))
            ]
            for done, job in enumerate(as_completed(jobs), 1):
                faults += _told(job.result())
                if done % 20 == 0:
                    print(f"{done} of {asked.faults} faults")
        for i in range(asked.backfills):
            kind = dagit.KINDS[i % len(dagit.KINDS)]
            faults += _told(_caught(torture.dagit_fault, kind, f"{asked.seed} {i}"))
    in_dagit = [fault for fault in faults if fault.kind in dagit.KINDS]
    print(f"\n{faults_table([fault for fault in faults if fault not in in_dagit])}")
    if in_dagit:
        print(f"\n{dagit_table(in_dagit)}")
    failed = sum(bool(fault.problems) for fault in faults) + asked.faults + asked.backfills
    failed -= len(faults)
    minutes = (time.monotonic() - started) / 60
    print(f"\n{len(faults)} faults in {minutes:.0f} minutes, {failed} with a difference")
    return 1 if failed else 0


def _caught(inject: Callable[..., Fault], *arguments: object) -> Fault | str:
    try:
        return inject(*arguments)
    except Exception:
        return f"{arguments} could not be carried out:\n{traceback.format_exc()}"


def _told(result: Fault | str) -> list[Fault]:
    if isinstance(result, str):
        print(result)
        return []
    for problem in result.problems:
        print(f"{result.kind} at {result.partition}: {problem}")
    return [result]


if __name__ == "__main__":
    sys.exit(main())
