"""What every command shares: the terminal, the project's folder, a study by its name.

Nothing heavy is imported before a command asks for it, so that `aanet --help` answers at once.
"""

import glob
import io
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    import dagster as dg

    from aanet_assets.study.study import Study

# Piped output is for other programs and files: wide enough to keep rows on one line.
console = Console(width=None if sys.stdout.isatty() else 240)

StudyName = Annotated[
    str, typer.Argument(help="Its name, as `aanet list` shows it, or the path of its module.")
]


def bear_any_terminal() -> None:
    """Print a question mark for each letter that the terminal does not know, as ² in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def load(name: str) -> "Study":
    """A study by its name or file; one clear message where there is none or it cannot be used."""
    from aanet_assets.orchestration.studies import StudyModuleError, load_study, load_study_file
    from aanet_assets.storage.remote import pull

    # A path is the user's own, from where they are.
    path = Path(name).resolve() if name.endswith(".py") else None
    enter_home()
    try:
        study = load_study(name).study if path is None else load_study_file(path)
    except StudyModuleError as error:
        raise stop(error) from None
    pull(study)
    return study


def load_with_clusters(name: str) -> "Study":
    """A study by its name or file, of commands for which activations alone are too little."""
    study = load(name)
    if not study.n_clusters:
        raise stop(f"{name} is activations alone, without clusters: name a study that shares them")
    return study


# Dagster's SQLite takes a path as an address, DuckDB reads a backslash as a folder's end.
_UNBEARABLE = "%?\\"
# Dagster takes the path of dagster.yaml as a pattern: in a folder with brackets it would find none,
# and use settings and a place of its own. Linux has another name for the working directory.
_WORKING_DIRECTORY = Path("/proc/self/cwd")


def enter_home() -> Path:
    """Make the project's folder the working directory, as Dagster's relative paths want it."""
    from aanet_assets.study.layout import data_root

    home = data_root().parent
    if not (home / "dagster.yaml").is_file():
        raise stop(
            f"{home} is not a project's folder (it has no dagster.yaml): go to one, set AANET_HOME "
            "to it, or make one with `aanet init`"
        )
    require_plain_path(home)
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8" and not str(home).isascii():
        raise stop(
            f"with this locale Python reads names of files as {encoding}, and the path of the "
            "project's folder has other letters than ASCII's: set PYTHONUTF8=1"
        )
    os.chdir(home)
    return home


def require_plain_path(home: Path) -> None:
    """Refuse a project's folder whose path Dagster or DuckDB would take for another."""
    unbearable = _UNBEARABLE if _WORKING_DIRECTORY.exists() else f"{_UNBEARABLE}*["
    if bad := [character for character in str(home) if character in unbearable]:
        raise stop(
            f"the path of the project's folder, {home}, has a {bad[0]!s}, with which Dagster's "
            "database or DuckDB would take it for another path: rename the folder"
        )


def heed_interrupts() -> None:
    """Let Ctrl-C act, as it does not on what a script puts into the background.

    Dagster would let SIGTERM be ignored, too, by itself and by helpers that it then waits for, a
    minute per partition.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def open_instance() -> "dg.DagsterInstance":
    """The Dagster instance of the project's folder, whatever DAGSTER_HOME was."""
    import dagster as dg

    from aanet_assets.storage.file_locks import locked

    heed_interrupts()
    home = enter_home()
    given = os.environ.get("DAGSTER_HOME")
    if given and Path(given).resolve() != home:
        console.print(
            f"DAGSTER_HOME is {given}; what is used is the project's own folder, {home}.",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    # Processes that are started from here, Dagit's above all, are to use it, too.
    is_pattern = glob.escape(str(home)) != str(home)
    os.environ["DAGSTER_HOME"] = str(_WORKING_DIRECTORY if is_pattern else home)
    # What is said in the end is enough: each try to reach a database would say it, here and later.
    logging.disable(logging.WARNING)
    logging.getLogger().addFilter(_is_no_try)
    try:
        (home / "data").mkdir(exist_ok=True)
        # Two commands that make Dagster's files at once would stand in each other's way.
        with locked(home / "data/.dagster.lock"):
            instance = dg.DagsterInstance.get()
            # A database that is not there shows when it is first asked.
            instance.get_runs(limit=1)
    except dg.DagsterInvalidConfigError as error:
        unset = sorted({v for one in error.errors for v in _UNSET.findall(one.message)})
        what = f"variables of the environment that are not set: {', '.join(unset)}" if unset else (
            "; ".join(one.message for one in error.errors)
        )  # fmt: skip
        raise stop(f"{home / 'dagster.yaml'} asks for {what}") from None
    except OSError as error:
        raise stop(f"Dagster's own files cannot be written: {error}") from None
    except Exception as error:
        if said := state_problem(error):
            raise stop(said) from None
        raise
    finally:
        logging.disable(logging.NOTSET)
    return instance


def _is_no_try(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Retrying failed database")


_UNSET = re.compile(r'environment variable "(\w+)" which is not set')


def state_problem(error: BaseException) -> str | None:
    """Why Dagster's own state cannot be read or written, in a sentence; None if it is not that."""
    from sqlalchemy.exc import DBAPIError

    causes: list[BaseException | None] = [error]
    while (last := causes[-1]) is not None:
        if isinstance(last, DBAPIError):
            said = " ".join(str(last.orig).split()).rstrip(" .?")
            if type(last.orig).__module__ == "sqlite3":
                return (
                    f"Dagster's own files cannot be written: {said} (is the disk full?). What is "
                    "finished is kept: make room, then run again"
                )
            # Without its guess at the reason. Of a connection that was lost it names no host.
            said = said.partition(" Is the server running")[0].partition(" This probably means")[0]
            return (
                f"the database of Dagster's state{_database_host()} cannot be used: {said}. What "
                "is finished is kept: start it, or correct the storage in dagster.yaml, then run "
                "again"
            )
        causes.append(last.__cause__ or last.__context__)
    return None


def _database_host() -> str:
    """Where dagster.yaml says that the database is, in words; nothing where it does not say."""
    import yaml

    try:
        settings = yaml.safe_load(Path("dagster.yaml").read_text(encoding="utf-8"))
        given = settings["storage"]["postgres"]["postgres_db"]["hostname"]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return ""
    return f" on {os.environ.get(given['env']) if isinstance(given, dict) else given}"


def mend_orphans(instance: "dg.DagsterInstance") -> None:
    """Settle the runs that a crash left behind, and say how many there were."""
    from aanet_assets.orchestration import orphans

    if count := orphans.mend_orphans(instance):
        runs = "1 run whose process is" if count == 1 else f"{count} runs whose processes are"
        console.print(f"Marked as failed: {runs} gone.", highlight=False)
    if elsewhere := orphans.runs_elsewhere(instance):
        hosts = sorted({process.host or "not said which" for _, process in elsewhere})
        runs = "1 run" if len(elsewhere) == 1 else f"{len(elsewhere)} runs"
        console.print(
            f"Left alone: {runs} of another machine or container ({', '.join(hosts)}), whose "
            "process cannot be looked up from here.",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def stop(message: object) -> typer.Exit:
    """Say what is wrong; raise what this returns."""
    console.print(f"[bold red]error[/] {escape(str(message))}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


def partition_progress() -> Progress:
    """A bar over partitions; its tasks have a `detail`, which stands beside it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
        console=console,
    )
