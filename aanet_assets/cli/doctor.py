"""What crashes, kills, deleted files and changed settings left behind; and mending what is safe.

Each check looks at one kind of fault and yields what it found, in words for people. They run one
after the other: what an earlier one mended, a later one finds mended.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from aanet_assets.cli.prune import ABANDONED, unneeded
from aanet_assets.orchestration.orphans import mend_orphans, orphaned_runs, runs_elsewhere
from aanet_assets.orchestration.pipeline import partitions_of, steps_of, tables_of
from aanet_assets.science.vertices.manifest import manifest_file, manifest_problem
from aanet_assets.steps.vertices import manifests, rewrite_manifest
from aanet_assets.storage import warehouse
from aanet_assets.storage.files import abandoned, temporary_files
from aanet_assets.storage.integrity import database_problem, discard, fault_of
from aanet_assets.storage.locks import (
    doubtful_notes,
    left_notes,
    nothing_being_made,
    remove_left_notes,
)
from aanet_assets.storage.records import MISSING, Standing
from aanet_assets.storage.refusals import read_refusal
from aanet_assets.storage.step import upstream
from aanet_assets.study.study import Study

_LITTLE_SPACE = 2 * 2**30
_NOT_SAID = "a machine that is not said"


@dataclass(frozen=True)
class Problem:
    """One kind of fault that was found."""

    what: str
    """Which things are concerned."""
    meaning: str
    """What it means for the user."""
    remedy: str
    """What mending does, as in "are removed"; without `mend`, what the user can do."""
    mend: Callable[[], object] | None = None
    """Does it; None where it takes a person."""


def findings(study: Study, instance: dg.DagsterInstance) -> Iterator[Problem]:
    """Look at everything; faults that are mended as they come are not found again further on."""
    yield from _orphans(instance)
    yield from _runs_elsewhere(study, instance)
    if study.paths.root.is_dir():
        yield from _locks(study)
        yield from _doubtful_locks(study)
        yield from _temporary_files(study)
        yield from _doubtful_files(study)
        yield from _refusals(study)
        yield from _changed_files(study)
        yield from _unneeded(study)
        yield from _stale(study)
        yield from _database(study)
        yield from _manifest(study)
        yield from _space(study)


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _several(things: Iterable[object], most: int = 3) -> str:
    names = [str(thing) for thing in things]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _orphans(instance: dg.DagsterInstance) -> Iterator[Problem]:
    if orphans := orphaned_runs(instance):
        runs = (f"{run.run_id[:8]} of process {pid}" for run, pid in orphans)
        yield Problem(
            f"{_count(len(orphans), 'run')} without a process: {_several(runs)}",
            "their process was killed; Dagster believes that they go on",
            "marked as failed",
            lambda: mend_orphans(instance),
        )


def _runs_elsewhere(study: Study, instance: dg.DagsterInstance) -> Iterator[Problem]:
    if elsewhere := runs_elsewhere(instance):
        runs = (
            f"{run.run_id[:8]}, process {process.pid} of {process.host or _NOT_SAID}"
            for run, process in elsewhere
        )
        yield Problem(
            f"{_count(len(elsewhere), 'run')} of other machines or containers: {_several(runs)}",
            "whether they go on cannot be seen from here; they were left alone",
            f"if one has ended: aanet doctor {study.name} there, or Terminate in Dagit, with force",
        )


def _locks(study: Study) -> Iterator[Problem]:
    if notes := left_notes(study):
        pids = (f"{_name(note)} by process {holder.pid}" for note, holder in notes.items())
        yield Problem(
            f"{_count(len(notes), 'note')} of locks that nobody holds: {_several(pids)}",
            "their process was killed in the middle of a partition, which counts as missing",
            "removed",
            lambda: remove_left_notes(study),
        )


def _doubtful_locks(study: Study) -> Iterator[Problem]:
    if notes := doubtful_notes(study):
        holders = (
            f"{_name(note)} by process {holder.pid} of {holder.host or _NOT_SAID}, "
            f"{_age(holder.since)} old"
            for note, holder in notes.items()
        )
        folder = study.paths.locks
        yield Problem(
            f"{_count(len(notes), 'note')} of locks of other machines: {_several(holders)}",
            "no lock is held, as far as can be seen from here; the notes were left alone",
            f"if the process has ended: aanet doctor {study.name} there, or remove the note's file "
            f"in {folder}",
        )


def _temporary_files(study: Study) -> Iterator[Problem]:
    if files := abandoned(study.paths.root):
        yield Problem(
            f"{_count(len(files), 'temporary file')}: {_several(path.name for path in files)}",
            "their process was killed while it wrote them; nothing reads them",
            "removed",
            lambda: _remove_abandoned(study),
        )


def _remove_abandoned(study: Study) -> None:
    with nothing_being_made(study):
        for path in abandoned(study.paths.root):
            path.unlink(missing_ok=True)


def _doubtful_files(study: Study) -> Iterator[Problem]:
    states = temporary_files(study.paths.root)
    ages = {
        path: _age(path.stat().st_mtime)
        for path, state in states.items()
        # Its writer may have finished it by now.
        if state == "unknown" and path.exists()
    }
    if ages:
        names = (f"{path.name}, {age} old" for path, age in ages.items())
        folders = {str(path.parent) for path in ages}
        yield Problem(
            f"{_count(len(ages), 'temporary file')} of other machines or containers, or of an "
            f"earlier version: {_several(names)}",
            "whether they are being written cannot be seen from here; they were left alone",
            f"if nothing writes them any more: aanet doctor {study.name} there, or remove them "
            f"from {_several(sorted(folders))}",
        )


def _refusals(study: Study) -> Iterator[Problem]:
    for partition in partitions_of(study):
        if refusal := read_refusal(study, partition):
            left = f"left of it: {_several(refusal.files)}" if refusal.files else "nothing left"
            yield Problem(
                f"{partition}: {refusal.said} ({left})",
                "it does not count, and nothing reads it",
                f"mend what the check found, then: aanet run {study.name}",
            )


def _name(note: Path) -> str:
    return f"{note.parent.name} {note.stem}"


def _age(since: float) -> str:
    """By this machine's clock; a file's time may be by another's."""
    hours = max(0.0, time.time() - since) / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def _changed_files(study: Study) -> Iterator[Problem]:
    """Every file that a record names is read, which is what takes time on a large study."""
    for step in steps_of(study):
        damaged = {p: fault for p in step.all_of(study) if (fault := fault_of(study, p))}
        if damaged:
            faults = (f"{partition}: {fault}" for partition, fault in damaged.items())
            what = f"{_count(len(damaged), 'partition')} with other files than recorded"
            yield Problem(
                f"{what}: {_several(faults)}",
                "files were deleted or changed by something other than a run",
                f"no longer counted as there; made again by: aanet run {study.name}",
                lambda damaged=damaged: [discard(study, partition) for partition in damaged],
            )


