"""A study through Slurm and PostgreSQL, with the settings in deploy/slurm."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import dagster as dg
import pytest
import yaml

from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.steps.aanets import aanet_metrics, aanet_models
from aanet_assets_tests.scale import servers
from aanet_assets_tests.small import small_study
from aanet_assets_tests.torture.compare import State, differences, state
from aanet_assets_tests.torture.faults import unmake
from aanet_assets_tests.torture.home import PROJECT, Home, new_home
from aanet_assets_tests.torture.server import BACKFILL, Dagit

pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed")
_MISSING = servers.missing()
pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(_MISSING is not None, reason=_MISSING or ""),
]

_PASSWORD = "only/for:this test"
_PATIENCE = 1800.0
_Found = TypeVar("_Found")


class Cluster(NamedTuple):
    """A project's folder whose runs go to Slurm."""

    home: Home
    instance: dg.DagsterInstance
    dagit: Dagit


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Servers, and Dagit on them; everything goes when the tests are over."""
    # Not pytest's folder, into which the user that PostgreSQL runs as may not look.
    folder = Path(tempfile.mkdtemp(prefix="aanet_scale_"))
    folder.chmod(0o755)
    home = new_home(folder / "home")
    settings = yaml.safe_load((PROJECT / "deploy/slurm/dagster.yaml").read_text())
    # The nodes of this cluster are small.
    settings["run_launcher"]["config"]["options"] = ["--cpus-per-task=1", "--mem=2000"]
    (home.folder / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with (
        pytest.MonkeyPatch.context() as patch,
        servers.postgres(folder / "postgres", _PASSWORD) as port,
        servers.slurm(folder / "slurm") as conf,
    ):
        for name, value in {
            "SLURM_CONF": str(conf),
            "AANET_PG_HOST": "127.0.0.1",
            "AANET_PG_PORT": str(port),
            "AANET_PG_USER": "dagster",
            "AANET_PG_PASSWORD": _PASSWORD,
            "AANET_PG_DATABASE": "postgres",
            "AANET_HOME": str(home.folder),
            "DAGSTER_HOME": str(home.folder),
        }.items():
            patch.setenv(name, value)
        patch.chdir(home.folder)
        dagit = Dagit(home)
        try:
            with dg.DagsterInstance.from_config(str(home.folder)) as instance:
                yield Cluster(home, instance, dagit)
        finally:
            dagit.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> State:
    """All files and tables of the study, run in this process."""
    home = new_home(tmp_path_factory.mktemp("local") / "home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AANET_HOME", "DAGSTER_HOME"):
            patch.setenv(name, str(home.folder))
        patch.chdir(home.folder)
        with dg.DagsterInstance.get() as instance:
            driver = Driver(small_study(), instance)
            for partition in plan(small_study()):
                driver.materialise(partition)
    return state(home.paths)


def test_a_study_through_slurm_equals_the_local_run(expected: State, cluster: Cluster):
    study = small_study()
    answer = cluster.dagit.ask(
        BACKFILL,
        p={
            "assetSelection": [{"path": step.asset_key(study)} for step in steps_of(study)],
            "allPartitions": True,
        },
    )["launchPartitionBackfill"]
    assert "backfillId" in answer, answer

    _wait_until_green(cluster, answer["backfillId"])

    assert differences(expected, state(cluster.home.paths)) == []
    runs = cluster.instance.get_runs()
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    # Slurm has worked on each of them, and nobody else.
    names = _squeue("%j").split()
    assert sorted(names) == sorted(f"dagster-{run.run_id}" for run in runs)
    assert all((cluster.home.folder / f"data/slurm/{run.run_id}.log").exists() for run in runs)


def test_a_canceled_job_fails_its_run_and_is_queued_again(expected: State, cluster: Cluster):
    grid = aanet_models.all_of(small_study())
    for partition in grid:
        unmake(cluster.home, partition, keep_files=False)
    before = {run.run_id for run in cluster.instance.get_runs()}

    def begun() -> dg.DagsterRun | None:
        for run in cluster.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            started = dg.DagsterEventType.STEP_START
            if run.run_id not in before and cluster.instance.all_logs(run.run_id, started):
                return run
        return None

    backfill = cluster.dagit.backfill((aanet_models, aanet_metrics), list(grid))
    doomed = _wait(begun)
    subprocess.run(["scancel", f"--name=dagster-{doomed.run_id}"], check=True)
    canceled = time.monotonic()

    def again() -> dg.DagsterRun | None:
        return next(
            (r for r in cluster.instance.get_runs() if r.parent_run_id == doomed.run_id), None
        )

    _wait(again)
    seconds = time.monotonic() - canceled
    failed = cluster.instance.get_run_by_id(doomed.run_id)
    assert failed is not None
    assert failed.status == dg.DagsterRunStatus.FAILURE
    print(f"queued again after {seconds:.0f} s")
    assert seconds < 60
    _wait_until_green(cluster, backfill)
    assert differences(expected, state(cluster.home.paths)) == []


def _squeue(form: str) -> str:
    command = ["squeue", "--noheader", "--states=all", f"--format={form}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _wait(found: Callable[[], _Found | None], seconds: float = _PATIENCE) -> _Found:
    give_up = time.monotonic() + seconds
    while (it := found()) is None:
        assert time.monotonic() < give_up, "nothing came of it"
        time.sleep(0.5)
    return it


def _wait_until_green(cluster: Cluster, backfill: str) -> None:
    def ended() -> str | None:
        status = cluster.dagit.status_of_backfill(backfill)
        return status if status.startswith(("COMPLETED", "FAILED", "CANCELED")) else None

    assert _wait(ended) == "COMPLETED_SUCCESS"
    assert cluster.dagit.unfinished_runs() == 0


def test_a_job_canceled_while_it_waits_fails_its_run(cluster: Cluster):
    """Nothing of Dagster is there that could say so; `start_timeout_seconds` would be two days."""
    subprocess.run(["scontrol", "update", "PartitionName=all", "State=DOWN"], check=True)
    try:
        cluster.dagit.backfill((aanet_metrics,), list(aanet_metrics.all_of(small_study()))[:1])
        waiting = _wait(lambda: next(iter(_starting(cluster)), None))
        _wait(lambda: "PENDING" in _squeue("%T") or None)
        subprocess.run(["scancel", f"--name=dagster-{waiting.run_id}"], check=True)

        _wait(lambda: waiting not in _starting(cluster) or None, 90)
    finally:
        subprocess.run(["scontrol", "update", "PartitionName=all", "State=UP"], check=True)

    failed = cluster.instance.get_run_by_id(waiting.run_id)
    assert failed is not None
    assert failed.status == dg.DagsterRunStatus.FAILURE
    _wait(lambda: not cluster.dagit.unfinished_runs() or None)


def _starting(cluster: Cluster) -> Sequence[dg.DagsterRun]:
    return cluster.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
