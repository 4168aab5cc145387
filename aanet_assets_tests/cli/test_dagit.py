"""Dagit with real processes: its daemon is killed, then everything at once. Takes minutes."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import dagster as dg
import psutil
import pytest
import typer

from aanet_assets.cli import dagit
from aanet_assets.cli.terminal import stop
from aanet_assets.orchestration.orphans import mend_orphans, orphaned_runs
from aanet_assets_tests.conftest import PROJECT

_SLEEPER = """
import time
import dagster as dg
from aanet_assets.orchestration.orphans import report_process

@dg.asset(key=["small", "corpus"])
def sleeper(context: dg.AssetExecutionContext):
    report_process(context.instance, context.run)
    time.sleep(600)

defs = dg.Definitions(
    assets=[sleeper],
    jobs=[dg.define_asset_job("sleep", tags={"aanet/study": "small"})],
    executor=dg.in_process_executor,
)
"""
_PORT = "3965"
_T = TypeVar("_T")


def wait_for(what: Callable[[], _T | None], seconds: float = 120) -> _T:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.2)
    return found


@pytest.fixture
def ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen]:
    """`aanet ui` in a project's folder with one asset that sleeps."""
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    (tmp_path / "sleeper.py").write_text(_SLEEPER)
    (tmp_path / "workspace.yaml").write_text("load_from: [{python_file: sleeper.py}]")
    monkeypatch.chdir(tmp_path)
    for name in ("AANET_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    command = "from aanet_assets.cli.commands import app; app()"
    with subprocess.Popen(
        [sys.executable, "-c", command, "ui", "--port", _PORT],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def under(process: subprocess.Popen, words: str) -> psutil.Process | None:
    for child in psutil.Process(process.pid).children(recursive=True):
        # One that was killed may still be there, without a command line.
        with contextlib.suppress(psutil.NoSuchProcess):
            if words in " ".join(child.cmdline()):
                return child
    return None


class _Dagit:
    """Ends at once, the first time by itself and the second time because it was asked to."""

    started = 0

    def __init__(self, *_: object, **__: object):
        type(self).started += 1

    def wait(self) -> None:
        if self.started == 2:
            signal.raise_signal(signal.SIGINT)

    def send_signal(self, _: int) -> None:
        pass


def test_dagit_waits_for_a_database_that_went_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([None, "away", "away", None])

    @contextlib.contextmanager
    def open_instance() -> Iterator[None]:
        if next(answers):
            raise stop("the database is away")
        yield

    for name, value in {"open_instance": open_instance, "mend_orphans": lambda _: None,
                        "_SOON": 0.0, "_PAUSE": 0}.items():  # fmt: skip
        monkeypatch.setattr(dagit, name, value)
    monkeypatch.setattr(dagit.subprocess, "Popen", _Dagit)
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {name: signal.getsignal(name) for name in names}
    try:
        dagit.serve("127.0.0.1", 1)
        assert _Dagit.started == 2
        assert capsys.readouterr().out.count("starts again when that is mended") == 2
        # At the start somebody is there to read it.
        answers = iter(["away"])
        with pytest.raises(typer.Exit):
            dagit.serve("127.0.0.1", 1)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@pytest.mark.slow
def test_dagit_outlives_its_daemon_and_a_crash_needs_no_human(ui: subprocess.Popen) -> None:
    daemon = wait_for(lambda: under(ui, "dagster._daemon"))
    time.sleep(40)  # an earlier end counts as a wrong setting, and is not repaired
    launch = ["dagster", "job", "launch", "-w", "workspace.yaml", "-j", "sleep"]
    subprocess.run(
        [sys.executable, "-m", *launch],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    with dg.DagsterInstance.get() as instance:
        started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        (run,) = wait_for(lambda: instance.get_runs(started))
        daemon.kill()
        again = wait_for(lambda: (d := under(ui, "dagster._daemon")) and d.pid != daemon.pid and d)
        time.sleep(5)
        assert orphaned_runs(instance) == [], "the run goes on without the daemon"
        events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        (pid,) = re.findall(r"Started process for run \(pid: (\d+)\)", str(events))
        worker = psutil.Process(int(pid))
        # Parents first: none is left to say that its child has died.
        dagit = [psutil.Process(ui.pid), *psutil.Process(ui.pid).children(recursive=True)]
        servers = [p for p in worker.parents() if "grpc" in p.cmdline()]
        assert again in dagit
        for process in (*dagit, *servers, worker):
            if process.is_running():
                process.kill()
        ui.wait()
        wait_for(lambda: not psutil.pid_exists(worker.pid))
        assert instance.get_runs(started), "nobody was there to notice"
        assert mend_orphans(instance) == 1
        assert not instance.get_runs(started)
