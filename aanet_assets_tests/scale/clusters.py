"""A project's folder whose runs go to an engine, with PostgreSQL and Dagit."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import dagster as dg
import pytest
import yaml

from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.steps.aanets import aanet_metrics, aanet_models
from aanet_assets_tests.scale import servers
from aanet_assets_tests.small import small_study
from aanet_assets_tests.torture.faults import unmake
from aanet_assets_tests.torture.home import PROJECT, Home, new_home
from aanet_assets_tests.torture.server import BACKFILL, Dagit

PATIENCE = 1800.0
_PASSWORD = "only/for:this test"
# Of a machine with GPUs, which the runs of this study look for in vain.
GPU_STUDY = "small_gpu"
_GPU_MODULE = f"""
from aanet_assets.orchestration.build import build_defs
from aanet_assets_tests.small import small_study

study = small_study(name="{GPU_STUDY}", device="cuda")
defs = build_defs(study)
"""
_GPU_LOCATION = f"""
  - python_file:
      relative_path: studies/{GPU_STUDY}.py
      location_name: {GPU_STUDY}
"""
_Found = TypeVar("_Found")


class Cluster(NamedTuple):
    """A project's folder whose runs go to an engine."""

    home: Home
    instance: dg.DagsterInstance
    dagit: Dagit

    def runs(self, status: dg.DagsterRunStatus) -> Sequence[dg.DagsterRun]:
        """Those of a status."""
        return self.instance.get_runs(dg.RunsFilter(statuses=[status]))

    def run_all(self) -> None:
        """Make the whole study in one backfill."""
        study = small_study()
        assets = [step.asset_key(study) for step in steps_of(study)]
        self.wait_until_green(self.backfill(assets, allPartitions=True))

    def backfill(self, assets: Sequence[Sequence[str]], **partitions: Any) -> str:
        """Launch a backfill of assets of any study; its id."""
        parameters = {"assetSelection": [{"path": path} for path in assets], **partitions}
        answer = self.dagit.ask(BACKFILL, p=parameters)["launchPartitionBackfill"]
        assert "backfillId" in answer, answer
        return answer["backfillId"]

    def lose_in_training(
        self,
        lose: Callable[[dg.DagsterRun], None],
        may_be_lost: Callable[[dg.DagsterRun], bool] = lambda _: True,
    ) -> dg.DagsterRun:
        """Make the grid anew, lose a run that is in the middle of it, wait for a green end.

        Returns: the run. It was queued again within a minute.
        """
        grid = list(aanet_models.all_of(small_study()))
        for partition in grid:
            unmake(self.home, partition, keep_files=False)
        before = {run.run_id for run in self.instance.get_runs()}

        def begun() -> dg.DagsterRun | None:
            for run in self.runs(dg.DagsterRunStatus.STARTED):
                step_start = dg.DagsterEventType.STEP_START
                has_begun = self.instance.all_logs(run.run_id, step_start)
                if run.run_id not in before and has_begun and may_be_lost(run):
                    return run
            return None

        backfill = self.dagit.backfill((aanet_models, aanet_metrics), grid)
        doomed = wait_for(begun)
        lose(doomed)
        lost = time.monotonic()

        def again() -> dg.DagsterRun | None:
            runs = self.instance.get_runs()
            return next((run for run in runs if run.parent_run_id == doomed.run_id), None)

        wait_for(again)
        seconds = time.monotonic() - lost
        print(f"queued again after {seconds:.0f} s")
        assert seconds < 60
        self.wait_until_green(backfill)
        return doomed

    def wait_until_green(self, backfill: str) -> None:
        """Wait for the end of a backfill and of all runs."""

        def ended() -> str | None:
            status = self.dagit.status_of_backfill(backfill)
            return status if status.startswith(("COMPLETED", "FAILED", "CANCELED")) else None

        assert wait_for(ended) == "COMPLETED_SUCCESS"
        wait_for(lambda: not self.dagit.unfinished_runs() or None)


def wait_for(found: Callable[[], _Found | None], seconds: float = PATIENCE) -> _Found:
    """Ask until there is an answer."""
    give_up = time.monotonic() + seconds
    while (it := found()) is None:
        assert time.monotonic() < give_up, "nothing came of it"
        time.sleep(0.5)
    return it


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes in the end, unless what was done in it failed."""
    # Not pytest's folder, into which the user that PostgreSQL runs as may not look.
    folder = Path(tempfile.mkdtemp(prefix="aanet_scale_"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def open_cluster(
    folder: Path, engine: str, environment: Mapping[str, str], **launcher: Any
) -> Iterator[Cluster]:
    """Dagit with the settings in deploy/<engine>, some of the launcher's changed."""
    settings = settings_of(engine)
    settings["run_launcher"]["config"] |= launcher
    with open_home(folder, settings, environment) as (home, _):
        (home.folder / "studies" / f"{GPU_STUDY}.py").write_text(_GPU_MODULE)
        with (home.folder / "workspace.yaml").open("a") as workspace:
            workspace.write(_GPU_LOCATION)
        dagit = Dagit(home)
        try:
            with dg.DagsterInstance.from_config(str(home.folder)) as instance:
                yield Cluster(home, instance, dagit)
        finally:
            dagit.stop()


def settings_of(engine: str) -> dict[str, Any]:
    """The dagster.yaml in deploy/<engine>."""
    return yaml.safe_load((PROJECT / "deploy" / engine / "dagster.yaml").read_text())


@contextmanager
def open_home(
    folder: Path, settings: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[tuple[Home, servers.Postgres]]:
    """A project's folder, as this process is in it, with a PostgreSQL of its own."""
    home = new_home(folder / "home")
    (home.folder / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with (
        pytest.MonkeyPatch.context() as patch,
        servers.postgres(folder / "postgres", _PASSWORD) as database,
    ):
        for name, value in {
            **environment,
            "AANET_PG_HOST": "127.0.0.1",
            "AANET_PG_PORT": str(database.port),
            "AANET_PG_USER": "dagster",
            "AANET_PG_PASSWORD": _PASSWORD,
            "AANET_PG_DATABASE": "postgres",
            "AANET_HOME": str(home.folder),
            "DAGSTER_HOME": str(home.folder),
            "AANET_DAGSTER_FILES": str(home.folder / "data" / ".dagster"),
            "AANET_COMPUTE_LOGS": str(home.folder / "data" / ".dagster" / "compute_logs"),
            "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
        }.items():
            patch.setenv(name, value)
        patch.chdir(home.folder)
        yield home, database
