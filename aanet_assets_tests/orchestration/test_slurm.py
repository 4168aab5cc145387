"""The launcher of Slurm's jobs, with commands that say what Slurm would; the real ones: scale/."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import dagster as dg
import pytest

from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.dagster_internals import LaunchRunContext, WorkerStatus
from aanet_assets.orchestration.materialise import uses_gpu
from aanet_assets.orchestration.slurm import SlurmError, SlurmRunLauncher
from aanet_assets_tests.small import small_study

STARTED, STARTING = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING
CANCELED, CANCELING = dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.CANCELING
SETTINGS = """
run_launcher:
  module: aanet_assets.orchestration.slurm
  class: SlurmRunLauncher
  config:
    options: [--mem=2000]
    gpu_options: [--gpus=1]
    log_folder: {logs}
"""


@cache
def grid(device: str) -> dg.JobDefinition:
    return build_defs(small_study(device=device)).resolve_job_def("small_stage1_grid")


def cpu_grid() -> dg.JobDefinition:
    return grid("cpu")


def gpu_grid() -> dg.JobDefinition:
    return grid("cuda")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slurm") / "new" / "logs"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, logs: Path) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path_factory.mktemp("instance")
    (folder / "dagster.yaml").write_text(SETTINGS.format(logs=logs))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


@pytest.fixture(scope="module")
def launcher(instance: dg.DagsterInstance) -> SlurmRunLauncher:
    launcher = instance.run_launcher
    assert isinstance(launcher, SlurmRunLauncher)
    return launcher


Says = Callable[..., Path]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Puts a command on the path that prints this; where it notes what it was called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    # Nothing else: Slurm may be installed here.
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, said: str = "", code: int = 0, error: str = "") -> Path:
        noted = folder / f"{name}.called"
        command = folder / name
        command.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >> {noted}\n'
            f"test {name} != sbatch || /bin/cat > {folder}/script\n"
            f"printf '{said}'\nprintf '{error}' >&2\nexit {code}\n"
        )
        command.chmod(0o755)
        return noted

    return write


def a_run(
    instance: dg.DagsterInstance,
    job: Callable[[], dg.JobDefinition] = cpu_grid,
    status: dg.DagsterRunStatus = STARTED,
) -> dg.DagsterRun:
    origin = dg.reconstructable(job).get_python_origin()
    return instance.create_run_for_job(job(), status=status, job_code_origin=origin)


@pytest.fixture(scope="module")
def started(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return a_run(instance)


def test_a_run_becomes_a_job_that_does_its_work(
    instance: dg.DagsterInstance,
    launcher: SlurmRunLauncher,
    says: Says,
    logs: Path,
    tmp_path: Path,
):
    noted = says("sbatch", "17;cluster\\n")
    run = a_run(instance, status=STARTING)

    launcher.launch_run(LaunchRunContext(run, None))

    called = noted.read_text().splitlines()
    log = logs / f"{run.run_id}.log"
    assert called == [
        "--parsable", "--mem=2000", f"--job-name=dagster-{run.run_id}", f"--output={log}",
        "--no-requeue",
    ]  # fmt: skip
    assert log.parent.is_dir()
    script = (tmp_path / "bin" / "script").read_text()
    assert script.startswith(f"#!/bin/sh\nexec {sys.executable} -m dagster api execute_run ")
    assert run.run_id in script
    # Quoted as a shell wants it.
    assert subprocess.run(["/bin/sh", "-n"], input=script, text=True).returncode == 0
    events = instance.all_logs(run.run_id, dg.DagsterEventType.ENGINE_EVENT)
    assert f"[SlurmRunLauncher] Slurm job 17; what it prints is in {log}." in [
        event.message for event in events
    ]


@pytest.mark.parametrize(("job", "asked"), [(cpu_grid, False), (gpu_grid, True)])
def test_runs_on_a_gpu_get_its_options(
    instance: dg.DagsterInstance,
    launcher: SlurmRunLauncher,
    says: Says,
    job: Callable[[], dg.JobDefinition],
    asked: bool,
):
    noted = says("sbatch", "1")
    run = a_run(instance, job, STARTING)
    # As the daemon has it, from the database.
    stored = instance.get_run_by_id(run.run_id)
    assert stored is not None

    launcher.launch_run(LaunchRunContext(stored, None))

    assert uses_gpu(stored) is asked
    assert ("--gpus=1" in noted.read_text().splitlines()) is asked


def test_steps_beside_the_device_ask_for_no_gpu(instance: dg.DagsterInstance):
    metrics = {dg.AssetKey(["small", "aanet_metrics"])}
    subset = gpu_grid().get_subset(asset_selection=metrics)
    run = instance.create_run_for_job(subset, asset_selection=metrics)
    assert not uses_gpu(run)


def test_without_sbatch_a_sentence_says_where_it_is(
    started: dg.DagsterRun, launcher: SlurmRunLauncher, says: Says
):
    with pytest.raises(SlurmError, match="the command sbatch is not there: Dagster's daemon must"):
        launcher.launch_run(LaunchRunContext(started, None))


def test_a_refusal_is_told_in_a_sentence(
    started: dg.DagsterRun, launcher: SlurmRunLauncher, says: Says
):
    says("sbatch", code=1, error="sbatch: error: invalid partition specified: nix\\n")
    with pytest.raises(SlurmError, match=r"was refused: sbatch: error: invalid .*: nix$"):
        launcher.launch_run(LaunchRunContext(started, None))


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("PENDING", WorkerStatus.RUNNING),
        ("RUNNING", WorkerStatus.RUNNING),
        ("COMPLETING", WorkerStatus.RUNNING),
        ("COMPLETED", WorkerStatus.SUCCESS),
        ("CANCELLED", WorkerStatus.FAILED),
        ("OUT_OF_MEMORY", WorkerStatus.FAILED),
        ("NODE_FAIL", WorkerStatus.FAILED),
    ],
)
def test_health_is_the_state_of_the_job(
    started: dg.DagsterRun,
    launcher: SlurmRunLauncher,
    says: Says,
    state: str,
    status: WorkerStatus,
):
    noted = says("squeue", f"17 {state}\\n")

    found = launcher.check_run_worker_health(started)

    assert (found.status, found.msg) == (status, f"Slurm job 17 is {state}")
    assert f"--name=dagster-{started.run_id}" in noted.read_text().splitlines()


def test_what_squeue_forgot_sacct_knows(
    started: dg.DagsterRun, launcher: SlurmRunLauncher, says: Says
):
    says("squeue")
    noted = says("sacct", "17|CANCELLED by 1000\\n")
    assert launcher.check_run_worker_health(started).msg == "Slurm job 17 is CANCELLED"
    # Slurm's clock may be behind that of the database, which gave the run its time.
    (since,) = [word for word in noted.read_text().split() if word.startswith("--starttime=")]
    asked = datetime.fromisoformat(since.partition("=")[2])
    assert datetime.now() - asked > timedelta(hours=2)
    says("sacct", code=1, error="Slurm accounting storage is disabled")
    found = launcher.check_run_worker_health(started)
    assert (found.status, found.msg) == (WorkerStatus.NOT_FOUND, "Slurm has no job of this run")


def test_a_controller_that_does_not_answer_kills_no_run(
    started: dg.DagsterRun, launcher: SlurmRunLauncher, says: Says
):
    says("squeue", code=1, error="slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(SlurmError, match="Unable to contact"):
        launcher.check_run_worker_health(started)


@pytest.mark.parametrize(
    ("job", "status", "then"),
    [
        ("17 RUNNING", STARTED, CANCELING),
        ("17 PENDING", STARTING, CANCELED),
        ("", STARTING, CANCELED),
    ],
)
def test_terminating_cancels_the_job(
    instance: dg.DagsterInstance,
    launcher: SlurmRunLauncher,
    says: Says,
    job: str,
    status: dg.DagsterRunStatus,
    then: dg.DagsterRunStatus,
):
    """One that runs says itself that it ends; one that waits cannot."""
    run = a_run(instance, status=status)
    says("squeue", job)
    noted = says("scancel")

    assert launcher.terminate(run.run_id)

    assert noted.read_text().splitlines() == [f"--name=dagster-{run.run_id}"]
    stored = instance.get_run_by_id(run.run_id)
    assert stored is not None
    assert stored.status == then
    if then == CANCELED:
        assert not launcher.terminate(run.run_id)


@pytest.mark.parametrize(
    ("said", "status", "then"),
    [
        ("17 FAILED", STARTING, dg.DagsterRunStatus.FAILURE),
        ("17 CANCELLED", STARTING, dg.DagsterRunStatus.FAILURE),
        ("17 PENDING", STARTING, STARTING),
        # Between Dagster's note that it launches the run and sbatch's answer.
        ("", STARTING, STARTING),
        # It has started in the meantime: Dagster's own monitoring looks after it.
        ("17 FAILED", STARTED, STARTED),
    ],
)
def test_a_job_that_died_before_its_run_started_fails_it(
    instance: dg.DagsterInstance,
    launcher: SlurmRunLauncher,
    says: Says,
    said: str,
    status: dg.DagsterRunStatus,
    then: dg.DagsterRunStatus,
):
    run = a_run(instance, status=status)
    says("squeue", said)

    launcher.fail_if_dead(run)

    stored = instance.get_run_by_id(run.run_id)
    assert stored is not None
    assert stored.status == then
