"""Jobs, the sensor that starts stage 3, and the schedule that fills gaps in the grid."""

import json
from collections.abc import Iterator

import dagster as dg

from aanet_assets.defs.materialise import METRICS_VERSION_TAG
from aanet_assets.defs.partitions import partitions_def
from aanet_assets.lineage import steps
from aanet_assets.study import Study

_IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_JOB_STEPS = {
    "stage1_cache": ("activation_cache",),
    "stage1_clusters": ("clustering", "cluster_rows"),
    "stage1_grid": ("aanet_models", "aanet_metrics"),
    "stage1_metrics": ("consolidated_metrics", "analysis_plots"),
    "stage3": ("selected_clusters", "refit_models", "vertex_samples"),
}


def jobs(study: Study) -> list:
    """One job per kind of partition, in the order in which they make sense."""
    return [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*([study.name, step] for step in selected)),
            partitions_def=partitions_def(study, steps(study)[selected[0]].partitions),
            description=f"Materialises {', '.join(selected)}.",
        )
        for name, selected in _JOB_STEPS.items()
    ]


def _latest_tag(
    instance: dg.DagsterInstance, study: Study, step: str, partition: str, tag: str
) -> str | None:
    """Value of a tag of the latest materialisation of a partition; None if there is none."""
    asset = dg.AssetRecordsFilter(dg.AssetKey([study.name, step]), asset_partitions=[partition])
    records = instance.fetch_materializations(asset, limit=1).records
    materialisation = records[0].asset_materialization if records else None
    return (materialisation.tags or {}).get(tag) if materialisation else None


def _in_flight(instance: dg.DagsterInstance, study: Study, job: str) -> set[str]:
    """Partitions of a job's last step for which a run is queued or going on."""
    key = dg.AssetKey([study.name, _JOB_STEPS[job][-1]])
    runs = instance.get_runs(dg.RunsFilter(statuses=_IN_FLIGHT))
    # A run of a whole job names no assets.
    covering = [
        run
        for run in runs
        if (key in run.asset_selection if run.asset_selection else run.job_name == job)
    ]
    return {run.tags["dagster/partition"] for run in covering if "dagster/partition" in run.tags}


def stage3_sensor(study: Study) -> dg.SensorDefinition:
    """Asks for stage 3 once per n_clusters whose metrics differ from those stage 3 last used.

    It looks at the state, not at events: equal content, or content that stage 3 has already used,
    asks for nothing however often it was materialised. The cursor keeps what was asked for, so that
    a stage 3 run that failed is not repeated for ever; new metrics, or a run by hand, go on.
    """

    @dg.sensor(
        name="stage3_when_metrics_change",
        job_name="stage3",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        description=stage3_sensor.__doc__,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance = context.instance
        busy = _in_flight(instance, study, "stage3")
        asked: dict[str, str] = json.loads(context.cursor or "{}")
        requests, notes = [], []
        for n in map(str, study.n_clusters):
            version = _latest_tag(
                instance, study, "consolidated_metrics", n, "dagster/data_version"
            )
            used = _latest_tag(instance, study, "vertex_samples", n, METRICS_VERSION_TAG)
            if version is None:
                notes.append(f"{n}: no metrics yet")
            elif n in busy:
                notes.append(f"{n}: stage 3 is queued or running")
            elif used == version:
                notes.append(f"{n}: stage 3 is up to date")
                asked[n] = version
            elif asked.get(n) == version:
                notes.append(f"{n}: stage 3 was asked for and did not finish; see its run")
            else:
                notes.append(f"{n}: metrics changed, stage 3 requested")
                asked[n] = version
                requests.append(dg.RunRequest(partition_key=n))
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "; ".join(notes),
            cursor=json.dumps(asked, sort_keys=True),
        )

    return sensor


def grid_schedule(study: Study) -> dg.ScheduleDefinition:
    """Nightly, when switched on: one run for every missing or failed partition of the grid.

    Rows of the grid whose training rows are not there yet are left alone.
    """
    grid = partitions_def(study, "grid")
    assert isinstance(grid, dg.MultiPartitionsDefinition)

    @dg.schedule(
        name="fill_grid",
        job_name="stage1_grid",
        cron_schedule="0 22 * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=grid_schedule.__doc__,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        instance = context.instance
        made = [
            _statuses(instance, dg.AssetKey([study.name, step]), grid)
            for step in _JOB_STEPS["stage1_grid"]
        ]
        n_clusters = partitions_def(study, "n_clusters")
        assert n_clusters is not None
        rows = _statuses(instance, dg.AssetKey([study.name, "cluster_rows"]), n_clusters)
        busy = _in_flight(instance, study, "stage1_grid")
        requested = 0
        for n in map(str, study.n_clusters):
            for k in map(str, study.ks):
                key = dg.MultiPartitionKey({"n_clusters": n, "k": k})
                ready = rows.get(n) == "MATERIALIZED"
                done = all(statuses.get(str(key)) == "MATERIALIZED" for statuses in made)
                if ready and not done and str(key) not in busy:
                    requested += 1
                    # Dagster drops a key it has seen: each night asks anew.
                    night = context.scheduled_execution_time.isoformat()
                    yield dg.RunRequest(run_key=f"{night} {key}", partition_key=str(key))
        if not requested:
            waiting = [n for n in map(str, study.n_clusters) if rows.get(n) != "MATERIALIZED"]
            yield dg.SkipReason(
                f"cluster_rows are not there for n_clusters {', '.join(waiting)}; the rest of the "
                "grid is complete"
                if waiting
                else "every partition of the grid is there, queued or running"
            )

    return schedule


def _statuses(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: dg.PartitionsDefinition
) -> dict[str, str]:
    """MATERIALIZED, IN_PROGRESS or FAILED by partition; a partition without a run has none."""
    found = instance.get_status_by_partition(key, list(partitions.get_partition_keys()), partitions)
    return {name: status.value for name, status in (found or {}).items() if status is not None}
