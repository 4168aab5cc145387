"""The command line, `aanet`: the same assets on the same Dagster instance as Dagit's.

Imports of the project happen inside the commands, so that `aanet --help` answers at once.
"""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table
from typer.core import TyperGroup

from aanet_assets.cli import compare, exploring, project, running, toys, upkeep
from aanet_assets.cli.terminal import (
    StudyName,
    bear_any_terminal,
    console,
    enter_home,
    load,
    load_with_clusters,
    state_problem,
    stop,
)

if TYPE_CHECKING:
    import duckdb

    from aanet_assets.storage.records import Standing
    from aanet_assets.storage.step import Partition
    from aanet_assets.study.study import Study

# Matrices here are small: several threads per process only wait for each other. Set before any
# numerical library is loaded; a value set by the user stands.
os.environ.setdefault("OMP_NUM_THREADS", "1")


class _Commands(TyperGroup):
    """All commands; what a study needs of another machine may not be there at any time."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ConnectionError as error:
            raise stop(error) from None
        except Exception as error:
            # An Exit has what it was raised for in its context: that was said already.
            said = None if isinstance(error, typer.Exit) else state_problem(error)
            if said is None:
                raise
            raise stop(said) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    from importlib.metadata import PackageNotFoundError, version

    if asked:
        try:
            console.print(f"aanet {version('aanet-assets')}", highlight=False)
        except PackageNotFoundError:
            raise stop("the package is not installed: pip install -e .") from None
        raise typer.Exit


@app.callback()
def before_any_command(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say which version this is.", is_eager=True,
                     callback=_print_version),
    ] = False,
) -> None:  # fmt: skip
    """Find simplices among the latents of a sparse autoencoder."""
    bear_any_terminal()
    if sys.platform == "win32":
        raise stop(
            "aanet does not run on Windows itself (locks, signals, and renaming open files are "
            "other there): use it in WSL, Windows's own Linux"
        )


SqlText = Annotated[str, typer.Argument(help="A query, in quotes; DuckDB's dialect.")]
_STATUS_WIDTH = 100


app.command()(running.run)


@app.command("list")
def list_studies() -> None:
    """The studies there are, and how much of each is there."""
    from aanet_assets.orchestration.studies import StudyModuleError, load_study, study_names

    enter_home()
    table = Table("study", "what it is", "partitions recorded")
    for name in study_names():
        try:
            subject: Study = load_study(name).study
        except StudyModuleError as error:
            table.add_row(name, f"[red]{escape(str(error))}[/]", "")
        else:
            try:
                how_much = _how_much(subject)
            except ConnectionError as error:
                how_much = f"[red]{escape(str(error))}[/]"
            table.add_row(name, escape(subject.description), how_much)
    console.print(table)


def _how_much(study: "Study") -> str:
    """By the records alone; `status` says which of them still belong to the study as it is."""
    from aanet_assets.orchestration.pipeline import partitions_of, steps_of
    from aanet_assets.storage.records import record_path, records_folder
    from aanet_assets.storage.remote import pull

    pull(study)
    wanted = [record_path(study, partition) for partition in partitions_of(study)]
    # What is shared has its records in the folder of the study that it is named for.
    folders = [records_folder(study, step) for step in steps_of(study)]
    there = {record for folder in folders for record in folder.glob("*.json")}
    return f"{sum(record in there for record in wanted):,} of {len(wanted):,}"


@app.command()
def status(study: StudyName) -> None:
    """What is there, what is missing, and what no longer belongs to the study as it is now."""
    from aanet_assets.orchestration.pipeline import steps_of
    from aanet_assets.storage.records import MISSING, Standing

    subject = load(study)
    standing = Standing(subject)
    table = Table("asset", "there", "missing", "stale", "why stale", title=f"study {study}")
    for step in steps_of(subject):
        problems = {p: standing.problem(p) for p in step.all_of(subject)}
        stale = [p for p, problem in problems.items() if problem not in (None, MISSING)]
        found = list(problems.values())
        counts = (found.count(None), found.count(MISSING), len(stale))
        why = _why_stale(standing, stale) if stale else ""
        table.add_row(step.name, *map(str, counts), escape(why))
    # The reasons are sentences, which one wide line would make hard to read.
    console.print(table, width=min(console.width, _STATUS_WIDTH))


def _why_stale(standing: "Standing", stale: "list[Partition]") -> str:
    """The reason of one partition; one that is stale by itself says more than one that follows."""
    from aanet_assets.storage.records import MISSING

    for partition in stale:
        if standing.origin(partition) == partition:
            return str(standing.problem(partition))
    origin = standing.origin(stale[0]) or stale[0]
    is_missing = standing.problem(origin) == MISSING
    return f"is made from {origin}{', which is missing' if is_missing else ''}"


@app.command()
def plan(
    study: StudyName,
    on: Annotated[
        str | None, typer.Option(help="Other hardware: what a node has, like 8xh100 or 64xcpu.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="How many such nodes.")] = None,
) -> None:
    """What a study will take: tokens, disk, memory and time; nothing is loaded or downloaded."""
    from aanet_assets.cli.hardware import parse_hardware, rows_on
    from aanet_assets.cli.planning import make_plan, rows_of

    subject = load(study)
    if nodes and not on:
        raise stop("--nodes says how many nodes, and not of which kind: add --on, like --on 8xh100")
    try:
        hardware = parse_hardware(on, nodes or 1) if on else None
        made = make_plan(subject)
        table = Table("what", Column("estimate", justify="right"), "from", title=f"study {study}")
        for row in rows_of(made):
            table.add_row(*map(escape, row))
        console.print(table)
        if hardware:
            spread = Table(
                "what", Column("estimate", justify="right"), "from", "known by",
                title=f"on {hardware.nodes} x {on}",
            )  # fmt: skip
            for row in rows_on(subject, made, hardware):
                spread.add_row(*map(escape, row))
            console.print(spread)
    except ValueError as error:
        raise stop(error) from None


@app.command()
def sql(study: StudyName, query: SqlText) -> None:
    """Answer a query on the study's tables (see the README for their names)."""
    import duckdb

    from aanet_assets.orchestration.materialise import fetch_database
    from aanet_assets.orchestration.pipeline import tables_of
    from aanet_assets.storage import warehouse

    subject = load(study)
    tables = tables_of(subject)
    try:
        fetch_database(subject)
        found = warehouse.answer(subject.paths, tables, query, _columns_and_rows)
    except FileNotFoundError as error:
        raise stop(f"{error}. Run: aanet run {study}") from None
    except ValueError as error:
        raise stop(error) from None
    except duckdb.Error as error:
        raise stop(_sql_fault(error, [table.name for table in tables])) from None
    if found is None:
        raise stop("this is not a query; the tables are read-only, use SELECT")
    table = Table(*(Column(name, overflow="fold") for name in found[0]))
    for row in found[1]:
        table.add_row(*(escape(_cell(value)) for value in row))
    console.print(table)


