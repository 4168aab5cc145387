"""`aanet run`: a study's partitions, one after the other here or through Dagster's daemon."""

import logging
import time
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
    from aanet_assets.storage.step import Partition

Until = Annotated[str | None, typer.Option(help="Last asset; what it needs comes with it.")]
NClusters = Annotated[list[int] | None, typer.Option(help="Only this clustering; repeatable.")]
K = Annotated[list[int] | None, typer.Option(help="Only this k, up to aanet_metrics; repeatable.")]
Submit = Annotated[
    bool, typer.Option("--submit", help="Let Dagster's daemon do the work, and watch it.")
]
Cancel = Annotated[bool, typer.Option("--cancel", help="Cancel what was submitted of the study.")]


def run(
    study: StudyName,
    until: Until = None,
    n_clusters: NClusters = None,
    k: K = None,
    submit: Submit = False,
    cancel: Cancel = False,
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
    if last is None and subject.n_clusters:
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
                    for warning in driver.materialise(partition):
                        said = f"[yellow]![/] {escape(f'{partition}: {warning}')}"
                        console.print(said, highlight=False, soft_wrap=True)
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
