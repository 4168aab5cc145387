"""Provenance: what every partition on disk was made from.

A step removes its partition's record, writes its files, and writes the record last. So a record
is also the proof that the files are whole: after a kill at any moment, a partition either has its
record and its files, or counts as missing and is made again.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationError

from aanet_assets.storage.changes import short, why_other
from aanet_assets.storage.files import write_text
from aanet_assets.storage.obeyed import digest_of, settings_values
from aanet_assets.storage.step import Partition, Step, upstream
from aanet_assets.study.study import Study


def _without_sizes(files: object) -> object:
    """What an earlier version of the code wrote: the names alone."""
    return dict.fromkeys(files) if isinstance(files, list) else files


class Record(BaseModel):
    """What one partition holds and was made from; digests are short SHA-256 ones."""

    content: str
    """Digest of the partition's files: its data version."""
    settings: str
    """Digest of the settings that the step obeyed."""
    values: dict[str, Any] | None = None
    """Those settings themselves, as they were when the work began; None in older records."""
    upstream: dict[str, str]
    """Content of each partition it read, by name."""
    files: Annotated[dict[str, int | None] | None, BeforeValidator(_without_sizes)] = None
    """The partition's files, relative to the study's folder, with their sizes; None where earlier
    versions of the code, which did not keep them, wrote the record."""


MISSING = "is missing"
_ANOTHER = "was made from another"


class NotReadyError(RuntimeError):
    """A partition that is to be read is missing, or does not belong to the study as it is now."""


def content_digest(files: Iterable[Path]) -> str:
    """Hash of names and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def records_folder(study: Study, step: Step) -> Path:
    """Where the records of a step's partitions lie."""
    return step.paths(study).records / step.name


def record_path(study: Study, partition: Partition) -> Path:
    """Where the record of a partition lies, if there is one."""
    return records_folder(study, partition.step) / f"{partition.at.stem}.json"


def read_record(study: Study, partition: Partition) -> Record | None:
    """The record of a partition, or None if it was never finished; a damaged one proves nothing."""
    return _read(str(record_path(study, partition)))


def _read(path: str) -> Record | None:
    try:
        with open(path, "rb") as file:
            return Record.model_validate_json(file.read())
    except (FileNotFoundError, ValidationError):
        return None


def discard_record(study: Study, partition: Partition) -> None:
    """Say that the partition's files are about to change."""
    record_path(study, partition).unlink(missing_ok=True)


def contents_read(study: Study, partition: Partition) -> dict[str, str]:
    """Content of each partition that this one reads, by name, as it is now."""
    read = {up: read_record(study, up) for up in upstream(study, partition)}
    return {str(up): found.content for up, found in read.items() if found}


def made_from_digest(study: Study, partition: Partition) -> str:
    """Short hash of all that a partition's content follows from: settings and what it reads."""
    settings = digest_of(settings_values(study, partition.step, partition.n))
    read = sorted(contents_read(study, partition).items())
    return hashlib.sha256(repr((settings, read)).encode()).hexdigest()[:16]


def write_record(
    study: Study,
    partition: Partition,
    content: str,
    files: Iterable[Path],
    made_from: dict[str, str],
    obeyed: Mapping[str, Any] | None = None,
) -> Record:
    """Say that the partition's files are whole.

    Args:
        study: whose partition it is.
        partition: what was made.
        content: digest of the files.
        files: all of them.
        made_from: what it read before its work.
        obeyed: `settings_values` before its work, since inputs may change meanwhile; those of now
            if None.
    """
    obeyed = obeyed or settings_values(study, partition.step, partition.n)
    root = partition.step.paths(study).root
    record = Record(
        content=content,
        settings=digest_of(obeyed),
        values=short(obeyed),
        upstream=made_from,
        files={path.relative_to(root).as_posix(): path.stat().st_size for path in sorted(files)},
    )
    write_text(record_path(study, partition), record.model_dump_json(indent=2))
    return record


class Standing:
    """How the partitions on disk stand to the study as it is now; read once, then remembered."""

    def __init__(self, study: Study):
        self.study = study
        self.origin = cache(self._origin)
        self._own_problem = cache(self._find_own_problem)
        self._upstream = cache(lambda partition: upstream(study, partition))
        self._values = cache(lambda step, n: settings_values(study, step, n))
        self._digest = cache(lambda step, n: digest_of(self._values(step, n)))
        # Of ten thousand partitions, most of the time would go into the making of paths.
        self._root = cache(lambda step: step.paths(study).root)
        self._folder = cache(lambda step: str(records_folder(study, step)))
        self._record = cache(lambda p: _read(f"{self._folder(p.step)}/{p.at.stem}.json"))

    def problem(self, partition: Partition) -> str | None:
        """Why a partition must be made, as the end of a "which ..."; None if it is good."""
        origin = self.origin(partition)
        if origin is None:
            return None
        reason = self._own_problem(origin)
        return reason if origin == partition else f"is made from {origin}, which {reason}"

    def _origin(self, partition: Partition) -> Partition | None:
        """Where a partition's trouble begins: itself, or one that it is made from; None if good."""
        own = self._own_problem(partition)
        if own is not None and not own.startswith(_ANOTHER):
            return partition
        for up in self._upstream(partition):
            if (origin := self.origin(up)) is not None:
                return origin
        return None if own is None else partition

    def _find_own_problem(self, partition: Partition) -> str | None:
        """What is wrong with a partition itself, whatever stands with what it is made from."""
        record = self._record(partition)
        if record is None:
            return MISSING
        if record.files is None:
            return "was recorded by an earlier version of the code, without its files"
        # Of all that a study may name, only labels are files of one n_clusters each.
        step, n = partition.step, partition.n if self.study.clustering.labels_file else None
        if record.settings != self._digest(step, n):
            return why_other(record.values, self._values(step, n))
        if gone := _gone(self._root(step), record.files):
            return gone
        for up in self._upstream(partition):
            current = self._record(up)
            if current is not None and record.upstream.get(str(up)) != current.content:
                return f"{_ANOTHER} {up} than the one there is now"
        return None


def _gone(root: Path, files: Mapping[str, int | None]) -> str | None:
    """Which of a partition's files is not there, or not as large as it was; None if none."""
    for name, size in files.items():
        try:
            found = os.stat(f"{root}/{name}").st_size
        except (FileNotFoundError, NotADirectoryError):
            return f"has lost its file {name}"
        if size not in (None, found):
            return f"had {size:,} bytes in {name}, where {found:,} are now"
    return None


def require_upstream(study: Study, partition: Partition) -> None:
    """Refuse to compute a partition from something missing or stale.

    Raises:
        NotReadyError: names the partition, what is wrong with it, and the command that makes it.
    """
    standing = Standing(study)
    for up in upstream(study, partition):
        problem = standing.problem(up)
        if problem is not None:
            only_n = f" --n-clusters {up.n}" if up.n is not None else ""
            raise NotReadyError(
                f"{partition} of study {study.name!r} needs {up}, which {problem}. "
                f"Run: aanet run {study.name} --until {up.step.name}{only_n}"
            )
