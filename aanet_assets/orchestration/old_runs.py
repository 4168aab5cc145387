"""Finished Dagster runs of a study that have grown old, and their removal.

What Dagit knows of a partition is the event of its latest materialisation: runs that hold one stay.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import dagster as dg

from aanet_assets.orchestration.dagster_internals import file_of_events
from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.study.study import Study

_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


def old_runs(instance: dg.DagsterInstance, study: Study, days: float) -> list[str]:
    """Ids of the study's runs that finished more than this many days ago and can go."""
    before = datetime.now(tz=UTC) - timedelta(days=days)
    runs = instance.get_runs(dg.RunsFilter(statuses=_FINISHED, updated_before=before))
    own = [run.run_id for run in runs if _is_of(instance, run, study)]
    kept = _latest(instance, study) if own else set()
    return [run_id for run_id in own if run_id not in kept]


def _is_of(instance: dg.DagsterInstance, run: dg.DagsterRun, study: Study) -> bool:
    keys = run.asset_selection
    if not keys:
        # A run of a whole job names no assets; its first events do.
        planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        events = instance.all_logs(run.run_id, of_type=planned)
        keys = {event.dagster_event.asset_key for event in events if event.dagster_event}
    return any(key is not None and key.path[0] == study.name for key in keys)


def _latest(instance: dg.DagsterInstance, study: Study) -> set[str]:
    """Ids of the runs that made the latest materialisation of each of the study's partitions."""
    found = set()
    for partition in partitions_of(study):
        asset = dg.AssetRecordsFilter(
            dg.AssetKey(partition.step.asset_key(study)),
            asset_partitions=[partition.key] if partition.key else None,
        )
        records = instance.fetch_materializations(asset, limit=1).records
        found |= {record.run_id for record in records}
    return found


def bytes_of_runs(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> int:
    """How much room the event logs of runs take."""
    logs = [log for run_id in run_ids if (log := file_of_events(instance, run_id)) and log.exists()]
    return sum(log.stat().st_size for log in logs)


def delete_runs(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> None:
    """Delete runs, their events and what they printed."""
    for run_id in run_ids:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        # Dagster empties the file of a run's events and leaves it as large as it was.
        if log := file_of_events(instance, run_id):
            log.unlink(missing_ok=True)
