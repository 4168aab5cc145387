"""Jobs, the sensors that start stage 3, and the schedules that fill gaps.

Sensors and schedules look at the state of the partitions, not at events: a partition is asked for
when its provenance says that it is missing or stale, what it reads is good, and nothing that
concerns it is queued or running.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence

import dagster as dg
from pydantic import BaseModel

from aanet_assets.orchestration.in_flight import STUDY_TAG, in_flight
from aanet_assets.orchestration.partitions import partitions_def
from aanet_assets.orchestration.pipeline import read_by, steps_of
from aanet_assets.steps.metrics import consolidated_metrics
from aanet_assets.steps.selection import selected_clusters
from aanet_assets.storage.obeyed import settings_digest
from aanet_assets.storage.records import Standing, read_record
from aanet_assets.storage.step import Partition, Step, ancestors
from aanet_assets.study.study import Study

STAGE3_TRIES = 3
"""Runs of stage 3 for the same state before a sensor gives up."""
SENSOR_SECONDS = 30
"""From one look of a sensor to the next."""


def job_steps(study: Study) -> dict[str, list[Step]]:
    """The jobs and the steps of each; `reselect` is what of `stage3` thresholds decide."""
    found: dict[str, list[Step]] = {}
    for step in steps_of(study):
        if step.job is not None and step.home(study) == study.name:
            found.setdefault(step.job, []).append(step)
    if not study.n_clusters:
        return found
    decided: list[Step] = []
    for step in found[selected_clusters.job or ""]:
        if "selection" in step.settings or any(read in decided for read in read_by(step)):
            decided.append(step)
    return {**found, "reselect": decided}


def named(study: Study, name: str) -> str:
    """The name of a job, sensor or schedule in Dagster, where all studies are side by side."""
    return f"{study.name}_{name}"


def jobs(study: Study) -> list:
    """One job per kind of partition; `reselect` is `stage3` without the metrics."""
    return [
        dg.define_asset_job(
            named(study, name),
            selection=dg.AssetSelection.assets(*(step.asset_key(study) for step in selected)),
            partitions_def=partitions_def(study, selected[0].partitions),
            description=f"Materialises {', '.join(step.name for step in selected)}.",
            tags={STUDY_TAG: study.name},
        )
        for name, selected in job_steps(study).items()
    ]


class Situation:
    """Where the partitions of a study stand at one moment, for one sensor or schedule."""

    def __init__(self, study: Study, instance: dg.DagsterInstance):
        self.study = study
        self.standing = Standing(study)
        jobs = {named(study, job): steps for job, steps in job_steps(study).items()}
        self.in_flight = in_flight(instance, study, jobs)

    def open(self, targets: Sequence[Partition]) -> list[Partition]:
        """Those that are missing or stale."""
        return [target for target in targets if self.standing.problem(target) is not None]

    def obstacle(self, targets: Sequence[Partition]) -> str | None:
        """Why these cannot be made now, in words; None if they can."""
        inputs = ancestors(self.study, targets)
        for partition in (*inputs, *targets):
            if partition in self.in_flight:
                return f"waits, because {partition} is queued or running"
        bad = self.open(inputs)
        if not bad:
            return None
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        return f"waits for {bad[0]}, which {self.standing.problem(bad[0])}{more}"

    def version(self, targets: Sequence[Partition]) -> str:
        """Digest of all that the targets would be made from."""
        read = {str(p): read_record(self.study, p) for p in ancestors(self.study, targets)}
        values = {name: record.content for name, record in read.items() if record}
        for target in targets:
            values[target.step.name] = settings_digest(self.study, target.step)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


class Asked(BaseModel):
    """What a sensor asked for, for one n_clusters."""

    version: str
    """Digest of what it was to be made from."""
    tries: int
    """Runs for this version."""


class Cursor(BaseModel):
    """What a sensor remembers from tick to tick."""

    asked: dict[int, Asked] = {}
    """By n_clusters, as long as it is not done."""
    requests: int = 0
    """Runs requested ever, which makes run keys unique: Dagster drops one that it has seen."""


def sensors(study: Study) -> list[dg.SensorDefinition]:
    """Those of stage 3; activations alone have none."""
    return [stage3_sensor(study), reselect_sensor(study)] if study.n_clusters else []


def stage3_sensor(study: Study) -> dg.SensorDefinition:
    """Runs stage 3 for each n_clusters whose metrics are complete and differ from those it used.

    It waits until the whole row of the grid is there, good and quiet. Equal content asks for
    nothing, however often it was materialised. A run that fails is tried again, twice at most.
    """

    def due(situation: Situation, n: int) -> list[Partition]:
        targets = [step.at(n=n) for step in job_steps(study)["stage3"]]
        return [] if _selection_changed(situation, n) else situation.open(targets) and targets

    return _sensor(study, "stage3_when_metrics_change", "stage3", due, stage3_sensor.__doc__)


def reselect_sensor(study: Study) -> dg.SensorDefinition:
    """Selects anew, and runs the rest of stage 3, when thresholds or manual picks have changed.

    Edit the study's `selection`, reload the code location, and it follows. A run that fails is
    tried again, twice at most.
    """

    def due(situation: Situation, n: int) -> list[Partition]:
        targets = [step.at(n=n) for step in job_steps(study)["reselect"]]
        return targets if _selection_changed(situation, n) else []

    return _sensor(study, "reselect_when_thresholds_change", "reselect", due,
                   reselect_sensor.__doc__)  # fmt: skip


def _selection_changed(situation: Situation, n: int) -> bool:
    """Whether the metrics are good, and clusters were selected with other settings than now."""
    study = situation.study
    record = read_record(study, selected_clusters.at(n=n))
    return (
        record is not None
        and record.settings != settings_digest(study, selected_clusters)
        and situation.standing.problem(consolidated_metrics.at(n=n)) is None
    )


def _sensor(
    study: Study,
    name: str,
    job: str,
    due: Callable[[Situation, int], list[Partition]],
    description: str | None,
) -> dg.SensorDefinition:
    """A sensor that runs a job for each n_clusters for which partitions are due."""

    @dg.sensor(
        name=named(study, name),
        job_name=named(study, job),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=SENSOR_SECONDS,
        description=description,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        situation = Situation(study, context.instance)
        cursor = Cursor.model_validate_json(context.cursor) if context.cursor else Cursor()
        requests, notes = [], []
        for n in study.n_clusters:
            targets = due(situation, n)
            if not targets:
                cursor.asked.pop(n, None)
                notes.append(f"{n}: nothing to do")
                continue
            reason = situation.standing.problem(situation.open(targets)[0])
            obstacle = situation.obstacle(targets)
            version = situation.version(targets)
            asked = cursor.asked.get(n, Asked(version="", tries=0))
            tries = asked.tries if asked.version == version else 0
            if obstacle is not None:
                notes.append(f"{n}: {obstacle}")
            elif tries == STAGE3_TRIES:
                failure = _last_failure(context.instance, study, job, n)
                notes.append(f"{n}: given up after {tries} runs. {failure}")
            else:
                cursor.asked[n] = Asked(version=version, tries=tries + 1)
                cursor.requests += 1
                run_key = f"{cursor.requests} {n} {version}"
                requests.append(dg.RunRequest(run_key=run_key, partition_key=str(n)))
                first = situation.open(targets)[0]
                notes.append(f"{n}: {job} requested, try {tries + 1}, because {first} {reason}")
        said = "; ".join(notes)
        context.log.info(said)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else said,
            cursor=cursor.model_dump_json(),
        )

    return sensor


def _last_failure(instance: dg.DagsterInstance, study: Study, job: str, n: int) -> str:
    """The latest failed run of a job for one n_clusters, and why it failed."""
    tags = {STUDY_TAG: study.name, "dagster/partition": str(n)}
    failures = [dg.DagsterRunStatus.FAILURE]
    failed = dg.RunsFilter(job_name=named(study, job), tags=tags, statuses=failures)
    runs = instance.get_runs(failed, limit=1)
    if not runs:
        return "No failed run is on record"
    events = instance.all_logs(runs[0].run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    errors = [
        entry.dagster_event.step_failure_data.error
        for entry in events
        if entry.dagster_event and entry.dagster_event.step_failure_data.error
    ]
    error = errors[0] if errors else None
    while error is not None and error.cause is not None:
        error = error.cause
    why = f": {error.message.strip()}" if error else ""
    return f"Run {runs[0].run_id[:8]} failed{why}"


def gap_schedules(study: Study) -> list[dg.ScheduleDefinition]:
    """Schedules that, switched on, fill gaps in the cache, the clusterings and the grid."""
    return [_gap_schedule(study, job) for job in job_steps(study) if job.startswith("stage1_")]


def _gap_schedule(study: Study, job: str) -> dg.ScheduleDefinition:
    """Hourly, when switched on: one run for each partition that is missing, failed or stale.

    A run makes only those assets that need it: exports that are switched on or off train nothing. A
    partition waits for what it reads; the grid is filled row by row. Nothing is requested that is
    queued or running.
    """
    steps = job_steps(study)[job]

    @dg.schedule(
        name=named(study, f"fill_{job.removeprefix('stage1_')}"),
        job_name=named(study, job),
        cron_schedule="0 * * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=_gap_schedule.__doc__,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        situation = Situation(study, context.instance)
        requested, waiting = 0, []
        for first in steps[0].all_of(study):
            targets = [Partition(step, first.at) for step in steps]
            missing = situation.open(targets)
            if not missing:
                continue
            obstacle = situation.obstacle(targets)
            if obstacle is not None:
                waiting.append(f"{first} {obstacle}")
                continue
            requested += 1
            # Dagster drops a key it has seen: each hour asks anew.
            hour = context.scheduled_execution_time.isoformat()
            yield dg.RunRequest(
                run_key=f"{hour} {first.key}",
                partition_key=first.key,
                asset_selection=[dg.AssetKey(target.step.asset_key(study)) for target in missing],
            )
        context.log.info(f"{requested} requested; " + "; ".join(waiting))
        if not requested:
            more = f" ({len(waiting)} partitions wait)" if len(waiting) > 1 else ""
            yield dg.SkipReason(waiting[0] + more if waiting else "every partition is there")

    return schedule
