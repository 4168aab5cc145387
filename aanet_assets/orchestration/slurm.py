"""Dagster's runs as jobs of Slurm: a run launcher over sbatch, squeue and scancel.

In dagster.yaml it is `module: aanet_assets.orchestration.slurm`, `class: SlurmRunLauncher`;
docs/scale.md tells what else a cluster needs. A job is found by its name, which holds the run's id:
whatever happens between sbatch and the next look, no job is lost, and a run that repeats another
one, with copies of its tags, never takes that one's job for its own.
"""

import logging
import shlex
import subprocess
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import dagster as dg

from aanet_assets.orchestration.dagster_internals import (
    CheckRunHealthResult,
    ConfigurableClass,
    ConfigurableClassData,
    ExecuteRunArgs,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
)
from aanet_assets.orchestration.materialise import uses_gpu

# A state that is none of these may be one in which the job still comes to its end by itself.
_DEAD = {
    "BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "REVOKED", "TIMEOUT",
}  # fmt: skip
_PATIENCE = 60.0
_BETWEEN_LOOKS = 15.0

log = logging.getLogger("aanet")


class SlurmError(RuntimeError):
    """A command of Slurm is missing, refuses or does not answer; the message is for people."""


class Job(NamedTuple):
    """A job of Slurm that works on a run."""

    number: str
    state: str


