"""Partitions that are made several at once: their order, their bytes, and what stops them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import psutil
import pytest

from aanet_assets.orchestration.driver import Driver, Failure, plan
from aanet_assets.orchestration.orphans import mend_orphans
from aanet_assets.orchestration.workers import Order, drive
from aanet_assets.steps.aanets import aanet_models
from aanet_assets.steps.activations import activation_cache
from aanet_assets.steps.clusters import ROWS
from aanet_assets.storage.records import discard_record, read_record
from aanet_assets.storage.step import Partition, upstream
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import PROJECT, problems, said
from aanet_assets_tests.orchestration.test_study_run import digests
from aanet_assets_tests.small import small_study

MODELS = [aanet_models.at(n=7, k=k) for k in (2, 3, 4)]


def forget(study: Study, partitions: Sequence[Partition]) -> None:
    for partition in partitions:
        discard_record(study, partition)


def test_each_comes_after_what_it_reads_and_the_plan_decides_among_the_rest() -> None:
    study = small_study()
    todo = plan(study)
    order, seen, at_work = Order(study, todo), [], []
    while order.is_active():
        while len(at_work) < 3 and (found := order.next(at_work)) is not None:
            assert {*upstream(study, found)} <= {*seen}
            at_work.append(found)
        # The one that was begun last is done first.
        seen.append(at_work.pop())
        order.done(seen[-1])
    assert sorted(map(todo.index, seen)) == list(range(len(todo)))
    alone, one_by_one = Order(study, todo), []
    while (found := alone.next([])) is not None:
        one_by_one.append(found)
        alone.done(found)
    assert one_by_one == todo


def test_a_gpu_has_one_at_a_time() -> None:
    study = small_study(device="cuda")
    shards = [*activation_cache.all_of(study)]
    order = Order(study, [*shards, *MODELS[:1]])
    first = order.next([])
    assert first is not None
    assert first == shards[0]
    assert order.next([first]) is None
    order.done(first)
    assert order.next([]) == shards[1]


def test_two_workers_make_the_same_bytes(copied: Study) -> None:
    before = digests(copied.paths.root)
    again = [p for p in plan(copied, "consolidated_metrics", n_clusters=(7,)) if p.n == 7]
    forget(copied, again)
    with dg.DagsterInstance.get() as instance:
        looks = list(drive(Driver(copied, instance), plan(copied), workers=2))
    assert max(len(look.at_work) for look in looks) == 2
    made = [look.ended for look in looks if look.ended and look.ended.seconds is not None]
    assert {one.partition for one in made} == {*again}
    assert len(looks) == len(plan(copied)) + len(again)
    assert problems(copied) == []
    assert digests(copied.paths.root) == before


def test_one_that_fails_is_named_and_the_other_is_kept(copied: Study) -> None:
    """Training wants rows: those of n_clusters 7 are gone, those of 6 are there."""
    forget(copied, [aanet_models.at(n=n, k=2) for n in (6, 7)])
    ROWS.under(copied.paths.root, n=7).unlink()
    todo = [aanet_models.at(n=n, k=2) for n in (7, 6)]
    with (
        dg.DagsterInstance.get() as instance,
        pytest.raises(Failure, match=r"aanet_models \[n_clusters 7, k 2\]"),
    ):
        list(drive(Driver(copied, instance), todo, workers=2))
    assert read_record(copied, todo[0]) is None
    assert read_record(copied, todo[1]) is not None


_RUN = """
from aanet_assets.cli import commands, running
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.small import small_study

if __name__ == "__main__":
    slow = AANetSettings(max_steps=1_000_000, stop_patience=1_000_000)
    running.load = lambda name: small_study(aanet=slow)
    commands.app(["run", "small", "--workers", "2"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_or_killed_nobody_is_left(copied: Study, tmp_path: Path, number: int) -> None:
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    with (
        dg.DagsterInstance.get() as instance,
        subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        ) as run,
    ):
        going_on = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        wait_for(lambda: len(instance.get_runs(going_on)) == 2)
        started = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(number)
        output, _ = run.communicate(timeout=120)
        wait_for(lambda: not any(process.is_running() for process in started))
        if number == signal.SIGINT:
            assert (
                "Stopped; nothing is half written. To go on: aanet run small --workers 2" in output
            )
            assert "Traceback" not in output
            assert not instance.get_runs(going_on)
        else:
            assert mend_orphans(instance) == 2


def wait_for(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 180
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.2)


def test_what_the_daemon_decides_is_no_option_here() -> None:
    assert "--workers is for work done here" in said(
        "run", "toy", "--submit", "--workers", "2", code=1
    )
