"""Runs whose process is gone, told from those that go on, wherever they were launched."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from aanet_assets.orchestration import orphans as orphans_module
from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.orphans import (
    mend_orphans,
    orphaned_runs,
    process_tags,
    report_process,
    runs_elsewhere,
)
from aanet_assets.storage.processes import pid_of, process_mark
from aanet_assets_tests.elsewhere import of_another_machine
from aanet_assets_tests.small import small_study

STARTED = dg.DagsterRunStatus.STARTED
JOB = build_defs(small_study()).resolve_job_def("small_stage3")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="module")
def dead() -> int:
    """Number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


def mark_of(pid: int) -> str:
    """The mark of a process of this machine that had this number."""
    return process_mark().replace(process_mark().partition("-")[0], str(pid), 1)


def tags_of(pid: int) -> dict[str, str]:
    return process_tags() | {"aanet/pid": str(pid), "aanet/process": mark_of(pid)}


def tags_elsewhere(pid: int) -> dict[str, str]:
    mark = of_another_machine(mark_of(pid))
    return tags_of(pid) | {"aanet/process": mark, "aanet/host": "node7"}


def run_by_hand(
    instance: dg.DagsterInstance, tags: dict[str, str], status: dg.DagsterRunStatus = STARTED
) -> str:
    """A run in the process that asked for it, as the driver makes them."""
    return instance.create_run_for_job(JOB, tags=tags, status=status).run_id


def run_by_dagit(
    instance: dg.DagsterInstance,
    pid: int | None,
    tags: dict[str, str],
    mark: str = "",
) -> str:
    """A run that Dagit or its daemon launched in the process `pid`, or did not launch yet.

    With a mark, its work has begun.
    """
    location = RegisteredCodeLocationOrigin("small")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "small_stage3")
    run = instance.create_run_for_job(
        JOB, tags={**JOB.tags, **tags}, status=STARTED, remote_job_origin=origin
    )
    if pid is not None:
        message = f"Started process for run (pid: {pid})."
        instance.report_engine_event(message, run, EngineEventData.in_process(pid))
    if mark:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(orphans_module, "process_mark", lambda: mark)
            report_process(instance, run)
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
    head, _, born = process_mark().rpartition("-")
    earlier = process_tags() | {"aanet/process": f"{head}-{int(born) + 3600}"}
    run = run_by_hand(instance, earlier)
    assert orphans(instance) == {run}


def test_dagits_runs_say_which_process_works_on_them(
    instance: dg.DagsterInstance, dead: int
) -> None:
    own = process_mark()
    run_by_dagit(instance, pid_of(own), {}, own)
    gone = run_by_dagit(instance, dead, {}, mark_of(dead))
    assert orphans(instance) == {gone}
    assert runs_elsewhere(instance) == []


def test_a_run_repeated_in_dagit_carries_tags_of_another_process(
    instance: dg.DagsterInstance, dead: int
) -> None:
    run_by_dagit(instance, pid_of(process_mark()), tags_of(dead), process_mark())
    run_by_dagit(instance, None, tags_of(dead))
    assert orphans(instance) == set()


def test_runs_of_other_machines_are_left_alone_and_told(
    instance: dg.DagsterInstance, dead: int
) -> None:
    """A number that nobody has here says nothing of a process there."""
    by_hand = run_by_hand(instance, tags_elsewhere(dead))
    launched = run_by_dagit(instance, dead, {}, of_another_machine(mark_of(dead)))
    # Of an earlier version, or killed before its work began: the number alone.
    earlier = run_by_hand(instance, {"aanet/pid": str(dead)})
    unsaid = run_by_dagit(instance, dead, {})
    assert mend_orphans(instance) == 0
    found = {run.run_id: process.host for run, process in runs_elsewhere(instance)}
    assert set(found) == {by_hand, launched, earlier, unsaid}
    assert found[by_hand] == "node7"
    assert found[earlier] == found[unsaid] == ""


def test_runs_of_other_projects_are_none_of_ours(instance: dg.DagsterInstance, dead: int) -> None:
    @dg.job
    def stranger() -> None:
        pass

    location = RegisteredCodeLocationOrigin("elsewhere")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "stranger")
    run = instance.create_run_for_job(stranger, status=STARTED, remote_job_origin=origin)
    message = f"Started process for run (pid: {dead})."
    instance.report_engine_event(message, run, EngineEventData.in_process(dead))
    report = f"Process {dead} of node does the work ({mark_of(dead)})."
    instance.report_engine_event(report, run)
    assert mend_orphans(instance) == 0
    assert runs_elsewhere(instance) == []


def test_a_run_that_ended_while_it_was_looked_at_is_no_orphan(
    instance: dg.DagsterInstance, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = run_by_hand(instance, tags_of(dead))
    look_up = orphans_module.state_of

    def finish_and_look(mark: str):
        run = instance.get_run_by_id(run_id)
        assert run is not None
        instance.report_run_canceled(run)
        return look_up(mark)

    monkeypatch.setattr(orphans_module, "state_of", finish_and_look)
    assert mend_orphans(instance) == 0


def test_an_asset_says_which_process_works_on_it(finished) -> None:
    run = finished.instance.get_runs(limit=1)[0]
    events = finished.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    assert any(f"({process_mark()})" in event.message for event in events)


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
