"""The command line, `aanet`: the same assets on the same Dagster instance as Dagit's.

Imports of the project happen inside the commands, so that `aanet --help` answers at once.
"""

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from aanet_assets import upkeep
from aanet_assets.terminal import (
    StudyName,
    console,
    enter_home,
    load,
    mend_orphans,
    open_instance,
    stop,
)

if TYPE_CHECKING:
    from aanet_assets.lineage import Partition
    from aanet_assets.records import Standing
    from aanet_assets.study import Study

# Matrices here are small: several threads per process only wait for each other. Set before any
# numerical library is loaded; a value set by the user stands.
os.environ.setdefault("OMP_NUM_THREADS", "1")

app = typer.Typer(
    help="Find simplices among the latents of a sparse autoencoder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
SqlText = Annotated[str, typer.Argument(help="A query, in quotes; DuckDB's dialect.")]
_STATUS_WIDTH = 100
Until = Annotated[str | None, typer.Option(help="Last asset; what it needs comes with it.")]
NClusters = Annotated[list[int] | None, typer.Option(help="Only this clustering; repeatable.")]
K = Annotated[list[int] | None, typer.Option(help="Only this k, up to aanet_metrics; repeatable.")]


@app.command()
def run(study: StudyName, until: Until = None, n_clusters: NClusters = None, k: K = None) -> None:
    """Materialise a study from activations to vertex samples; what is there already is kept."""
    from sqlalchemy.exc import OperationalError

    from aanet_assets.analysis.elbows import too_few_ks
    from aanet_assets.defs.drive import Driver, Failure
    from aanet_assets.defs.drive import plan as partitions_to_make
    from aanet_assets.lm.preflight import preflight
    from aanet_assets.report import print_report

    module = load(study)
    try:
        last = until or ("aanet_metrics" if k else None)
        todo = partitions_to_make(module.study, last, n_clusters or (), k or ())
        preflight(module.study)
        if warning := too_few_ks(module.study.ks, module.study.selection.mode):
            console.print(f"[yellow]warning[/] {warning}", highlight=False, soft_wrap=True)
        with open_instance() as instance:
            mend_orphans(instance)
            _drive(Driver(module.study, module.defs, instance), todo)
    except (ValueError, FileNotFoundError, Failure) as error:
        raise stop(error) from None
    except OperationalError as error:
        reason = f"Dagster's own files cannot be written: {error.orig}. Is the disk full?"
        raise stop(f"{reason} To go on: aanet run {study}") from None
    except KeyboardInterrupt:
        console.print(f"Stopped; nothing is half written. To go on: aanet run {study}")
        raise typer.Exit(130) from None
    if last is None:
        print_report(module.study, console)


def _drive(driver, todo: "list[Partition]") -> None:
    """Materialise what is not there yet, with a bar over partitions and the latest log line."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
        console=console,
    )
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
                if partition.step != step:
                    close_step()
                    step, made, kept, seconds = partition.step, 0, 0, 0.0
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


@app.command()
def status(study: StudyName) -> None:
    """What is there, what is missing, and what no longer belongs to the study as it is now."""
    from aanet_assets.lineage import partitions, steps
    from aanet_assets.records import MISSING, Standing

    subject: Study = load(study).study
    standing = Standing(subject)
    table = Table("asset", "there", "missing", "stale", "why stale", title=f"study {study}")
    for name, step in steps(subject).items():
        problems = {p: standing.problem(p) for p in partitions(subject, step)}
        stale = [p for p, problem in problems.items() if problem not in (None, MISSING)]
        found = list(problems.values())
        counts = (found.count(None), found.count(MISSING), len(stale))
        why = _why_stale(standing, stale) if stale else ""
        table.add_row(name, *map(str, counts), escape(why))
    # The reasons are sentences, which one wide line would make hard to read.
    console.print(table, width=min(console.width, _STATUS_WIDTH))


def _why_stale(standing: "Standing", stale: "list[Partition]") -> str:
    """The reason of one partition; one that is stale by itself says more than one that follows."""
    from aanet_assets.records import MISSING

    for partition in stale:
        if standing.origin(partition) == partition:
            return str(standing.problem(partition))
    origin = standing.origin(stale[0])
    assert origin is not None
    is_missing = standing.problem(origin) == MISSING
    return f"is made from {origin}{', which is missing' if is_missing else ''}"


@app.command()
def plan(study: StudyName) -> None:
    """What a study will take: tokens, disk, memory and time; nothing is loaded or downloaded."""
    from aanet_assets.planning import make_plan, rows_of

    try:
        rows = rows_of(make_plan(load(study).study))
    except ValueError as error:
        raise stop(error) from None
    table = Table("what", Column("estimate", justify="right"), "from", title=f"study {study}")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


@app.command()
def sql(study: StudyName, query: SqlText) -> None:
    """Answer a query on the study's tables (see the README for their names)."""
    import duckdb

    from aanet_assets import warehouse

    subject: Study = load(study).study
    try:
        answer = warehouse.query(subject.paths, query)
    except FileNotFoundError as error:
        raise stop(f"{error}. Run: aanet run {study}") from None
    except duckdb.Error as error:
        raise stop(error) from None
    if answer is None:
        raise stop("this is not a query; the tables are read-only, use SELECT")
    table = Table(*(Column(name, overflow="fold") for name in answer.columns))
    for row in answer.fetchall():
        table.add_row(*(escape(_cell(value)) for value in row))
    console.print(table)


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

    subject: Study = load(study).study
    paths, own = subject.paths, subject.n_clusters
    if n_clusters is not None and n_clusters not in own:
        raise stop(f"this study has n_clusters {own}, not {n_clusters}")
    shown = (subject.truth.n_clusters,) if subject.truth else ()
    wanted = (*shown, *own[::-1]) if n_clusters is None else (n_clusters,)
    there = [page for n in wanted if (page := paths.review(n)).is_file()]
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
    from aanet_assets.dagit import serve

    enter_home()
    serve(host, port)


@app.command()
def train_toy(
    process: Annotated[str, typer.Option(help="union7, or union22: the larger one.")] = "union7",
    into: Annotated[
        Path | None, typer.Option(help="Folder for model and SAE; by default where it is shipped.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the transformer.")] = 0,
    sae_seed: Annotated[int, typer.Option(help="Seed of the SAE.")] = 10,
) -> None:
    """Train a toy's transformer and SAE from nothing (docs/toy.md has the recipe)."""
    from aanet_assets.toy.train import RECIPES
    from aanet_assets.toy.train import train_toy as train

    if process not in RECIPES:
        raise stop(f"there is no process {process!r}; it must be one of {', '.join(RECIPES)}")
    recipe = RECIPES[process]
    enter_home()
    into = into or Path(recipe.folder)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("aanet").setLevel(logging.INFO)
    train(into, recipe, seed=seed, sae_seed=sae_seed)
    console.print(f"written to {into}: model/, sae/ and training.json")


app.command()(upkeep.doctor)
app.command()(upkeep.prune)
