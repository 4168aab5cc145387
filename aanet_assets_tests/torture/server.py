"""`aanet ui` as a process of its own, and what is asked of it over GraphQL."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import Any

import psutil

from aanet_assets.storage.step import Partition, Step
from aanet_assets_tests.torture.home import PROJECT, STUDY, Home

BACKFILL = """
mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
_STATUS = """
query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  __typename ... on PartitionBackfill { status } ... on PythonError { message } } }
"""
_RUNS = "{ runsOrError { ... on Runs { results { status } } } }"
_LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }"
_UNFINISHED = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}
_START = "from aanet_assets.cli.commands import app; app(['ui', '--port', '{port}'])"


class Dagit:
    """Dagit of a home, with its daemon, started as users start it."""

    def __init__(self, home: Home):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._log = (home.folder / "dagit.log").open("ab")
        folder = str(home.folder)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START.format(port=self._port)],
            stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "AANET_HOME": folder, "DAGSTER_HOME": folder,
                 "PYTHONPATH": str(PROJECT)},
        )  # fmt: skip
        self.wait_until_up()

    def wait_until_up(self, seconds: float = 180) -> None:
        """Wait until it answers and knows the study."""
        give_up = time.monotonic() + seconds
        while True:
            try:
                answer = self.ask(_LOCATIONS)
                locations = answer["workspaceOrError"]["locationEntries"]
                if any(entry["loadStatus"] == "LOADED" for entry in locations):
                    return
            except OSError:
                pass
            if time.monotonic() > give_up:
                raise RuntimeError(f"Dagit did not come up; see {self._log.name}")
            time.sleep(0.5)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Answer of a GraphQL query; OSError while Dagit is not there."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = json.load(answer)
        if "errors" in content:
            raise RuntimeError(f"GraphQL: {content['errors']}")
        return content["data"]

    def backfill(self, steps: tuple[Step, ...], partitions: list[Partition]) -> str:
        """Launch a backfill of some assets over some partitions; its id."""
        parameters = {
            "assetSelection": [{"path": [STUDY, step.name]} for step in steps],
            "partitionNames": [partition.key for partition in partitions],
        }
        answer = self.ask(BACKFILL, p=parameters)["launchPartitionBackfill"]
        if "backfillId" not in answer:
            raise RuntimeError(f"no backfill: {answer}")
        return answer["backfillId"]

    def status_of_backfill(self, backfill: str) -> str:
        """As Dagit shows it; `COMPLETED_SUCCESS` is green."""
        return self.ask(_STATUS, id=backfill)["partitionBackfillOrError"]["status"]

    def unfinished_runs(self) -> int:
        """Runs that Dagster believes to be queued or going on."""
        runs = self.ask(_RUNS)["runsOrError"]["results"]
        return sum(run["status"] in _UNFINISHED for run in runs)

    def processes(self) -> list[psutil.Process]:
        """All of them, the first one first."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def stop(self) -> None:
        """As Ctrl-C does; what is left after a while is killed."""
        processes = self.processes() if self.process.poll() is None else []
        self.process.send_signal(signal.SIGINT)
        for process in psutil.wait_procs(processes, timeout=40)[1]:
            process.kill()
        self.process.wait()
        self._log.close()
