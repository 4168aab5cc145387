"""Which partitions of a study Dagster has queued, is running, or will run for a backfill."""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from aanet_assets.orchestration.dagster_internals import BulkActionsFilter, BulkActionStatus
from aanet_assets.orchestration.partitions import partitions_of_run
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.storage.step import Partition, Step
from aanet_assets.study.study import Study

STUDY_TAG = "aanet/study"
"""Tag of every job, because jobs of several studies have the same names."""
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def in_flight(
    instance: dg.DagsterInstance, study: Study, jobs: Mapping[str, Sequence[Step]]
) -> set[Partition]:
    """Partitions that will be made without anyone asking again; `jobs` are the steps of each."""
    return {*_of_runs(instance, study, jobs), *_of_backfills(instance, study)}


def _of_runs(
    instance: dg.DagsterInstance, study: Study, jobs: Mapping[str, Sequence[Step]]
) -> Iterator[Partition]:
    table = {dg.AssetKey(step.asset_key(study)): step for step in steps_of(study)}
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        if run.asset_selection:
            asked = [table[key] for key in run.asset_selection if key in table]
        elif run.tags.get(STUDY_TAG) == study.name:
            # A run of a whole job names no assets.
            asked = jobs.get(run.job_name, ())
        else:
            asked = ()
        for step in asked:
            yield from partitions_of_run(study, step, run)


def _of_backfills(instance: dg.DagsterInstance, study: Study) -> Iterator[Partition]:
    table = {dg.AssetKey(step.asset_key(study)): step for step in steps_of(study)}
    going_on = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    for backfill in instance.get_backfills(filters=going_on):
        data = backfill.asset_backfill_data
        if data is None:
            continue
        over = data.materialized_subset | data.failed_and_downstream_subset
        for asset in (data.target_subset - over).iterate_asset_partitions():
            if asset.asset_key in table:
                yield table[asset.asset_key].of_key(asset.partition_key)
