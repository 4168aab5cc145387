"""Shared by all tests: checked types, a home of their own, and one small study run to its end."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

# Two threads on a busy two-core machine were up to 200 times slower than one. Set before any
# numerical library is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import dagster as dg
import pytest
import torch  # noqa: F401
import transformers.modeling_utils  # noqa: F401
from dagster._core.execution import compute_logs
from filelock import FileLock
from jaxtyping import install_import_hook
from sqlalchemy import Engine, event
from typer.testing import CliRunner

from aanet_assets_tests import checking

# Shapes and types of these packages are checked while they run. What they import would be
# compiled from its source, too; so torch and transformers, 2,000 modules, are imported above.
_CHECKED = ("science", "steps.checks", "explore")
install_import_hook(
    [f"aanet_assets.{package}" for package in _CHECKED], f"{checking.__name__}.checked"
)

from aanet_assets import defs as studies
from aanet_assets.cli import commands as cli
from aanet_assets.cli.terminal import heed_interrupts
from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.storage.records import Standing
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study

if TYPE_CHECKING:
    from aanet_assets.explore.server import Explorer

PROJECT = Path(__file__).parents[1]


@event.listens_for(Engine, "connect")
def _forgo_durability(connection: object, _: object) -> None:
    """Nobody needs the tests' Dagster after a power cut; syncing was half of a run's time."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


# What a step prints is in its log all the same; showing it, too, started four processes per step.
compute_logs.tail_to_stream = lambda path, stream: nullcontext()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of tests in an order in which neither of two processes waits for the other.

    Dagit's are the longest and come first; while their process makes the finished study, the other
    has those that do without it. The last ones are short.
    """
    fixtures: dict[Path, set[str]] = {}
    for item in items:
        fixtures.setdefault(item.path, set()).update(getattr(item, "fixturenames", ()))
    folders = list(dict.fromkeys(path.parent for path in fixtures))

    def place(item: pytest.Item) -> tuple[int, int]:
        if "dagit" in fixtures[item.path]:
            return 0, 0
        if "finished" in fixtures[item.path]:
            return 2, -folders.index(item.path.parent)
        return 1, 0

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project's folder of its own: Dagster's settings, the shipped toy, and nothing else."""
    heed_interrupts()
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(PROJECT / "dagster.yaml", folder)
    (folder / "data").mkdir()
    (folder / "data" / "inputs").symlink_to(PROJECT / "data" / "inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AANET_HOME", str(folder))
        patch.setenv("DAGSTER_HOME", str(folder))
        patch.chdir(folder)
        yield folder


class Finished(NamedTuple):
    """A study that has been run to its end."""

    study: Study
    instance: dg.DagsterInstance
    driver: Driver


@pytest.fixture(scope="session")
def finished(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """The small study, run through the driver on a real instance.

    Of several processes of tests the first that wants it makes it; the others take a copy.
    """
    study = small_study()
    made = tmp_path_factory.getbasetemp().parent / f"finished_{os.environ.get(_TEST_RUN, 'alone')}"
    with FileLock(f"{made}.lock"):
        if _TEST_RUN in os.environ and made.exists():
            for name in _OF_THE_STUDY:
                shutil.rmtree(home / name, ignore_errors=True)
                shutil.copytree(made / name, home / name)
        else:
            with dg.DagsterInstance.get() as instance:
                driver = Driver(study, instance)
                for partition in plan(study):
                    driver.materialise(partition)
            if _TEST_RUN in os.environ:
                for name in _OF_THE_STUDY:
                    shutil.copytree(home / name, made.with_suffix(".part") / name)
                made.with_suffix(".part").rename(made)
    with dg.DagsterInstance.get() as instance:
        yield Finished(study, instance, Driver(study, instance))


@pytest.fixture(scope="session")
def explorer(finished: Finished) -> Iterator["Explorer"]:
    """The page of `aanet serve` of the finished study, on a free port."""
    from aanet_assets.explore.opened import open_study
    from aanet_assets.explore.server import Explorer

    with Explorer(open_study(finished.study), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


_TEST_RUN = "PYTEST_XDIST_TESTRUNUID"
"""Set where tests run in several processes; the same in all of them."""
_OF_THE_STUDY = ("data/small", "data/.dagster")


_MODULE = """
from aanet_assets.orchestration.build import build_defs
from aanet_assets_tests.small import small_study

study = small_study({changes})
defs = build_defs(study)
"""


@pytest.fixture
def study_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a study module beside the shipped ones and tells its name, which is the study's.

    The label keeps several versions of one study apart; the one written last is loaded.
    """
    shipped = list(studies.__path__)

    def write(label: str, changes: str = "") -> str:
        named = re.search(r"\bname='(\w+)'", changes)
        name = named[1] if named else "small"
        folder = tmp_path / "studies" / label
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text(_MODULE.format(changes=changes))
        monkeypatch.setattr(studies, "__path__", [*shipped, str(folder)])
        monkeypatch.delitem(sys.modules, f"{studies.__name__}.{name}", raising=False)
        return name

    return write


def said(*arguments: str, code: int) -> str:
    """What a command prints, on one line; it ends with this code and without a stack trace."""
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return re.sub(r"\s+", " ", result.output)


@pytest.fixture
def copied(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The finished study in a project's folder of its own, with what Dagster knows of it."""
    home = tmp_path / "copy"
    before = finished.study.paths.root.parents[1]
    for name in _OF_THE_STUDY:
        shutil.copytree(before / name, home / name)
    shutil.copy(before / "dagster.yaml", home)
    (home / "data/inputs").symlink_to(before / "data/inputs")
    monkeypatch.setenv("AANET_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(home)
    return finished.study


def problems(study: Study) -> list[str]:
    """What is missing or stale, partition by partition."""
    standing = Standing(study)
    return [
        f"{partition} {problem}"
        for partition in partitions_of(study)
        if (problem := standing.problem(partition))
    ]


@contextmanager
def running(study_name: str) -> Iterator[subprocess.Popen[str]]:
    """`aanet run` of a study that `study_module` wrote, as a process of its own."""
    code = (
        "import sys; from aanet_assets import defs as studies; "
        "from aanet_assets.cli import commands as cli; "
        "studies.__path__.append(sys.argv[1]); cli.app(['run', sys.argv[2]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, studies.__path__[-1], study_name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    ) as process:
        yield process