def _unneeded(study: Study) -> Iterator[Problem]:
    for kind, files in unneeded(study).items():
        if kind != ABANDONED:
            names = (path.relative_to(study.paths.root) for path in files)
            yield Problem(
                f"{_count(len(files), 'file')} {kind}: {_several(names)}",
                f"nothing reads them; they take {sum(files.values()) / 1e6:,.1f} MB",
                f"aanet prune {study.name}",
            )


def _stale(study: Study) -> Iterator[Problem]:
    standing = Standing(study)
    for step in steps_of(study):
        # Named where it begins: what was made from something stale or missing follows from that.
        stale = {
            partition: problem
            for partition in step.all_of(study)
            if (problem := standing.problem(partition)) not in (None, MISSING)
            and not any(standing.problem(up) for up in upstream(study, partition))
        }
        if stale:
            partition, problem = next(iter(stale.items()))
            yield Problem(
                f"{_count(len(stale), 'stale partition')} of {step.name}, as {partition}",
                f"it {problem}; what was made from it is stale, too",
                f"aanet run {study.name}",
            )


def _database(study: Study) -> Iterator[Problem]:
    tables = tables_of(study)
    if problem := database_problem(study.paths, tables):
        yield Problem(
            f"{study.paths.database.name} {problem}",
            "SQL does not see what the Parquet files hold",
            "made anew from the Parquet files",
            lambda: warehouse.update(study.paths, tables),
        )


def _manifest(study: Study) -> Iterator[Problem]:
    if problem := manifest_problem(study, manifests(study)):
        yield Problem(
            f"{manifest_file(study).relative_to(study.paths.root)} {problem}",
            "scripts that read it do not see what the manifest of each n_clusters holds",
            "made anew from those manifests",
            lambda: rewrite_manifest(study),
        )


def _space(study: Study) -> Iterator[Problem]:
    free = shutil.disk_usage(study.paths.root).free
    if free < _LITTLE_SPACE:
        yield Problem(
            f"{free / 1e9:.1f} GB are free on the disk of {study.paths.root}",
            "a run may stop for lack of room; it can go on once there is some",
            f"make room; aanet prune {study.name} --runs-older-than-days 30 may give some",
        )
