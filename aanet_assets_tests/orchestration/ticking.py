"""A study whose sensors and schedules are told, partition by partition, what happened."""

import dagster as dg

from aanet_assets.orchestration.automation import job_steps, stage3_sensor
from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.in_flight import STUDY_TAG
from aanet_assets.steps.aanets import aanet_exports, aanet_metrics, aanet_models
from aanet_assets.steps.activations import activation_cache, codes_by_latent, sae_fit
from aanet_assets.steps.clusters import cluster_rows, clustering
from aanet_assets.steps.evidence import cluster_shapes, null_clusters, replicates
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.step import Step
from aanet_assets.study.study import Study
from aanet_assets_tests.small import pretend, small_study

STUDY = small_study(name="ticking")
KS = STUDY.ks


def made(*steps: Step, n: int | None = None, content: str = "a", study: Study = STUDY) -> None:
    """Partitions of these steps are there, made from what is there now."""
    for step in steps:
        for partition in step.all_of(study):
            if n is None or partition.n == n:
                pretend(study, partition, content)


def inputs() -> None:
    """Everything up to the training rows is there."""
    made(corpus, sae_fit, activation_cache, codes_by_latent, clustering, cluster_rows)
    made(null_clusters, cluster_shapes)


def metrics(n: int, content: str, *ks: int) -> None:
    for k in ks or KS:
        for step in (aanet_models, aanet_exports, aanet_metrics, replicates):
            pretend(STUDY, step.at(n=n, k=k), content)


def stage3_done(n: int, study: Study = STUDY) -> None:
    made(*job_steps(study)["stage3"], n=n, study=study)


def run_of(
    instance: dg.DagsterInstance, job_name: str, partition: str, status=dg.DagsterRunStatus.STARTED
) -> dg.DagsterRun:
    job = build_defs(STUDY).resolve_job_def(job_name)
    return instance.create_run_for_job(
        job, tags={"dagster/partition": partition, STUDY_TAG: STUDY.name}, status=status
    )


class Ticker:
    """Evaluates a sensor as the daemon does, carrying the cursor on."""

    def __init__(self, instance: dg.DagsterInstance, build=stage3_sensor, study: Study = STUDY):
        self.instance, self.cursor, self.message = instance, None, ""
        self.keys: list[str | None] = []
        self.sensor = build(study)
        self.repository = build_defs(study).get_repository_def()

    def tick(self) -> list[str | None]:
        context = dg.build_sensor_context(
            self.instance, cursor=self.cursor, repository_def=self.repository
        )
        data = self.sensor.evaluate_tick(context)
        self.cursor, self.message = data.cursor, data.skip_message or ""
        requests = data.run_requests or []
        self.keys += [request.run_key for request in requests]
        return [request.partition_key for request in requests]
