"""The command line in folders, locales and systems of all kinds, and how it is started."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from aanet_assets.cli.terminal import open_instance, state_problem
from aanet_assets_tests.conftest import PROJECT, Finished, said


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python process that finds the project."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
    )


def new_home(folder: Path) -> Path:
    """An empty project's folder."""
    folder.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", folder)
    return folder


def test_outside_the_projects_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    assert "is not a project's folder (it has no dagster.yaml)" in said("status", "toy", code=1)


def test_list_and_version_load_no_torch() -> None:
    code = (
        "import sys; from aanet_assets.cli.commands import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print({'torch', 'transformers'} & sys.modules.keys())"
    )
    for argument in ("list", "--version"):
        done = python("-c", code, argument)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("set()\n")


def test_the_version_is_the_packages() -> None:
    (version,) = re.findall(r'(?m)^version = "(.*)"', (PROJECT / "pyproject.toml").read_text())
    assert said("--version", code=0).strip() == f"aanet {version}"


@pytest.mark.parametrize(
    "module", ["aanet_assets", "aanet_assets.cli", "aanet_assets.cli.commands"]
)
def test_python_runs_the_command_line_too(module: str) -> None:
    done = python("-m", module, "status", "nowhere")
    assert done.returncode == 1
    assert "there is no study 'nowhere'" in done.stdout


def test_windows_is_named_as_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "use it in WSL" in said("list", code=1)


@pytest.mark.parametrize("character", ["%", "?", "\\"])
def test_a_folder_that_the_databases_cannot_bear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, character: str
) -> None:
    monkeypatch.setenv("AANET_HOME", str(new_home(tmp_path / f"mine{character}41")))
    assert f"has a {character}, with which" in said("list", code=1)


@pytest.mark.parametrize("letters", ["with space", "ünï", "it's", "a#b&c", "a[b]c"])
def test_a_folder_with_other_letters_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, letters: str
) -> None:
    home = new_home(tmp_path / letters)
    monkeypatch.setenv("AANET_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(home)
    with open_instance() as instance:
        assert instance.get_runs_count() == 0
    assert (home / "data/.dagster/history/runs.db").exists()


def test_an_exported_dagster_home_is_not_the_projects(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(other))
    with open_instance() as instance:
        assert Path(instance.root_directory).resolve() == home / "data/.dagster"
        assert instance.run_retries_enabled, "as the project's dagster.yaml has it"
    assert f"DAGSTER_HOME is {other}; what is used is the project's" in capsys.readouterr().out
    assert not list(other.iterdir())
    assert os.environ["DAGSTER_HOME"] == str(home), "for Dagit, which is started from here"
    with open_instance():
        assert capsys.readouterr().out == ""


def test_dagsters_own_folder_by_another_name_is_not_another(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("DAGSTER_HOME", f"{tmp_path / 'link'}/")
    with open_instance() as instance:
        assert isinstance(instance, dg.DagsterInstance)
    assert capsys.readouterr().out == ""


def in_ascii(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process in whose locale there are no letters but ASCII's."""
    return python("-c", code, *arguments, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")


def test_the_recovery_table_is_printed_in_plain_ascii_too(finished: Finished) -> None:
    code = (
        "import sys; from aanet_assets.cli import commands as cli, terminal\n"
        "from aanet_assets.cli.report import print_report\n"
        "from aanet_assets_tests.small import small_study\n"
        "assert sys.stdout.encoding == 'ascii', sys.stdout.encoding\n"
        "cli.before_any_command(); print_report(small_study(), terminal.console)"
    )
    done = in_ascii(code)
    assert done.returncode == 0, done.stderr
    assert "Mean held-out R? of belief" in done.stdout


def test_text_is_written_and_read_as_utf8_without_a_locale(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from aanet_assets.storage import files\n"
        "from aanet_assets.review.page import read_data, write_page\n"
        "folder = Path(sys.argv[1])\n"
        "files.write_text(folder / 'text', 'R\\u00b2 \\u2713')\n"
        "write_page(folder / 'page', 'R\\u00b2', {'a': '\\u2713'})\n"
        "assert read_data(folder / 'page') == {'a': '\\u2713'}"
    )
    done = in_ascii(code, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "text").read_bytes() == "R² ✓".encode()
    assert "<title>R²" in (tmp_path / "page").read_text(encoding="utf-8")


def test_a_folder_that_this_locale_cannot_name_is_refused(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.environ['AANET_HOME'] = sys.argv[1]\n"
        "from aanet_assets.cli.commands import app; app(['list'])"
    )
    done = in_ascii(code, str(new_home(tmp_path / "zuhörer")))
    assert done.returncode == 1
    assert "set PYTHONUTF8=1" in done.stdout
    assert "Traceback" not in done.stderr


def test_variables_that_dagsters_settings_name_and_nobody_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = new_home(tmp_path / "unset")
    monkeypatch.setenv("AANET_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    settings = (home / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(
        settings.replace("base_dir: data/.dagster\nlocal", "base_dir: {env: NOT_SET}\nlocal")
    )
    found = said("doctor", "toy", code=1)
    assert found.endswith("asks for variables of the environment that are not set: NOT_SET ")


def test_a_database_that_cannot_be_used_is_one_sentence() -> None:
    def raised(kind: type[Exception], text: str) -> Exception:
        try:
            try:
                raise OperationalError("SELECT 1", {}, kind(text))
            except OperationalError as cause:
                raise RuntimeError("too many retries") from cause
        except RuntimeError as error:
            return error

    refused = raised(ConnectionError, "connection to port 5432 failed:\n\tConnection refused?\n")
    assert state_problem(refused) == (
        "the database of Dagster's state cannot be used: connection to port 5432 failed: "
        "Connection refused. What is finished is kept: start it, or correct the storage in "
        "dagster.yaml, then run again"
    )
    full = raised(sqlite3.OperationalError, "database or disk is full")
    assert state_problem(full) == (
        "Dagster's own files cannot be written: database or disk is full (is the disk full?). "
        "What is finished is kept: make room, then run again"
    )
    assert state_problem(KeyError("x")) is None
