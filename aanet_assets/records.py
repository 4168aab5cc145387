"""Provenance: what every partition on disk was made from.

A step removes its partition's record, writes its files, and writes the record last. So a record
is also the proof that the files are whole: after a kill at any moment, a partition either has its
record and its files, or counts as missing and is made again.
"""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ValidationError

from aanet_assets.files import write_text
from aanet_assets.lineage import Partition, settings_digest, steps, upstream
from aanet_assets.study import Study


class Record(BaseModel):
    """What one partition holds and was made from; all values are short SHA-256 digests."""

    content: str
    """Of the partition's files: its data version."""
    settings: str
    """Of the settings the step obeyed."""
    upstream: dict[str, str]
    """Content of each partition it read, by name."""
    files: list[str] | None = None
    """The partition's files, relative to the study's folder; None where an earlier version of the
    code, which did not keep them, wrote the record."""


MISSING = "is missing"


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


def record_path(study: Study, partition: Partition) -> Path:
    """Where the record of a partition lies, if there is one."""
    return study.paths.records / partition.step / f"{partition.stem}.json"


def read_record(study: Study, partition: Partition) -> Record | None:
    """The record of a partition, or None if it was never finished; a damaged one proves nothing."""
    try:
        return Record.model_validate_json(record_path(study, partition).read_bytes())
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
    settings = settings_digest(study, steps(study)[partition.step])
    read = sorted(contents_read(study, partition).items())
    return hashlib.sha256(repr((settings, read)).encode()).hexdigest()[:16]


def write_record(
    study: Study,
    partition: Partition,
    content: str,
    files: Iterable[Path],
    made_from: dict[str, str],
) -> Record:
    """Say that the partition's files are whole; `made_from` is what it read before its work."""
    record = Record(
        content=content,
        settings=settings_digest(study, steps(study)[partition.step]),
        upstream=made_from,
        files=sorted(path.relative_to(study.paths.root).as_posix() for path in files),
    )
    write_text(record_path(study, partition), record.model_dump_json(indent=2))
    return record


class Standing:
    """How the partitions on disk stand to the study as it is now; read once, then remembered."""

    def __init__(self, study: Study):
        self.study = study
        self.problem = cache(self._problem)
        self._expected = cache(lambda step: settings_digest(study, steps(study)[step]))

    def _problem(self, partition: Partition) -> str | None:
        """Why a partition must be made, as the end of a "which ..."; None if it is good."""
        record = read_record(self.study, partition)
        if record is None:
            return MISSING
        if record.files is None:
            return "was recorded by an earlier version of the code, without its files"
        expected = self._expected(partition.step)
        if record.settings != expected:
            return (
                "was made with other settings or input files: "
                f"stored {record.settings}, expected {expected}"
            )
        for up in upstream(self.study, partition):
            if self.problem(up) is not None:
                return f"reads {up}, which {self.problem(up)}"
            current = read_record(self.study, up)
            stored = record.upstream.get(str(up))
            if current is not None and stored != current.content:
                return f"was made from another {up}: stored {stored}, expected {current.content}"
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
                f"Run: aanet run {study.name} --until {up.step}{only_n}"
            )
