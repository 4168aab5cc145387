"""What the platform costs beside the work: `python -m aanet_assets_tests.benchmarks.overhead`.

Prints how long the definitions of all studies take to load; how long `aanet status`, a tick of the
sensor of stage 3, and finding that nothing is to be made take of a study of 10,000 partitions; and
what a partition costs outside its step's own work, by step: in the platform (locks, provenance,
checks, the record, the database, what is made of several partitions) and in Dagster, beside a run
of Dagster that does nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import dagster as dg
import numpy as np
import pandas as pd

from aanet_assets.orchestration import materialise
from aanet_assets.orchestration.automation import stage3_sensor
from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.storage.records import record_path
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Outcome, Partition
from aanet_assets.study.study import Study
from aanet_assets_tests.small import pretend, small_study, wide_study

PROJECT = Path(__file__).parents[2]
REPEATS = 5
_STATUS = """
from aanet_assets.cli.commands import app
app(["status", "wide"])
"""
_WIDE = """
from aanet_assets.orchestration.build import build_defs
from aanet_assets_tests.small import wide_study

study = wide_study()
defs = build_defs(study)
"""


def process_seconds(code: str) -> float:
    """Median time of a fresh Python on this code."""
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return median(taken)


def status_seconds(home: Path) -> tuple[int, float]:
    """Partitions of a finished wide study, and how long its status takes."""
    study = wide_study()
    partitions = [partition for step in steps_of(study) for partition in step.all_of(study)]
    for partition in partitions:
        pretend(study, partition, "0" * 16)
        assert record_path(study, partition).exists()
    folder = home / "studies"
    folder.mkdir()
    (folder / "wide.py").write_text(_WIDE)
    return len(partitions), process_seconds(_STATUS)


def tick_seconds(home: Path) -> tuple[float, float]:
    """A tick of the sensor of stage 3 of the wide study, and a second look at all it has."""
    study = wide_study()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        driver = Driver(study, instance)
        partitions = plan(study)
        for partition in partitions:
            driver._materialised(dg.AssetKey(partition.step.asset_key(study))).add(partition.key)
        started = time.perf_counter()
        stage3_sensor(study)(dg.build_sensor_context(instance=instance))
        tick = time.perf_counter() - started
        started = time.perf_counter()
        assert all(driver.is_there(partition) for partition in partitions)
        return tick, time.perf_counter() - started


def empty_run_seconds(home: Path) -> float:
    """Median time of a run of an asset with one check that both do nothing."""

    @dg.asset(check_specs=[dg.AssetCheckSpec("nothing", asset="empty")])
    def empty() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    job = dg.Definitions(assets=[empty], executor=dg.in_process_executor)
    job = job.resolve_implicit_global_asset_job_def()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    taken = []
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        for _ in range(4 * REPEATS):
            started = time.perf_counter()
            job.execute_in_process(instance=instance, run_config=quiet)
            taken.append(time.perf_counter() - started)
    return median(taken)


def partition_overhead(home: Path) -> pd.DataFrame:
    """Seconds of the small study's partitions by step: in its work, the platform, and Dagster."""
    study, inside, platform, whole = small_study(), *(defaultdict(list) for _ in range(3))
    for step in steps_of(study):
        work = step.work

        def timed(run: Run, work=work, name=step.name) -> Outcome:
            started = time.perf_counter()
            outcome = work(run)
            inside[name].append(time.perf_counter() - started)
            return outcome

        object.__setattr__(step, "work", timed)
    plain = materialise.run_step

    def stepped(study: Study, partition: Partition, *others: bool) -> Iterator[Any]:
        # What it yields is stored by Dagster before it goes on.
        events, taken = plain(study, partition, *others), 0.0
        while True:
            started = time.perf_counter()
            event = next(events, None)
            taken += time.perf_counter() - started
            if event is None:
                break
            yield event
        name = partition.step.name
        platform[name].append(taken - inside[name][-1])

    with (
        patch.object(materialise, "run_step", stepped),
        dg.DagsterInstance.local_temp(str(home)) as instance,
    ):
        driver = Driver(study, instance)
        for partition in plan(study):
            started = time.perf_counter()
            driver.materialise(partition)
            whole[partition.step.name].append(time.perf_counter() - started)
    return pd.DataFrame(
        {
            "step": name,
            "partitions": len(taken),
            "work": median(inside[name]),
            "platform, median": median(platform[name]),
            "platform, least": min(platform[name]),
            "Dagster, median": median(np.subtract(taken, inside[name]) - platform[name]),
        }
        for name, taken in whole.items()
    )


def main() -> None:
    """Print all tables."""
    dagster = process_seconds("import dagster")
    loaded = process_seconds(
        "from aanet_assets.definitions import defs; defs().get_repository_def()"
    )
    print(f"definitions load in {loaded:.2f} s, of which `import dagster` alone is {dagster:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["AANET_HOME"] = os.environ["DAGSTER_HOME"] = folder
        os.environ["PYTHONPATH"] = str(PROJECT)
        shutil.copy(PROJECT / "dagster.yaml", home)
        (home / "data").mkdir()
        (home / "data/inputs").symlink_to(PROJECT / "data/inputs")
        print("status of {:,} partitions in {:.2f} s".format(*status_seconds(home)))
        tick, look = tick_seconds(home)
        print(f"a sensor's tick in {tick:.2f} s; all found to be there in {look:.2f} s")
        print(f"a run of Dagster that does nothing in {empty_run_seconds(home):.3f} s")
        print(partition_overhead(home).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
