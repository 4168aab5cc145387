"""Runs whose process is gone, told from those that go on, wherever they were launched."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from aanet_assets.defs.build import build_defs
from aanet_assets.defs.orphans import mend_orphans, orphaned_runs, process_tags
from aanet_assets_tests.small import small_study

STARTED = dg.DagsterRunStatus.STARTED
JOB = build_defs(small_study()).resolve_job_def("stage3")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="module")
def dead() -> int:
    """Number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


def tags_of(pid: int) -> dict[str, str]:
    pid_tag, born_tag = process_tags()
    return {pid_tag: str(pid), born_tag: str(time.time())}


def run_by_hand(
    instance: dg.DagsterInstance, tags: dict[str, str], status: dg.DagsterRunStatus = STARTED
) -> str:
    """A run in the process that asked for it, as the driver makes them."""
    return instance.create_run_for_job(JOB, tags=tags, status=status).run_id


def run_by_dagit(instance: dg.DagsterInstance, pid: int | None, tags: dict[str, str]) -> str:
    """A run that Dagit or its daemon launched in the process `pid`, or did not launch yet."""
    location = RegisteredCodeLocationOrigin("small")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "stage3")
    run = instance.create_run_for_job(JOB, tags=tags, status=STARTED, remote_job_origin=origin)
    if pid is not None:
        message = f"Started process for run (pid: {pid})."
        instance.report_engine_event(message, run, EngineEventData.in_process(pid))
    return run.run_id


def orphans(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run, _ in orphaned_runs(instance)}


def test_the_driver_marks_its_runs_with_its_own_process(finished) -> None:
    run = finished.instance.get_runs(limit=1)[0]
    assert process_tags().items() <= run.tags.items()


def test_a_run_of_a_process_that_is_gone(instance: dg.DagsterInstance, dead: int) -> None:
    gone = set()
    for status in map(dg.DagsterRunStatus, ("NOT_STARTED", "STARTING", "STARTED", "CANCELING")):
        gone.add(run_by_hand(instance, tags_of(dead), status))
        run_by_hand(instance, process_tags(), status)
        run_by_hand(instance, {}, status)
    for status in map(dg.DagsterRunStatus, ("SUCCESS", "FAILURE", "CANCELED")):
        run_by_hand(instance, tags_of(dead), status)
    assert orphans(instance) == gone


def test_a_number_that_another_process_has_by_now(instance: dg.DagsterInstance) -> None:
    pid, born = process_tags()
    earlier = {pid: process_tags()[pid], born: str(psutil.Process().create_time() - 3600)}
    run = run_by_hand(instance, earlier)
    assert orphans(instance) == {run}


def test_dagits_runs_are_known_by_their_first_event(
    instance: dg.DagsterInstance, dead: int
) -> None:
    run_by_dagit(instance, psutil.Process().pid, {})
    gone = run_by_dagit(instance, dead, {})
    assert orphans(instance) == {gone}


def test_a_run_repeated_in_dagit_carries_tags_of_another_process(
    instance: dg.DagsterInstance, dead: int
) -> None:
    run_by_dagit(instance, psutil.Process().pid, tags_of(dead))
    run_by_dagit(instance, None, tags_of(dead))
    assert orphans(instance) == set()


def test_mending_marks_them_failed_with_a_reason_and_frees_their_slots(
    tmp_path: Path, dead: int
) -> None:
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    gone = run_by_hand(instance, tags_of(dead))
    alive = run_by_hand(instance, process_tags())
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    assert storage.claim_concurrency_slot("gpu", gone, "refit_models").is_claimed
    assert mend_orphans(instance) == 1
    assert [run.status.value for run in map(instance.get_run_by_id, (gone, alive)) if run] == [
        "FAILURE",
        "STARTED",
    ]
    (event,) = instance.all_logs(gone, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert f"process {dead} is gone" in event.message
    assert storage.claim_concurrency_slot("gpu", alive, "refit_models").is_claimed
    assert mend_orphans(instance) == 0
