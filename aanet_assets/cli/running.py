"""`aanet run`: a study's partitions, made here or through Dagster's daemon."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from aanet_assets.cli import submitting
from aanet_assets.cli.terminal import (
    StudyName,
    console,
    load,
    mend_orphans,
    open_instance,
    partition_progress,
    stop,
)

if TYPE_CHECKING:
    from aanet_assets.orchestration.driver import Driver
    from aanet_assets.orchestration.workers import Made
    from aanet_assets.storage.step import Partition

Until = Annotated[str | None, typer.Option(help="Last asset; what it needs comes with it.")]
NClusters = Annotated[list[int] | None, typer.Option(help="Only this clustering; repeatable.")]
K = Annotated[list[int] | None, typer.Option(help="Only this k, up to aanet_metrics; repeatable.")]
Submit = Annotated[
    bool, typer.Option("--submit", help="Let Dagster's daemon do the work, and watch it.")
]
Workers = Annotated[
    int, typer.Option(min=1, help="Partitions made at once, each in a process with its own memory.")
]
Cancel = Annotated[bool, typer.Option("--cancel", help="Cancel what was submitted of the study.")]


def run(
    study: StudyName,
    until: Until = None,
    n_clusters: NClusters = None,
    k: K = None,
    submit: Submit = False,
    cancel: Cancel = False,
    workers: Workers = 1,
) -> None:
    """Materialise a study from activations to vertex samples; what is there already is kept."""
    from aanet_assets.cli.report import print_report
    from aanet_assets.orchestration.driver import Driver, Failure
    from aanet_assets.orchestration.driver import plan as partitions_to_make
    from aanet_assets.orchestration.pipeline import steps_of
    from aanet_assets.orchestration.studies import study_names
    from aanet_assets.science.activations.preflight import preflight
    from aanet_assets.science.selection.elbows import too_few_ks
    from aanet_assets.steps.aanets import aanet_metrics

    subject = load(study)
    if submit and subject.name not in study_names():
        raise stop(
            f"the daemon knows the studies of the package and of the project's studies/ alone, and "
            f"{study} is none of them: move it there, or leave out --submit"
        )
    if cancel:
        if submit or until or n_clusters or k or workers > 1:
            raise stop("--cancel takes no other option: it cancels all that was submitted")
        return submitting.cancel(subject)
    if submit and workers > 1:
        raise stop(
            "--workers is for work done here; how many runs the daemon has at once stands in "
            "dagster.yaml (concurrency.runs.max_concurrent_runs)"
        )
    again = _command(study, until, n_clusters or (), k or (), submit, workers)
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
                _drive(Driver(subject, instance), todo, workers)
        # Where nothing was to be made, an n_clusters may have been taken out of the study.
        for step in steps_of(subject):
            if step.afterwards is not None:
                step.afterwards(subject)
    except (ValueError, FileNotFoundError, ConnectionError, Failure) as error:
        raise stop(error) from None
    except KeyboardInterrupt:
        console.print(f"Stopped; nothing is half written. To go on: {again}")
        raise typer.Exit(130) from None
    if last is None and subject.n_clusters:
        print_report(subject, console)


def _command(
    study: str,
    until: str | None,
    n_clusters: Sequence[int],
    k: Sequence[int],
    submit: bool,
    workers: int,
) -> str:
    """What was typed."""
    options = [f"--until {until}"] if until else []
    options += [f"--n-clusters {n}" for n in n_clusters] + [f"--k {one}" for one in k]
    options += ["--submit"] if submit else []
    options += [f"--workers {workers}"] if workers > 1 else []
    return " ".join(["aanet run", quote(study), *options])


def _drive(driver: "Driver", todo: "list[Partition]", workers: int) -> None:
    """Materialise what is not there yet, with a bar over partitions and the latest log line."""
    from aanet_assets.orchestration.workers import drive

    progress = partition_progress()
    task = progress.add_task("", total=len(todo), detail="")
    handler = _DetailHandler(progress, task)
    logging.getLogger("aanet").addHandler(handler)
    logging.getLogger("aanet").setLevel(logging.INFO)
    left, ended = Counter(partition.step.name for partition in todo), defaultdict[str, list](list)
    try:
        with progress:
            for look in drive(driver, todo, workers):
                said = ", ".join(map(str, look.at_work))
                progress.update(task, description=escape(said), detail="")
                if look.ended is not None:
                    progress.advance(task)
                    name = look.ended.partition.step.name
                    ended[name].append(look.ended)
                    left[name] -= 1
                    _tell(look.ended)
                    if not left[name]:
                        _tell_of_step(name, ended.pop(name))
    finally:
        logging.getLogger("aanet").removeHandler(handler)


def _tell(made: "Made") -> None:
    """What the checks of a partition warn of."""
    for warning in made.warnings:
        said = f"[yellow]![/] {escape(f'{made.partition}: {warning}')}"
        console.print(said, highlight=False, soft_wrap=True)


def _tell_of_step(name: str, ended: "list[Made]") -> None:
    seconds = [made.seconds for made in ended if made.seconds is not None]
    kept = len(ended) - len(seconds)
    console.print(
        f"[green]✓[/] {name:<22} {len(seconds):>3} made, {kept:>3} already there"
        f"  {sum(seconds):7.1f} s"
    )


class _DetailHandler(logging.Handler):
    """Shows the latest log line of the science code beside the progress bar."""

    def __init__(self, progress: Progress, task):
        super().__init__(logging.INFO)
        self._progress, self._task = progress, task

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.update(self._task, detail=escape(record.getMessage()))
