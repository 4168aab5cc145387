"""A project's folder of one's own, from the repository and from the built wheel."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from aanet_assets.cli.project import toy_study
from aanet_assets.orchestration.studies import load_study, load_study_file
from aanet_assets.study.settings import TruthSettings
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
    own = {"README.md", "pyproject.toml", "studies/mine.py"}
    assert own <= found
    for name in found - own:
        assert (empty / "own" / name).read_bytes() == (PROJECT / name).read_bytes(), name
    shipped = {f"data/inputs/{name}" for name in files_of(PROJECT / "data/inputs")}
    assert found - own == {"dagster.yaml", "workspace.yaml", *shipped}


@pytest.mark.parametrize("name", ["50%", "why?"])
def test_a_folder_in_which_nothing_would_run_is_not_made(empty: Path, name: str) -> None:
    assert f"has a {name[-1]}, with which Dagster's database" in said("init", name, code=1)
    assert not (empty / name).exists()


def test_the_way_into_a_folder_of_any_name_can_be_copied(empty: Path) -> None:
    told = said("init", "of [b]mine", code=0)
    assert f"{empty}/of [b]mine is ready. Next: cd 'of [b]mine' && aanet run toy" in told


@pytest.mark.parametrize("name", ["dagster.yaml", "studies"])
def test_what_is_there_is_not_written_over(empty: Path, name: str) -> None:
    (empty / name).mkdir()
    assert f"has a {name} already: name an empty or a new folder" in said("init", code=1)
    assert files_of(empty) == set()


@pytest.mark.parametrize("name", ["README.md", "pyproject.toml"])
def test_a_file_that_is_there_stays(empty: Path, name: str) -> None:
    (empty / name).write_text("mine")
    said("init", code=0)
    assert (empty / name).read_text() == "mine"


def test_the_projects_name_is_one_that_packaging_tools_take(empty: Path) -> None:
    said("init", "my project (2)", code=0)
    text = (empty / "my project (2)/pyproject.toml").read_text()
    assert tomllib.loads(text)["project"]["name"] == "my-project-2"


@pytest.mark.parametrize(
    "name", ["toy", "toy_large", "toy_product", "smollm2", "gpt2_small", "gemma_2_9b"]
)
def test_a_project_begins_with_a_copy_of_any_study(empty: Path, name: str) -> None:
    said("init", "--from", name, code=0)
    copied = load_study_file(empty / "studies/mine.py")
    shipped = load_study(name).study
    assert copied.name == "mine"
    as_shipped = copied.model_dump_json().replace("data/mine/", f"data/{name}/")
    assert json.loads(as_shipped) | {"name": name} == json.loads(shipped.model_dump_json())


def test_a_study_is_run_by_the_path_of_its_file(empty: Path) -> None:
    said("init", code=0)
    (empty / "elsewhere").mkdir()
    text = (empty / "studies/mine.py").read_text()
    (empty / "elsewhere/other.py").write_text(text.replace('name="mine"', 'name="other"'))
    (empty / "elsewhere/toy.py").write_text(text.replace('name="mine"', 'name="toy"'))
    assert "study" in said("plan", "elsewhere/other.py", code=0)
    output = said("run", "elsewhere/other.py", "--submit", code=1)
    assert "elsewhere/other.py is none of them: move it there" in output
    output = said("status", "elsewhere/toy.py", code=1)
    assert "defs/toy.py, whose results are in the same folder" in output
    assert "there is no study at" in said("status", "nowhere/other.py", code=1)
    # The project's own file is the project's own study.
    assert "study" in said("status", "studies/mine.py", code=0)


def test_a_process_of_a_file_becomes_a_study_like_the_toys(empty: Path) -> None:
    text = toy_study("own.json", 3, Path("data/inputs/own"))
    (empty / "own.py").write_text(text)
    study, toy = load_study_file(empty / "own.py"), load_study("toy").study
    assert (study.n_clusters, study.model) == ((2, 3, 4), "data/inputs/own/model")
    assert study.known_truth == TruthSettings(process="own.json", n_clusters=3)
    assert study.corpus.files == "data/own/corpus/*.parquet"
    same = toy.model_dump(
        exclude={"name", "description", "model", "sae", "corpus", "n_clusters", "truth"}
    )
    assert same.items() <= study.model_dump().items()


def test_a_process_of_a_class_becomes_a_study_named_after_its_module(empty: Path) -> None:
    said("init", code=0)
    text = toy_study("processes.own:Mine", 1, Path("data/inputs/own"))
    (empty / "studies/own.py").write_text(text)
    study = load_study_file(empty / "studies/own.py")
    assert (study.name, study.n_clusters, study.process) == ("own", (1, 2), "processes.own:Mine")
    assert study.shown_n_clusters == 1


def test_a_process_that_is_none_is_refused_before_any_work(empty: Path) -> None:
    said("init", code=0)
    (empty / "own.json").write_text("{")
    assert "own.json is no JSON" in said("train-toy", "--process", "own.json", code=1)
    assert "is not there" in said("train-toy", "--process", "no.json", code=1)
    assert "write the class Such into" in said("train-toy", "--process", "no:Such", code=1)
    assert "union7, union22" in said("train-toy", "--process", "union8", code=1)
    shutil.copy(PROJECT / "data/inputs/processes/benchmarks.json", empty / "Own 2.json")
    assert "Rename the file" in said("train-toy", "--process", "Own 2.json", code=1)


def test_a_study_that_is_none_is_not_copied(empty: Path) -> None:
    assert "there are: gemma_2_9b, gpt2_small, smollm2, toy" in said("init", "--from", "my", code=1)
    assert files_of(empty) == set()


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


def test_a_scaffolded_study_is_one_of_the_projects(empty: Path) -> None:
    said("init", code=0)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}

    def ran(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    component = "aanet_assets.orchestration.component.StudyComponent"
    ran("dagster_dg_cli.cli", "scaffold", "defs", component, "scaffolded")
    assert files_of(empty / "studies") == {"mine.py", "scaffolded/defs.yaml"}
    ran("dagster_dg_cli.cli", "check", "defs")
    (line,) = [line for line in ran("aanet_assets", "list").splitlines() if "scaffolded" in line]
    assert "0 of " in line


def test_the_built_wheel_works_in_an_empty_folder(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an environment of its own, which sees the packages of this one but not the repository."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
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
    for command in (["init"], ["run", "toy", "--until", "corpus"]):
        subprocess.run([aanet, *command], check=True)
    listed = subprocess.run([aanet, "list"], capture_output=True, text=True, check=True)
    assert "mine" in listed.stdout
    assert (empty / "data/toy/corpus").is_dir()