class SlurmRunLauncher(RunLauncher, ConfigurableClass):
    """Hands each run to Slurm as a job of its own, which waits there for a place.

    Args:
        options: of sbatch, for every run, such as `--partition=long`.
        gpu_options: of sbatch, after those, for runs that hold a step on a CUDA device.
        log_folder: where jobs write what they print, one file per run; seen by all nodes.
        inst_data: how Dagster's settings name this launcher.
    """

    def __init__(
        self,
        options: Sequence[str] = (),
        gpu_options: Sequence[str] = (),
        log_folder: str = "data/slurm",
        inst_data: ConfigurableClassData | None = None,
    ):
        self._options, self._gpu_options = list(options), list(gpu_options)
        self._logs = Path(log_folder)
        self._inst_data = inst_data
        self._watch: threading.Thread | None = None
        self._over = threading.Event()
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """How Dagster's settings name this launcher."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """What dagster.yaml may say of it."""
        return {
            "options": dg.Field([dg.StringSource], default_value=[]),
            "gpu_options": dg.Field([dg.StringSource], default_value=[]),
            "log_folder": dg.Field(dg.StringSource, default_value="data/slurm"),
        }

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> Self:
        """The launcher that dagster.yaml describes."""
        return cls(**config_value, inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Hand a run to sbatch.

        Raises:
            SlurmError: sbatch is missing or does not take the job; Dagster then fails the run.
        """
        run, origin = context.dagster_run, context.job_code_origin
        if origin is None:
            raise SlurmError(f"run {run.run_id} does not say where its code is: launch it in Dagit")
        work = ExecuteRunArgs(
            origin, run.run_id, self._instance.get_ref(), set_exit_code_on_failure=True
        )
        self._logs.mkdir(parents=True, exist_ok=True)
        prints = self._prints(run)
        # Dagster would call itself `dagster`, which is found only where an environment was entered.
        *_, api, execute, what = work.get_command_args()
        command = [origin.executable_path, "-m", "dagster", api, execute, what]
        said = _slurm(
            "sbatch", "--parsable", *self._options, *(self._gpu_options if uses_gpu(run) else ()),
            f"--job-name={_name(run.run_id)}", f"--output={prints}",
            # A job that Slurm starts anew would work on a run that counts as going on or failed.
            "--no-requeue",
            # The shell makes way: Slurm's signals reach the run, which then says what became of it.
            script=f"#!/bin/sh\nexec {shlex.join(command)}\n",
        )  # fmt: skip
        number = said.strip().partition(";")[0]
        self._instance.report_engine_event(
            f"Slurm job {number}; what it prints is in {prints}.", run, cls=self.__class__
        )
        self._watch_starting_runs()

    def terminate(self, run_id: str) -> bool:
        """Cancel a run's job; whether there was anything to cancel.

        The run's process is told to end and says itself that it was canceled; Slurm kills it where
        it does not within the cluster's KillWait.

        Raises:
            SlurmError: Slurm does not answer.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        job = _in_queue(run_id)
        _slurm("scancel", f"--name={_name(run_id)}")
        if job is None or job.state == "PENDING" or job.state in _DEAD:
            # It has no process that could say so.
            self._instance.report_run_canceled(run)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Dagster's monitoring asks this launcher whether runs are alive."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether a run's job is there.

        Raises:
            SlurmError: Slurm does not answer. The run stays as it is, since Dagster fails all whose
                health is not known to be good.
        """
        self._watch_starting_runs()
        job = self._job(run)
        if job is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "Slurm has no job of this run")
        said = f"Slurm job {job.number} is {job.state}"
        status = WorkerStatus.FAILED if job.state in _DEAD else WorkerStatus.RUNNING
        if job.state == "COMPLETED":
            status = WorkerStatus.SUCCESS
        return CheckRunHealthResult(status, said, run_worker_id=job.number)

    def get_run_worker_debug_info(
        self, run: dg.DagsterRun, include_container_logs: bool | None = True
    ) -> str | None:
        """Where to look when a run failed without a word of its own."""
        return f"What the job printed is in {self._prints(run)}"

    def dispose(self) -> None:
        """Look after no run any more."""
        self._over.set()

    def fail_if_dead(self, run: dg.DagsterRun) -> None:
        """Fail a run that has not started yet if its job is gone without having started it.

        Such a job was canceled while it waited, or could not run Python. Dagster's monitoring looks
        at the health of runs that have started, and lets others wait for `start_timeout_seconds`.

        Raises:
            SlurmError: Slurm does not answer.
        """
        job = self._job(run)
        if job is None or job.state not in _DEAD:
            return
        now = self._instance.get_run_by_id(run.run_id)
        if now is not None and now.status == dg.DagsterRunStatus.STARTING:
            said = f"Slurm job {job.number} is {job.state} and has not started the run"
            self._instance.report_run_failed(now, f"{said}; what it printed: {self._prints(run)}")

    def _watch_starting_runs(self) -> None:
        if self._watch is None or not self._watch.is_alive():
            self._watch = threading.Thread(target=self._look_after_starting_runs, daemon=True)
            self._watch.start()

    def _look_after_starting_runs(self) -> None:
        """In a thread of Dagster's daemon, as long as there are such runs."""
        starting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])
        while not self._over.wait(_BETWEEN_LOOKS):
            try:
                runs = self._instance.get_runs(starting)
                for run in runs:
                    self.fail_if_dead(run)
            except Exception:
                # Slurm's controller or the database is away for a while.
                log.exception("runs that start could not be looked after")
            else:
                if not runs:
                    return

    def _prints(self, run: dg.DagsterRun) -> Path:
        return self._logs.resolve() / f"{run.run_id}.log"

    def _job(self, run: dg.DagsterRun) -> Job | None:
        return _in_queue(run.run_id) or self._of_the_past(run)

    def _of_the_past(self, run: dg.DagsterRun) -> Job | None:
        """A job that squeue has forgotten, where the cluster keeps accounts."""
        record = self._instance.get_run_record_by_id(run.run_id)
        if record is None:
            return None
        try:
            # Without a time, sacct tells of today alone. The run's is by another clock than the
            # job's, which may be behind; no other job has the name.
            since = record.create_timestamp.astimezone() - timedelta(days=1)
            said = _slurm(
                "sacct", "--noheader", "--parsable2", "--allocations", "--format=JobIDRaw,State",
                f"--name={_name(run.run_id)}", f"--starttime={since:%Y-%m-%dT%H:%M:%S}",
            )  # fmt: skip
        except SlurmError:
            return None
        return _last_job(said.replace("|", " "))


def _name(run_id: str) -> str:
    return f"dagster-{run_id}"


def _in_queue(run_id: str) -> Job | None:
    """A run's job as squeue has it, which forgets what ended minutes ago (MinJobAge)."""
    return _last_job(
        _slurm("squeue", "--noheader", "--states=all", "--format=%A %T", f"--name={_name(run_id)}")
    )


def _last_job(lines: str) -> Job | None:
    # sacct says who it was: "17 CANCELLED by 1000".
    jobs = [Job(*line.split()[:2]) for line in lines.splitlines() if len(line.split()) > 1]
    return jobs[-1] if jobs else None


def _slurm(command: str, *arguments: str, script: str | None = None) -> str:
    """What a command of Slurm prints.

    Raises:
        SlurmError: it is missing, refuses or does not answer.
    """
    try:
        done = subprocess.run(
            [command, *arguments], input=script, text=True, capture_output=True, timeout=_PATIENCE
        )
    except FileNotFoundError as error:
        raise SlurmError(
            f"the command {command} is not there: Dagster's daemon must run on a machine that has "
            "Slurm's commands, such as a login node"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command} did not answer within {_PATIENCE:.0f} s") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise SlurmError(f"{shlex.join([command, *arguments])} was refused: {said}")
    return done.stdout
