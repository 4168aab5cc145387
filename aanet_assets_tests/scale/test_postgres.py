"""Dagster's database goes away, and comes back: a PostgreSQL that is stopped as a crash would."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from aanet_assets import defs as studies
from aanet_assets.cli import commands as cli
from aanet_assets.steps.activations import activation_cache
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Outcome
from aanet_assets_tests.conftest import said
from aanet_assets_tests.scale import servers
from aanet_assets_tests.scale.clusters import (
    open_home,
    scratch,
    settings_of,
    wait_for,
)
from aanet_assets_tests.torture.home import PROJECT, Home
from aanet_assets_tests.torture.server import Dagit

pytest.importorskip("dagster_postgres", reason="the extra `postgres` is not installed")
_MISSING = servers.missing_for_postgres()
pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(_MISSING is not None, reason=_MISSING or ""),
]
AWAY = (
    "error the database of Dagster's state on 127.0.0.1 cannot be used: connection to server at "
    '"127.0.0.1", port {port} failed: Connection refused. What is finished is kept: start it, or '
    "correct the storage in dagster.yaml, then run again "
)
UNTIL = "codes_by_latent"


class Place(NamedTuple):
    home: Home
    database: servers.Postgres

    def made(self) -> set[str]:
        """Partitions that have a record."""
        records = self.home.paths.records
        return {path.relative_to(records).as_posix() for path in records.glob("*/*.json")}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The settings of one machine, but for the database."""
    settings = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    for part in ("storage", "local_artifact_storage", "compute_logs"):
        settings[part] = settings_of("slurm")[part]
    with scratch() as folder, open_home(folder, settings, {}) as (home, database):
        # What is in a project's folder is found when the package is loaded.
        monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(home.folder / "studies")])
        monkeypatch.delitem(sys.modules, f"{studies.__name__}.small", raising=False)
        yield Place(home, database)


def test_away_at_the_start_it_is_one_sentence(place: Place) -> None:
    place.database.stop()
    away = AWAY.format(port=place.database.port)
    commands = ("run small", "run small --submit", "run small --cancel", "ui", "doctor small")
    for command in commands:
        assert said(*command.split(), code=1) == away
    # What asks nothing of Dagster goes without it.
    assert "aanet_models" in said("status", "small", code=0)
    place.database.start()


def test_a_run_that_loses_it_says_so_and_goes_on_afterwards(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = activation_cache.work

    def lose(run: Run) -> Outcome:
        outcome = work(run)
        if run.at.shard == 1:
            place.database.stop()
        return outcome

    monkeypatch.setattr(activation_cache, "work", lose)
    result = CliRunner().invoke(cli.app, ["run", "small", "--until", UNTIL])
    assert result.exit_code == 1
    output = " ".join(result.stdout.split())
    assert output.endswith(AWAY.format(port=place.database.port).strip())
    # Dagster says beside it what it could not write, a line each.
    assert "Traceback" not in result.output
    monkeypatch.setattr(activation_cache, "work", work)
    made = place.made()
    # The one during which it went, too: its record is the last that is written.
    assert "activation_cache/shard1.json" in made
    assert said("status", "small", code=0)
    place.database.start()
    output = said("run", "small", "--until", UNTIL, code=0)
    assert "activation_cache 1 made, 2 already there" in output
    assert place.made() > made


def test_a_backfill_goes_on_when_it_is_back(place: Place) -> None:
    """`--submit` gives up; what is made goes on, and so does Dagit; asked again, all is there."""
    outputs: list[str] = []

    def submit() -> None:
        result = CliRunner().invoke(cli.app, ["run", "small", "--until", UNTIL, "--submit"])
        outputs.append(" ".join(result.output.split()))

    dagit = Dagit(place.home)
    try:
        watching = Thread(target=submit)
        watching.start()
        wait_for(lambda: "sae_fit/all.json" in place.made() or None)
        place.database.stop()
        made = place.made()
        watching.join()
        assert outputs[0].endswith(AWAY.format(port=place.database.port).strip())
        assert "Traceback" not in outputs[0]
        assert dagit.process.poll() is None
        place.database.start()
        output = said("run", "small", "--until", UNTIL, "--submit", code=0)
        assert "Watching what was submitted before" in output
        assert place.made() > made
    finally:
        dagit.stop()
        print((place.home.folder / "dagit.log").read_text()[-20_000:])


_SUBMIT = """
import sys
from aanet_assets.cli.commands import app
app(["run", "small", "--submit"])
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_of_two_that_submit_at_once_the_second_watches_the_first(
    place: Place, tmp_path: Path
) -> None:
    names = ("node7", "node8")
    outputs = [tmp_path / name for name in names]
    processes = []
    for name, output in zip(names, outputs, strict=True):
        command = f"hostname {name} && exec {sys.executable} -c '{_SUBMIT}'"
        with output.open("wb") as file:
            processes.append(
                subprocess.Popen(
                    ["unshare", "--uts", "sh", "-c", command], stdout=file, stderr=file,
                    env=dict(os.environ), start_new_session=True,
                )
            )  # fmt: skip

    def words() -> list[str] | None:
        found = [" ".join(output.read_text().split()) for output in outputs]
        return found if all("backfill " in one for one in found) else None

    first, second = sorted(wait_for(words))
    for process in processes:
        process.terminate()
        process.wait()
    with dg.DagsterInstance.from_config(str(place.home.folder)) as instance:
        (backfill,) = instance.get_backfills()
    assert f"(Study small, backfill {backfill.backfill_id})" in first
    assert "Watching what was submitted before: " in second
    assert f"partitions, backfill {backfill.backfill_id}." in second
    assert "Asked" not in second
