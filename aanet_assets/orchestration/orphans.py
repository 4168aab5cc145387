"""Runs that Dagster believes to be going on although their process is gone.

A process that is killed cannot say so. Until somebody does, its run counts as running: Dagit shows
it, and it takes one of the places of runs that wait. Runs of other machines and containers, whose
processes cannot be looked up from here, and of other projects are left alone.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import dagster as dg

from aanet_assets.orchestration.in_flight import STUDY_TAG
from aanet_assets.orchestration.pipeline import all_steps
from aanet_assets.storage.processes import MARK, State, host, pid_of, process_mark, state_of

_PID, _MARK, _HOST = "aanet/pid", "aanet/process", "aanet/host"
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_WORKS = re.compile(rf"Process \d+ of (?P<host>.*) does the work \((?P<mark>{MARK})\)\.")
_STARTED = re.compile(r"Started process for run \(pid: (\d+)\)")


class RunProcess(NamedTuple):
    """The process that works on a run."""

    pid: int
    mark: str
    """Empty where it is not known on which machine it runs."""
    host: str


def process_tags() -> dict[str, str]:
    """Tags of a run that this process itself works on."""
    mark = process_mark()
    return {_PID: str(pid_of(mark)), _MARK: mark, _HOST: host()}


def report_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Put into a run's log that this process works on it, whoever launched it.

    Dagster's own event names the process's number, but not the machine.
    """
    mark = process_mark()
    message = f"Process {pid_of(mark)} of {host()} does the work ({mark})."
    instance.report_engine_event(message, run)


def orphaned_runs(instance: dg.DagsterInstance) -> list[tuple[dg.DagsterRun, int]]:
    """Unfinished runs whose process is certainly gone, each with the number of that process.

    A run that was launched and has no process yet is none of them: Dagster's own monitoring ends
    it after `start_timeout_seconds`.
    """
    return [
        (run, process.pid)
        for run, process, state in _unfinished(instance)
        # It may have finished before its process was looked up.
        if state == "gone" and not _is_finished(instance, run)
    ]


def runs_elsewhere(instance: dg.DagsterInstance) -> list[tuple[dg.DagsterRun, RunProcess]]:
    """Unfinished runs of which it cannot be known from here whether their process is there."""
    return [
        (run, process)
        for run, process, state in _unfinished(instance)
        # While a run starts, only Dagster's own monitoring looks after it.
        if state == "unknown" and (process.mark or run.status != dg.DagsterRunStatus.STARTING)
    ]


def _unfinished(
    instance: dg.DagsterInstance,
) -> Iterator[tuple[dg.DagsterRun, RunProcess, State]]:
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        if _is_of_a_study(run) and (process := _process(instance, run)) is not None:
            yield run, process, state_of(process.mark)


def _is_of_a_study(run: dg.DagsterRun) -> bool:
    """Whether a run is of one of the project's studies: an instance may have other users."""
    steps = {key.path[-1] for key in run.asset_selection or () if len(key.path) == 2}
    return (
        _PID in run.tags or STUDY_TAG in run.tags or any(step.name in steps for step in all_steps())
    )


def _is_finished(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    now = instance.get_run_by_id(run.run_id)
    return now is None or now.is_finished


def _process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunProcess | None:
    # The tags of a run that Dagit or the daemon launched may be copies of those of the run that it
    # repeats.
    if run.remote_job_origin is None and _PID in run.tags:
        tags = run.tags
        return RunProcess(int(tags[_PID]), tags.get(_MARK, ""), tags.get(_HOST, ""))
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    for event in reversed(events):
        if works := _WORKS.search(event.message):
            return RunProcess(pid_of(works["mark"]), works["mark"], works["host"])
        if started := _STARTED.search(event.message):
            return RunProcess(int(started[1]), "", "")
    return None


def mend_orphans(instance: dg.DagsterInstance) -> int:
    """Mark orphaned runs as failed, which gives back the places they took; returns how many."""
    orphans = orphaned_runs(instance)
    for run, pid in orphans:
        message = f"Its process {pid} is gone: killed, or the machine went down."
        instance.report_run_failed(run, message)
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return len(orphans)
