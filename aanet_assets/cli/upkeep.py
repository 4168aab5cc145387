"""The commands that keep a study tidy: `aanet doctor` and `aanet prune`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from aanet_assets.cli.terminal import StudyName, console, load, open_instance, stop

if TYPE_CHECKING:
    from aanet_assets.cli.doctor import Problem

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what is wrong.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Days = Annotated[
    float | None,
    typer.Option(min=0, help="Delete Dagster's runs and logs of the study older than this, too."),
]


def doctor(study: StudyName, dry_run: DryRun = False) -> None:
    """Find what crashes, kills and deleted files left behind, and mend what is safe to mend."""
    from aanet_assets.cli.doctor import findings

    subject = load(study)
    table = Table(
        "found", "what it means", "what was done, or is to be done", title=f"study {study}"
    )
    needs_human = False
    try:
        with open_instance() as instance, console.status("looking at every file"):
            for finding in findings(subject, instance):
                is_mended, outcome = _outcome(finding, dry_run)
                needs_human |= not is_mended
                table.add_row(*map(escape, (finding.what, finding.meaning, outcome)))
    except OSError as error:
        raise stop(error) from None
    if not table.rows:
        console.print("All is well.")
        return
    console.print(table)
    if needs_human:
        raise typer.Exit(1)


def _outcome(finding: "Problem", dry_run: bool) -> tuple[bool, str]:
    """Whether a finding is settled, and the words for what was done or is to be done."""
    import duckdb

    from aanet_assets.storage.locks import BusyError

    if finding.mend is None:
        return False, f"to do: {finding.remedy}"
    if dry_run:
        return False, f"without --dry-run: {finding.remedy}"
    try:
        finding.mend()
    except (BusyError, OSError, ValueError, duckdb.Error) as error:
        return False, f"could not be mended: {error}"
    return True, f"mended: {finding.remedy}"


def prune(study: StudyName, yes: Yes = False, runs_older_than_days: Days = None) -> None:
    """Remove what the study as it is now no longer needs, after showing what and how much."""
    from aanet_assets.cli.prune import remove, unneeded
    from aanet_assets.orchestration.old_runs import bytes_of_runs, delete_runs, old_runs
    from aanet_assets.storage.locks import BusyError

    subject = load(study)
    with open_instance() as instance:
        kinds = unneeded(subject)
        runs = (
            []
            if runs_older_than_days is None
            else old_runs(instance, subject, runs_older_than_days)
        )
        if not kinds and not runs:
            console.print("There is nothing to remove.")
            return
        table = Table("what", "number", "MB", "as", title=f"study {study}")
        for kind, files in kinds.items():
            first = next(iter(files)).relative_to(subject.paths.root)
            table.add_row(kind, str(len(files)), _mb(sum(files.values())), escape(str(first)))
        if runs:
            table.add_row(
                f"runs older than {runs_older_than_days:g} days", str(len(runs)),
                _mb(bytes_of_runs(instance, runs)), runs[0][:8],
            )  # fmt: skip
        console.print(table)
        if not yes and not typer.confirm("Remove all this?"):
            console.print("Nothing was removed.")
            return
        try:
            freed = remove(subject, [path for files in kinds.values() for path in files])
        except (BusyError, OSError) as error:
            raise stop(error) from None
        freed += bytes_of_runs(instance, runs)
        delete_runs(instance, runs)
    console.print(f"Freed {_mb(freed)} MB.", highlight=False)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"