def _columns_and_rows(answer: "duckdb.DuckDBPyRelation | None") -> tuple[list, list] | None:
    """None where no rows were asked for: DuckDB then answers with nothing."""
    return None if answer is None else (answer.columns, answer.fetchall())


def _sql_fault(error: Exception, tables: list[str]) -> str:
    """DuckDB's words in one line, without its picture of the place; and the tables there are."""
    said = " ".join(str(error).partition("\nLINE ")[0].split())
    is_unknown = "Table with name" in said and "does not exist" in said
    return f"{said} The tables are: {', '.join(tables)}." if is_unknown else said


def _cell(value: object) -> str:
    if value is None:
        return "null"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def review(
    study: StudyName,
    n_clusters: Annotated[int | None, typer.Option(help="Which clustering.")] = None,
) -> None:
    """Open a study's review page, by default of the clustering that its summary shows."""
    import webbrowser

    from aanet_assets.steps.review import PAGE, review_page
    from aanet_assets.storage.records import fetch_files

    subject = load_with_clusters(study)
    own = subject.n_clusters
    if n_clusters is not None and n_clusters not in own:
        raise stop(f"this study has n_clusters {own}, not {n_clusters}")
    wanted = (subject.shown_n_clusters, *own[::-1]) if n_clusters is None else (n_clusters,)
    fetch_files(subject, [review_page.at(n=n) for n in wanted])
    there = [page for n in wanted if (page := PAGE.under(subject.paths.root, n=n)).is_file()]
    if not there:
        raise stop(f"there is no review page yet. Run: aanet run {study}")
    console.print(there[0].as_uri(), soft_wrap=True)
    webbrowser.open(there[0].as_uri())


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port of Dagit.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open Dagit on everything that was materialised, with sensors and schedules running."""
    from aanet_assets.cli.dagit import serve

    enter_home()
    serve(host, port)


app.command()(toys.train_toy)
app.command("project")(exploring.project_text)
app.command("serve")(exploring.serve_page)
app.command()(project.init)
app.command()(compare.compare)
app.command()(upkeep.doctor)
app.command()(upkeep.prune)

if __name__ == "__main__":
    app()
