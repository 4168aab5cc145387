"""What every command shares: the terminal, the project's folder, a study by its name.

Nothing heavy is imported before a command asks for it, so that `aanet --help` answers at once.
"""

import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    import dagster as dg
    from pydantic import ValidationError

# Piped output is for other programs and files: wide enough to keep rows on one line.
console = Console(width=None if sys.stdout.isatty() else 240)

StudyName = Annotated[str, typer.Argument(help="Name of a module in aanet_assets/studies.")]


def load(name: str) -> ModuleType:
    """The module of a study; one clear message where there is none or its values are wrong."""
    import importlib
    import pkgutil

    from pydantic import ValidationError

    from aanet_assets import studies
    from aanet_assets.study import require_own_module

    enter_home()
    known = sorted(module.name for module in pkgutil.iter_modules(studies.__path__))
    if name not in known:
        raise stop(
            f"there is no study {name!r}; there are: {', '.join(known)}. To add one, copy one of "
            "the modules in aanet_assets/studies."
        )
    places = (Path(folder, name) for folder in studies.__path__)
    files = [f for p in places for f in (p.with_suffix(".py"), p / "__init__.py") if f.is_file()]
    if len(files) > 1:
        raise stop(
            f"there are two modules of the study {name!r}, {files[0]} and {files[1]}, whose "
            "results would overwrite each other: rename one, and the study in it, or remove it"
        )
    try:
        module = importlib.import_module(f"aanet_assets.studies.{name}")
        require_own_module(module.study, module.__name__)
        return module
    except ValidationError as error:
        raise stop(f"study {name!r} has a wrong value. {_wrong(error)}") from None
    except ValueError as error:
        raise stop(error) from None


def _wrong(error: "ValidationError") -> str:
    """What is wrong with a study's settings: the field, what is asked for, and what it is."""
    lines = []
    for e in error.errors():
        group = () if error.title == "Study" else (error.title,)
        field = ".".join(map(str, (*group, *e["loc"])))
        said = e["msg"].removeprefix("Value error, ")
        text = f"{field}: {said}" if field else said
        # Where fields do not go together, the value is the whole group or study.
        lines.append(text if isinstance(e["input"], dict) else f"{text} (it is {e['input']!r})")
    return "; ".join(lines)


def enter_home() -> Path:
    """Make the project's folder the working directory, as Dagster's relative paths want it."""
    from aanet_assets.paths import data_root

    home = data_root().parent
    if not (home / "dagster.yaml").is_file():
        raise stop(
            f"{home} is not the project's folder (it has no dagster.yaml): go there, or set "
            "AANET_HOME to it"
        )
    os.chdir(home)
    os.environ.setdefault("DAGSTER_HOME", str(home))
    return home


def heed_interrupts() -> None:
    """Let Ctrl-C act, as it does not on what a script puts into the background.

    Dagster would let SIGTERM be ignored, too, by itself and by helpers that it then waits for, a
    minute per partition.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def open_instance() -> "dg.DagsterInstance":
    """The Dagster instance of the project's folder."""
    import dagster as dg

    heed_interrupts()
    return dg.DagsterInstance.get()


def mend_orphans(instance: "dg.DagsterInstance") -> None:
    """Settle the runs that a crash left behind, and say how many there were."""
    from aanet_assets.defs import orphans

    if count := orphans.mend_orphans(instance):
        runs = "1 run whose process is" if count == 1 else f"{count} runs whose processes are"
        console.print(f"Marked as failed: {runs} gone.", highlight=False)


def stop(message: object) -> typer.Exit:
    """Say what is wrong; raise what this returns."""
    console.print(f"[bold red]error[/] {escape(str(message))}", highlight=False, soft_wrap=True)
    return typer.Exit(1)
