"""The command line, `aanet`: the same assets on the same Dagster instance as Dagit's.

Imports of the project happen inside the commands, so that `aanet --help` answers at once.
"""

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table
from typer.core import TyperGroup

from aanet_assets.cli import compare, exploring, project, submitting, upkeep
from aanet_assets.cli.terminal import (
    StudyName,
    bear_any_terminal,
    console,
    enter_home,
    load,
    mend_orphans,
    open_instance,
    partition_progress,
    state_problem,
    stop,
)

if TYPE_CHECKING:
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
Until = Annotated[str | None, typer.Option(help="Last asset; what it needs comes with it.")]
NClusters = Annotated[list[int] | None, typer.Option(help="Only this clustering; repeatable.")]
K = Annotated[list[int] | None, typer.Option(help="Only this k, up to aanet_metrics; repeatable.")]
Submit = Annotated[
    bool, typer.Option("--submit", help="Let Dagster's daemon do the work, and watch it.")
]
Cancel = Annotated[bool, typer.Option("--cancel", help="Cancel what was submitted of the study.")]


@app.command()
def run(
    study: StudyName,
    until: Until = None,
    n_clusters: NClusters = None,
    k: K = None,
    submit: Submit = False,
    cancel: Cancel = False,
) -> None:
    """Materialise a study from activations to vertex samples; what is there already is kept."""
    from aanet_assets.activations.preflight import preflight
    from aanet_assets.cli.report import print_report
    from aanet_assets.orchestration.driver import Driver, Failure
    from aanet_assets.orchestration.driver import plan as partitions_to_make
    from aanet_assets.orchestration.pipeline import steps_of
    from aanet_assets.orchestration.studies import study_names
    from aanet_assets.selection.elbows import too_few_ks
    from aanet_assets.steps.aanets import aanet_metrics

    subject = load(study)
    if submit and subject.name not in study_names():
        raise stop(
            f"the daemon knows the studies of the package and of the project's studies/ alone, and "
            f"{study} is none of them: move it there, or leave out --submit"
        )
    if cancel:
        if submit or until or n_clusters or k:
            raise stop("--cancel takes no other option: it cancels all that was submitted")
        return submitting.cancel(subject)
    again = f"aanet run {study}{' --submit' if submit else ''}"
    try:
        last = until or (aanet_metrics.name if k else None)
        todo = partitions_to_make(subject, last, n_clusters or (), k or ())
        preflight(subject)
        if warning := too_few_ks(subject.ks, subject.selection.mode):
            console.print(f"[yellow]warning[/] {warning}", highlight=False, soft_wrap=True)
        with open_instance() as instance:
            mend_orphans(instance)
            if submit:
                submitting.watch(subject, instance, todo)
            else:
                _drive(Driver(subject, instance), todo)
        # Where nothing was to be made, an n_clusters may have been taken out of the study.
        for step in steps_of(subject):
            if step.afterwards is not None:
                step.afterwards(subject)
    except (ValueError, FileNotFoundError, ConnectionError, Failure) as error:
        raise stop(error) from None
    except KeyboardInterrupt:
        console.print(f"Stopped; nothing is half written. To go on: {again}")
        raise typer.Exit(130) from None
    except Exception as error:
        if (said := state_problem(error)) is None:
            raise
        raise stop(f"{said}. To go on: {again}") from None
    if last is None:
        print_report(subject, console)


def _drive(driver, todo: "list[Partition]") -> None:
    """Materialise what is not there yet, with a bar over partitions and the latest log line."""
    progress = partition_progress()
    task = progress.add_task("", total=len(todo), detail="")
    handler = _DetailHandler(progress, task)
    logging.getLogger("aanet").addHandler(handler)
    logging.getLogger("aanet").setLevel(logging.INFO)
    step, made, kept, seconds = "", 0, 0, 0.0

    def close_step() -> None:
        if step:
            console.print(
                f"[green]✓[/] {step:<22} {made:>3} made, {kept:>3} already there  {seconds:7.1f} s"
            )

    try:
        with progress:
            for partition in todo:
                if partition.step.name != step:
                    close_step()
                    step, made, kept, seconds = partition.step.name, 0, 0, 0.0
                progress.update(task, description=escape(str(partition)), detail="")
                if driver.is_there(partition):
                    kept += 1
                else:
                    started = time.monotonic()
                    driver.materialise(partition)
                    seconds += time.monotonic() - started
                    made += 1
                progress.advance(task)
            close_step()
    finally:
        logging.getLogger("aanet").removeHandler(handler)


