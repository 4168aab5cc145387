"""What a failed check leaves behind: a note of what was wrong, beside files that do not count."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from aanet_assets.storage.files import write_json
from aanet_assets.storage.records import record_path
from aanet_assets.storage.remote import bucket_of
from aanet_assets.storage.step import Partition
from aanet_assets.study.study import Study

REFUSED = ".refused"
"""Ending of a table's Parquet file that failed a check, and of the note in a record's place."""


class Refusal(NamedTuple):
    """Why a partition does not count although it was made."""

    said: str
    """By the checks that failed."""
    files: list[str]
    """That were left, relative to the study's folder."""


def write_refusal(study: Study, partition: Partition, said: str, files: Iterable[Path]) -> None:
    """Note that a partition failed a check, and the files that were left of it."""
    names = sorted(file.relative_to(partition.step.paths(study).root).as_posix() for file in files)
    write_json(_note(study, partition), Refusal(said, names)._asdict())
    if bucket := bucket_of(study, partition.step):
        bucket.upload(partition.step.paths(study).root, [_name(study, partition)])


def read_refusal(study: Study, partition: Partition) -> Refusal | None:
    """The note on a partition, with those of its files that are still there; None without one."""
    try:
        content = json.loads(_note(study, partition).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    files = [
        name for name in content["files"] if (partition.step.paths(study).root / name).is_file()
    ]
    return Refusal(content["said"], files)


def remove_refusal(study: Study, partition: Partition) -> None:
    """The partition was made again and passed."""
    note = _note(study, partition)
    if note.exists():
        if bucket := bucket_of(study, partition.step):
            bucket.remove([_name(study, partition)])
        note.unlink()


def _name(study: Study, partition: Partition) -> str:
    return _note(study, partition).relative_to(partition.step.paths(study).root).as_posix()


def _note(study: Study, partition: Partition) -> Path:
    return record_path(study, partition).with_suffix(REFUSED)
