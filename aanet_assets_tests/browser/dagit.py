"""`dagster dev` on a project's folder of its own, started and stopped as a user would."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import dagster as dg
import pytest

from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets_tests.browser.study import SEED, study_with
from aanet_assets_tests.conftest import PROJECT

_STUDY = """
from aanet_assets.orchestration import automation
from aanet_assets.orchestration.build import build_defs
from aanet_assets_tests.browser.study import SEED, study_with

# Sensors look all the time, which would slow down other tests, where they have something to find.
if {seed} != SEED:
    automation.SENSOR_SECONDS = 10
study = study_with(seed={seed})
defs = build_defs(study)
"""
_LOCATION = """
  - python_module:
      module_name: small
      location_name: small
"""
_READY = """{
  workspaceOrError { ... on Workspace { locationEntries { loadStatus } } }
  instance { daemonHealth { allDaemonStatuses { required healthy } } }
}"""


class Dagit:
    """Dagit and its daemon on a folder, with the real studies and the small one."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "dagit.log"
        workspace = (PROJECT / "workspace.yaml").read_text()
        (folder / "workspace.yaml").write_text(workspace + _LOCATION)
        self.seed = SEED

    @property
    def seed(self) -> int:
        """Seed of the small study's AANets; a change is seen when Dagit reloads the study."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = seed
        (self.folder / "small.py").write_text(_STUDY.format(seed=seed))

    def make(self, n: int, *until: str) -> None:
        """What `aanet run small --until ... --n-clusters ...` does for each of these last steps."""
        # Playwright runs an event loop in the tests' own thread, and Dagster wants one, too.
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(self._make, n, until).result()

    def _make(self, n: int, until: Sequence[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AANET_HOME", str(self.folder))
            patch.setenv("DAGSTER_HOME", str(self.folder))
            patch.chdir(self.folder)
            study = study_with(self.seed)
            with dg.DagsterInstance.get() as instance:
                driver = Driver(study, instance)
                plans = (plan(study, until=last, n_clusters=[n]) for last in until)
                for partition in dict.fromkeys(chain.from_iterable(plans)):
                    if not driver.is_there(partition):
                        driver.materialise(partition)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The server, from its start to the end of its last process."""
        home = str(self.folder)
        path = os.pathsep.join((home, str(PROJECT)))
        environment = {"AANET_HOME": home, "DAGSTER_HOME": home, "PYTHONPATH": path}
        with self.log.open("w") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "dagster", "dev", "--port", str(self.port)],
                cwd=self.folder,
                env=os.environ | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield
            assert server.poll() is None, f"Dagit ended by itself: {self.log.read_text()}"
        finally:
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(30)
            # Of the server's session, nothing may outlive the tests.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()

    def wait_until_ready(self, seconds: float = 180) -> None:
        """Until all studies are loaded and all daemons have given a sign of life."""
        end = time.monotonic() + seconds
        while not self._is_ready():
            assert time.monotonic() < end, f"Dagit did not come up: {self.log.read_text()}"
            time.sleep(0.5)

    def _is_ready(self) -> bool:
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": _READY}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                data = json.load(answer)["data"]
        except OSError:
            return False
        loaded = data["workspaceOrError"]["locationEntries"]
        daemons = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(entry["loadStatus"] == "LOADED" for entry in loaded) and all(
            daemon["healthy"] for daemon in daemons if daemon["required"]
        )