class _DetailHandler(logging.Handler):
    """Shows the latest log line of the science code beside the progress bar."""

    def __init__(self, progress: Progress, task):
        super().__init__(logging.INFO)
        self._progress, self._task = progress, task

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.update(self._task, detail=escape(record.getMessage()))


@app.command("list")
def list_studies() -> None:
    """The studies there are, and how much of each is there."""
    from aanet_assets.orchestration.studies import StudyModuleError, load_study, study_names

    enter_home()
    table = Table("study", "what it is", "partitions there")
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
    from aanet_assets.orchestration.pipeline import partitions_of
    from aanet_assets.storage.records import record_path
    from aanet_assets.storage.remote import pull

    pull(study)
    wanted = [record_path(study, partition) for partition in partitions_of(study)]
    there = set(study.paths.records.glob("*/*.json"))
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
        answer = warehouse.query(subject.paths, tables, query)
        rows = [] if answer is None else answer.fetchall()
    except FileNotFoundError as error:
        raise stop(f"{error}. Run: aanet run {study}") from None
    except duckdb.Error as error:
        raise stop(_sql_fault(error, [table.name for table in tables])) from None
    if answer is None:
        raise stop("this is not a query; the tables are read-only, use SELECT")
    table = Table(*(Column(name, overflow="fold") for name in answer.columns))
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    console.print(table)


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

    subject = load(study)
    own = subject.n_clusters
    if n_clusters is not None and n_clusters not in own:
        raise stop(f"this study has n_clusters {own}, not {n_clusters}")
    shown = (subject.truth.n_clusters,) if subject.truth else ()
    wanted = (*shown, *own[::-1]) if n_clusters is None else (n_clusters,)
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


@app.command()
def train_toy(
    process: Annotated[
        str, typer.Option(help="union7, union22, product5, or a JSON file (docs/toy.md).")
    ] = "union7",
    into: Annotated[
        Path | None, typer.Option(help="Folder for model and SAE; by default where it is shipped.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the transformer.")] = 0,
    sae_seed: Annotated[int, typer.Option(help="Seed of the SAE.")] = 10,
) -> None:
    """Train a toy's transformer and SAE from nothing (docs/toy.md has the recipe).

    For a process of a file it writes the study, too, where there is none of its name.
    """
    from aanet_assets.toy.train import recipe_of
    from aanet_assets.toy.train import train_toy as train

    is_file = process.endswith(".json")
    # A path is the user's own, from where they are.
    path = Path(process).resolve()
    home = enter_home()
    if is_file:
        process = str(path.relative_to(home) if path.is_relative_to(home) else path)
    try:
        recipe = recipe_of(process)
        into = into or Path(recipe.folder)
        components = len(recipe.process.components)
        study = project.toy_study(process, components, into) if is_file else None
    except ValueError as error:
        raise stop(error) from None
    logging.basicConfig(format="%(message)s")
    logging.getLogger("aanet").setLevel(logging.INFO)
    train(into, recipe, seed=seed, sae_seed=sae_seed)
    console.print(f"written to {into}: model/, sae/ and training.json")
    if study is not None:
        file = project.write_study(study, path.stem)
        console.print(f"the study is {file}. Next: aanet run {path.stem}", soft_wrap=True)


app.command("project")(exploring.project_text)
app.command("serve")(exploring.serve_page)
app.command()(project.init)
app.command()(compare.compare)
app.command()(upkeep.doctor)
app.command()(upkeep.prune)

if __name__ == "__main__":
    app()
