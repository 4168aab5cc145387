"""A study through Slurm and PostgreSQL, with the settings in deploy/slurm."""

import shutil
import subprocess
from collections.abc import Iterator

import dagster as dg
import pytest

from aanet_assets.steps.aanets import aanet_metrics, aanet_models
from aanet_assets.steps.activations import sae_fit
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.step import Step
from aanet_assets_tests.scale import servers
from aanet_assets_tests.scale.clusters import (
    GPU_STUDY,
    Cluster,
    open_cluster,
    scratch,
    wait_for,
)
from aanet_assets_tests.small import small_study
from aanet_assets_tests.torture.compare import State, differences, state
from aanet_assets_tests.torture.home import Home

pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed")
_MISSING = servers.missing_for_slurm()
pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(_MISSING is not None, reason=_MISSING or ""),
]
STARTING, STARTED = dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED
CANCELED = dg.DagsterRunStatus.CANCELED
FAILURE, SUCCESS = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS

_TERMINATE = """
mutation($id: String!) { terminateRun(runId: $id) {
  __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with (
        scratch() as folder,
        servers.slurm(folder / "slurm") as conf,
        # The nodes of this cluster are small.
        open_cluster(
            folder, "slurm", {"SLURM_CONF": str(conf)}, options=["--cpus-per-task=1", "--mem=2000"]
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def made(local: Home, cluster: Cluster) -> Cluster:
    """The cluster, where the study is there, whoever made it."""
    if not cluster.home.paths.root.exists():
        shutil.copytree(local.paths.root, cluster.home.paths.root)
    return cluster


def test_a_study_through_slurm_equals_the_local_run(expected: State, cluster: Cluster):
    cluster.run_all()

    assert differences(expected, state(cluster.home.paths)) == []
    runs = cluster.instance.get_runs()
    assert {run.status for run in runs} == {SUCCESS}
    # Slurm has worked on each of them. It forgets jobs, but what they printed is there.
    logs = cluster.home.folder / "data" / "slurm"
    assert {log.stem for log in logs.iterdir()} == {run.run_id for run in runs}
    assert {squeue("state")} == {"COMPLETED"}


def test_a_canceled_job_fails_its_run_and_is_queued_again(expected: State, made: Cluster):
    doomed = made.lose_in_training(cancel)
    assert status_of(made, doomed) == FAILURE
    assert differences(expected, state(made.home.paths)) == []


def test_a_job_canceled_while_it_waits_fails_its_run(made: Cluster):
    """Nothing of Dagster is there that could say so; `start_timeout_seconds` is two days."""
    cluster = made
    subprocess.run(["scontrol", "update", "PartitionName=all", "State=DOWN"], check=True)
    try:
        cluster.dagit.backfill((aanet_metrics,), list(aanet_metrics.all_of(small_study()))[:1])
        waiting = wait_for(lambda: next(iter(cluster.runs(STARTING)), None))
        wait_for(lambda: squeue("state", waiting) == "PENDING" or None)
        cancel(waiting)
        wait_for(lambda: status_of(cluster, waiting) == FAILURE or None, 60)
    finally:
        subprocess.run(["scontrol", "update", "PartitionName=all", "State=UP"], check=True)
    # It is tried again, as one that has started is.
    wait_for(lambda: not cluster.dagit.unfinished_runs() or None)


@pytest.mark.parametrize(("step", "gpus"), [(aanet_models, "gres:gpu:1"), (aanet_metrics, "N/A")])
def test_runs_of_a_backfill_get_a_gpu_if_they_hold_a_step_on_it(
    cluster: Cluster, step: Step, gpus: str
):
    before = {run.run_id for run in cluster.instance.get_runs()}
    first = next(iter(step.all_of(small_study())))
    cluster.backfill([[GPU_STUDY, step.name]], partitionNames=[first.key])

    def new() -> dg.DagsterRun | None:
        # It ends at once, since nothing is there that it reads.
        runs = cluster.runs(FAILURE)
        return next((run for run in runs if run.run_id not in before), None)

    assert squeue("tres-per-job", wait_for(new)) == gpus


def test_terminating_a_run_cancels_its_job(cluster: Cluster):
    # Both in one run, of which the second takes a while.
    assets = [step.asset_key(small_study()) for step in (corpus, sae_fit)]
    cluster.backfill(assets, allPartitions=True)
    going_on = wait_for(lambda: next(iter(cluster.runs(STARTED)), None))

    answer = cluster.dagit.ask(_TERMINATE, id=going_on.run_id)

    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess", answer
    wait_for(lambda: status_of(cluster, going_on) == CANCELED or None, 60)
    wait_for(lambda: squeue("state", going_on) == "CANCELLED" or None, 60)


def cancel(run: dg.DagsterRun) -> None:
    subprocess.run(["scancel", f"--name=dagster-{run.run_id}"], check=True)


def status_of(cluster: Cluster, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    stored = cluster.instance.get_run_by_id(run.run_id)
    assert stored is not None
    return stored.status


def squeue(field: str, run: dg.DagsterRun | None = None) -> str:
    """What Slurm says of a run's job; of all jobs, what they have in common."""
    named = [f"--name=dagster-{run.run_id}"] if run else []
    command = ["squeue", "--noheader", "--states=all", f"--Format={field}", *named]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return " ".join(sorted(set(said)))
