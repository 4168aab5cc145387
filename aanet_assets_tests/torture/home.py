"""A project's folder that may be maltreated, and the `aanet` processes that work in it.

Every `aanet` here is a process of its own. It is forked from a server that has the libraries loaded
already, which makes hundreds of starts affordable; whatever reads or writes a file happens after
the fork.
"""

import json
import multiprocessing
import os
import pkgutil
import shutil
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import aanet_assets
from aanet_assets.orchestration.pipeline import tables_of
from aanet_assets.storage import warehouse
from aanet_assets.storage.step import Partition
from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.small import small_study

PROJECT = Path(aanet_assets.__file__).parents[1]
STUDY = "small"
_STUDY_MODULE = """
from aanet_assets.orchestration.build import build_defs
from aanet_assets_tests.small import small_study

study = small_study()
defs = build_defs(study)
"""
_WORKSPACE = """
load_from:
  - python_file:
      relative_path: studies/small.py
      location_name: small
"""
_LIBRARIES = (
    "torch",
    "transformers",
    "sae_lens",
    "datasets",
    "sklearn.cluster",
    "matplotlib.pyplot",
)

_processes = multiprocessing.get_context("forkserver")


def load_libraries_once() -> None:
    """Have `aanet` processes start with everything imported; call before the first of them."""
    os.environ["OMP_NUM_THREADS"] = "1"
    modules = pkgutil.walk_packages(aanet_assets.__path__, "aanet_assets.")
    ours = [m.name for m in modules if not m.name.startswith("aanet_assets.defs.")]
    _processes.set_forkserver_preload([*_LIBRARIES, *ours])


class Home(NamedTuple):
    """The folder; `data/small` in it is the study's."""

    folder: Path

    @property
    def paths(self) -> StudyPaths:
        """Where the study's files lie."""
        return StudyPaths(self.folder / "data" / STUDY)

    def record(self, partition: Partition) -> Path:
        """Where the record of a partition lies."""
        return self.paths.records / partition.step.name / f"{partition.at.stem}.json"

    def files(self, partition: Partition) -> list[Path]:
        """The files of a partition that is there."""
        record = json.loads(self.record(partition).read_text())
        return [self.paths.root / name for name in record["files"]]

    def update_database(self) -> None:
        """Bring it in line with the files of the tables."""
        warehouse.update(self.paths, tables_of(small_study()))


def new_home(folder: Path) -> Home:
    """A project's folder with Dagster's settings, the shipped toy and the small study."""
    (folder / "studies").mkdir(parents=True)
    (folder / "data").mkdir()
    shutil.copy(PROJECT / "dagster.yaml", folder)
    (folder / "data" / "inputs").symlink_to(PROJECT / "data" / "inputs")
    (folder / "studies" / f"{STUDY}.py").write_text(_STUDY_MODULE)
    (folder / "workspace.yaml").write_text(_WORKSPACE)
    return Home(folder)


def copy_home(home: Home, folder: Path) -> Home:
    """Another one, with all that was made in the first."""
    shutil.copytree(home.folder, folder, symlinks=True)
    return Home(folder)


class Aanet:
    """A running `aanet` process."""

    def __init__(self, home: Home, *arguments: str):
        self._log = home.folder / f"aanet_{time.monotonic_ns()}.log"
        self._process: ForkServerProcess = _processes.Process(
            target=_aanet, args=(home.folder, self._log, arguments), daemon=True
        )
        self._log.touch()
        self._started = time.monotonic()
        self._process.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        self._process.join()
        self._log.unlink()

    def end(self) -> "Ended":
        """Wait for its end."""
        self._process.join()
        output = self._log.read_text()
        self._log.unlink()
        code = self._process.exitcode
        assert code is not None
        return Ended(code, output, time.monotonic() - self._started)


class Ended(NamedTuple):
    """What came of an `aanet` process."""

    code: int
    output: str
    seconds: float


def aanet(home: Home, *arguments: str) -> Ended:
    """Run `aanet` to its end."""
    return Aanet(home, *arguments).end()


def _aanet(folder: Path, log: Path, arguments: Sequence[str]) -> None:
    os.environ["AANET_HOME"] = os.environ["DAGSTER_HOME"] = str(folder)
    with log.open("wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    from aanet_assets import defs as studies
    from aanet_assets.cli import commands as cli
    from aanet_assets.science.activations import space

    # On the small disks that are filled up here nothing could begin.
    space.HEADROOM = 0
    studies.__path__ = [*studies.__path__, str(folder / "studies")]
    cli.app(arguments)
