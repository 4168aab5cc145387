"""A project's folder of one's own, from the repository and from the built wheel."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from aanet_assets_tests.conftest import PROJECT, said


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, which is nobody's project."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("AANET_HOME", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def files_of(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_a_new_project_has_what_the_repository_has_and_a_study(empty: Path) -> None:
    assert "is ready. Next: cd own && aanet run toy" in said("init", "own", code=0)
    found = files_of(empty / "own")
    own = {"README.md", "studies/mine.py"}
    assert own <= found
    for name in found - own:
        assert (empty / "own" / name).read_bytes() == (PROJECT / name).read_bytes(), name
    shipped = {f"data/inputs/{name}" for name in files_of(PROJECT / "data/inputs")}
    assert found - own == {"dagster.yaml", "workspace.yaml", *shipped}


@pytest.mark.parametrize("name", ["dagster.yaml", "studies"])
def test_what_is_there_is_not_written_over(empty: Path, name: str) -> None:
    (empty / name).mkdir()
    assert f"has a {name} already: name an empty or a new folder" in said("init", code=1)
    assert files_of(empty) == set()


def test_a_readme_that_is_there_stays(empty: Path) -> None:
    (empty / "README.md").write_text("mine")
    said("init", code=0)
    assert (empty / "README.md").read_text() == "mine"


def test_the_studies_of_a_project_are_found_from_its_folder(empty: Path) -> None:
    said("init", code=0)
    (empty / "studies/broken.py").write_text("study = ")
    command = [sys.executable, "-m", "aanet_assets", "list"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (mine,) = [line for line in listed.stdout.splitlines() if " mine " in line]
    assert "put yours in their places" in mine
    assert "0 of 97" in mine
    (broken,) = [line for line in listed.stdout.splitlines() if " broken " in line]
    assert "studies/broken.py, line 1" in broken


@pytest.mark.slow
def test_the_built_wheel_works_in_an_empty_folder(empty: Path, tmp_path: Path) -> None:
    """In an environment of its own, which sees the packages of this one but not the repository."""
    source, wheels, environment = (tmp_path / name for name in ("source", "wheels", "environment"))
    # A build leaves folders behind where it takes place.
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns(".*", "data"))
    shutil.copytree(PROJECT / "data/inputs", source / "data/inputs")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(wheels)]
    subprocess.run([*pip, str(source)], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    install = [str(environment / "bin/pip"), "install", "--no-deps", str(wheel)]
    subprocess.run(install, check=True)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    aanet = str(environment / "bin/aanet")
    for command in (["init"], ["run", "toy", "--until", "activation_cache"]):
        subprocess.run([aanet, *command], check=True)
    listed = subprocess.run([aanet, "list"], capture_output=True, text=True, check=True)
    assert "mine" in listed.stdout
    assert (empty / "data/toy/activation_cache").is_dir()
