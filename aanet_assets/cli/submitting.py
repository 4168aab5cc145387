"""What `aanet run --submit` and `--cancel` show; the work is Dagster's."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from aanet_assets.cli.terminal import console, open_instance, partition_progress

if TYPE_CHECKING:
    import dagster as dg

    from aanet_assets.orchestration.submit import Look, Submission
    from aanet_assets.storage.step import Partition
    from aanet_assets.study.study import Study


def watch(study: "Study", instance: "dg.DagsterInstance", todo: "Sequence[Partition]") -> None:
    """Submit what is missing or stale, and show how it goes until it ends.

    Raises:
        Failure: something could not be made; the message is for people.
        typer.Exit: Ctrl-C; the work goes on.
    """
    from aanet_assets.orchestration.submit import Look, Submission, count

    submission = Submission(study, instance, todo)
    progress = partition_progress()
    task = progress.add_task("", total=0, detail="", visible=False)
    before, daemon = Look(), _DaemonNotice(instance, "queued; nothing is lost")
    try:
        with progress:
            for look in submission.watch():
                _tell(submission, before, look)
                if look.backfills:
                    daemon.give()
                    progress.update(task, visible=True)
                detail = f"finished: {', '.join(map(str, _some(look.done - before.done)))}"
                progress.update(task, total=len(look.asked), completed=len(look.done))
                if look.done - before.done:
                    progress.update(task, detail=escape(detail))
                before = look
    except KeyboardInterrupt:
        _say_goodbye(study.name, before)
        raise typer.Exit(130) from None
    if not before.asked:
        _say(f"Nothing to do: all is there ({count(len(todo))}).")


def _tell(submission: "Submission", before: "Look", look: "Look") -> None:
    """What is new since the last look: a line each."""
    from aanet_assets.orchestration.pipeline import steps_of
    from aanet_assets.orchestration.submit import count

    known = {backfill.backfill_id for backfill in before.backfills}
    for backfill in look.backfills:
        name, size = backfill.backfill_id, count(len(submission.target(backfill)))
        if name in submission.asked_here - known:
            _say(f"Asked Dagster for {size} ({backfill.title}, backfill {name}).")
        elif name not in known:
            _say(f"Watching what was submitted before: {size}, backfill {name}.")
    if look.others and not before.others:
        more = f" (and {len(look.others) - 1} more)" if len(look.others) > 1 else ""
        _say(f"Waiting for {look.others[0]}{more}, which another run is making.")
    asked, made, known_made = map(_by_step, (look.asked, look.done, before.done))
    for step in steps_of(submission.study):
        number = made[step.name]
        if number == asked[step.name] and number > known_made[step.name]:
            console.print(f"[green]✓[/] {step.name:<22} {number:>3} made")
    for partition, failure in look.failed.items():
        if partition not in before.failed:
            console.print(f"[red]✗[/] {escape(str(failure))}", highlight=False, soft_wrap=True)


def _by_step(partitions: "set[Partition]") -> Counter[str]:
    return Counter(partition.step.name for partition in partitions)


def _some(partitions: "set[Partition]") -> list[str]:
    return sorted(map(str, partitions))[:3]


def _say_goodbye(name: str, look: "Look") -> None:
    if not look.backfills:
        return _say(f"Stopped; nothing was submitted. To go on: aanet run {name} --submit")
    _say(
        f"Stopped watching; the work goes on. To watch again: aanet run {name} --submit. "
        f"To cancel it: aanet run {name} --cancel"
    )
    if look.later:
        _say(f"What waits for it ({look.later} more) is asked for only while somebody watches.")


def cancel(study: "Study") -> None:
    """Cancel what was submitted of a study, and wait until Dagster says that it is."""
    from aanet_assets.orchestration.submit import cancel as cancelling

    asked: set[str] = set()
    try:
        with open_instance() as instance:
            daemon = _DaemonNotice(instance, "noted")
            for left in cancelling(study, instance):
                for backfill in left:
                    if backfill.backfill_id not in asked:
                        _say(f"Cancelling the backfill {backfill.backfill_id} ...")
                        asked.add(backfill.backfill_id)
                daemon.give()
    except KeyboardInterrupt:
        _say("Stopped waiting; Dagster goes on cancelling.")
        raise typer.Exit(130) from None
    if asked:
        _say(f"Cancelled; what was finished is kept. To go on: aanet run {study.name} --submit")
    else:
        _say(f"Nothing that was submitted of study {study.name!r} is going on.")


class _DaemonNotice:
    """Says once, each time that it is so, that no daemon is there."""

    def __init__(self, instance: "dg.DagsterInstance", so_far: str):
        from aanet_assets.orchestration.submit import Daemon

        self._daemon, self._so_far, self._is_there = Daemon(instance), so_far, True

    def give(self) -> None:
        was_there, self._is_there = self._is_there, self._daemon.is_there()
        if was_there and not self._is_there:
            _say(
                f"No daemon of Dagster is running here: this is {self._so_far}, and goes on as "
                "soon as `aanet ui` (or `dagster-daemon run`) runs."
            )


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
