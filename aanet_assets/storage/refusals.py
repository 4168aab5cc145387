"""What a failed check leaves behind: a note of what was wrong, beside files that do not count."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from aanet_assets.storage.bucket import Bucket
from aanet_assets.storage.files import write_json
from aanet_assets.storage.records import record_path
from aanet_assets.storage.remote import bucket_of, changing_records
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
    with _changing(study, partition) as (bucket, name):
        write_json(_note(study, partition), Refusal(said, names)._asdict())
        if bucket is not None:
            bucket.upload(partition.step.paths(study).root, [name])


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
    with _changing(study, partition) as (bucket, name):
        note = _note(study, partition)
        if bucket is not None and note.exists():
            bucket.remove([name])
        note.unlink(missing_ok=True)


@contextmanager
def _changing(study: Study, partition: Partition) -> Iterator[tuple[Bucket | None, str]]:
    """The bucket, if results are kept in one, and the note's name there."""
    paths, bucket = partition.step.paths(study), bucket_of(study, partition.step)
    with changing_records(paths) if bucket is not None else nullcontext():
        yield bucket, _note(study, partition).relative_to(paths.root).as_posix()


def _note(study: Study, partition: Partition) -> Path:
    return record_path(study, partition).with_suffix(REFUSED)
