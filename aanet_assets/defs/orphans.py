"""Runs that Dagster believes to be going on although their process is gone.

A process that is killed cannot say so. Until somebody does, its run counts as running: Dagit shows
it, and it takes one of the places of runs that wait.
"""

import os
import re

import dagster as dg
import psutil

from aanet_assets.processes import is_running

_PID, _BORN = "aanet/pid", "aanet/process_started"
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_STARTED = re.compile(r"Started process for run \(pid: (\d+)\)")


def process_tags() -> dict[str, str]:
    """Tags of a run that this process itself works on."""
    return {_PID: str(os.getpid()), _BORN: str(psutil.Process().create_time())}


def orphaned_runs(instance: dg.DagsterInstance) -> list[tuple[dg.DagsterRun, int]]:
    """Unfinished runs whose process is gone, each with the number of that process.

    A run that was launched and has no process yet is none of them: Dagster's own monitoring ends
    it after `start_timeout_seconds`.
    """
    found = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        process = _process(instance, run)
        if process is not None and not is_running(*process):
            found.append((run, process[0]))
    return found


def _process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float] | None:
    """Number of a run's process, and a time at which that process was there."""
    if run.remote_job_origin is None:
        tags = run.tags
        return (int(tags[_PID]), float(tags[_BORN])) if _PID in tags and _BORN in tags else None
    # Dagit or the daemon launched it. Its tags may be copies of those of the run it repeats.
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    for event in reversed(events):
        if started := _STARTED.search(event.message):
            return int(started[1]), event.timestamp
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
