"""Provenance: what every partition on disk was made from.

A step removes its partition's record, writes its files, and writes the record last. So a record
is also the proof that the files are whole: after a kill at any moment, a partition either has its
record and its files, or counts as missing and is made again.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationError

from aanet_assets.storage.bucket import Bucket
from aanet_assets.storage.changes import short, why_other
from aanet_assets.storage.files import write_text
from aanet_assets.storage.fingerprints import content_digest, hash_of
from aanet_assets.storage.obeyed import digest_of, settings_values
from aanet_assets.storage.remote import (
    bucket_of,
    changing_records,
    fetch,
    missing,
    pull,
)
from aanet_assets.storage.step import Partition, Step, upstream
from aanet_assets.study.layout import StudyPaths
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
_UNSENT = ".unsent"
"""Ending of a record that its bucket does not have yet."""
_ANOTHER = "was made from another"


class NotReadyError(RuntimeError):
    """A partition that is to be read is missing, or does not belong to the study as it is now."""


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
    path, bucket = record_path(study, partition), bucket_of(study, partition.step)
    if bucket is None:
        path.unlink(missing_ok=True)
        return
    paths = partition.step.paths(study)
    path.with_suffix(_UNSENT).unlink(missing_ok=True)
    with changing_records(paths):
        bucket.remove([path.relative_to(paths.root).as_posix()])
        path.unlink(missing_ok=True)


def fetch_files(study: Study, partitions: Iterable[Partition]) -> None:
    """Fetch the files of finished partitions where they are kept in object storage and not here.

    Raises:
        RemoteError: they cannot be fetched, or are not what was recorded.
    """
    for bucket, paths, records in _kept(study, partitions):
        fetch(bucket, paths, [(record.files or {}, record.content) for record in records])


def fetch_tables(study: Study, partitions: Iterable[Partition]) -> None:
    """Fetch only those that are tables, as far as none of their sizes are here.

    Raises:
        RemoteError: they cannot be fetched.
    """
    for bucket, paths, records in _kept(study, partitions):
        start = f"{paths.tables.name}/"
        files = [record.files or {} for record in records]
        tables = [{n: size for n, size in of.items() if n.startswith(start)} for of in files]
        bucket.download(paths.root, missing(paths, tables))


def _kept(
    study: Study, partitions: Iterable[Partition]
) -> Iterator[tuple[Bucket, StudyPaths, list[Record]]]:
    """Records of the partitions that are kept in object storage, by where they are."""
    found: dict[Bucket, tuple[StudyPaths, list[Record]]] = {}
    for partition in partitions:
        bucket, record = bucket_of(study, partition.step), read_record(study, partition)
        if bucket is not None and record is not None:
            found.setdefault(bucket, (partition.step.paths(study), []))[1].append(record)
    for bucket, (paths, records) in found.items():
        yield bucket, paths, records


def unsent_files(
    study: Study, partition: Partition, made_from: dict[str, str], obeyed: Mapping[str, Any]
) -> list[Path] | None:
    """Files of a partition that was finished here, but could not be uploaded.

    None where there are none, or were it made now it would be made from something else.
    """
    record = _read(str(record_path(study, partition).with_suffix(_UNSENT)))
    if record is None or record.files is None:
        return None
    files = [partition.step.paths(study).root / name for name in record.files]
    if (record.settings, record.upstream) != (digest_of(obeyed), made_from):
        return None
    is_whole = all(map(Path.is_file, files)) and content_digest(files) == record.content
    return files if is_whole else None


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
    require_held: Callable[[], None] = lambda: None,
) -> Record:
    """Say that the partition's files are whole, after they were uploaded where that is wanted.

    Args:
        study: whose partition it is.
        partition: what was made.
        content: digest of the files.
        files: all of them.
        made_from: what it read before its work.
        obeyed: `settings_values` before its work, since inputs may change meanwhile; those of now
            if None.
        require_held: raises an error if another process may be making the partition.
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
    path, text = record_path(study, partition), record.model_dump_json(indent=2)
    bucket, paths = bucket_of(study, partition.step), partition.step.paths(study)
    if bucket is None:
        require_held()
        write_text(path, text)
        return record
    write_text(path.with_suffix(_UNSENT), text)
    bucket.upload(root, record.files or ())
    require_held()
    with changing_records(paths):
        bucket.write(path.relative_to(root).as_posix(), text)
        path.with_suffix(_UNSENT).replace(path)
    return record


class Standing:
    """How the partitions on disk stand to the study as it is now; read once, then remembered."""

    def __init__(self, study: Study):
        self.study = study
        self._there = pull(study)
        self.origin = cache(self._origin)
        self._direct_problem = cache(self._find_direct_problem)
        self._upstream = cache(lambda partition: upstream(study, partition))
        self._values = cache(lambda step, n: settings_values(study, step, n))
        self._digest = cache(lambda step, n: digest_of(self._values(step, n)))
        # Of ten thousand partitions, most of the time would go into the making of paths.
        self._root = cache(lambda step: step.paths(study).root)
        self._size_of = cache(self._sizes)
        self._folder = cache(lambda step: str(records_folder(study, step)))
        self._record = cache(lambda p: _read(f"{self._folder(p.step)}/{p.at.stem}.json"))

    def problem(self, partition: Partition) -> str | None:
        """Why a partition must be made, as the end of a "which ..."; None if it is good."""
        origin = self.origin(partition)
        if origin is None:
            return None
        reason = self._direct_problem(origin)
        return reason if origin == partition else f"is made from {origin}, which {reason}"

    def _origin(self, partition: Partition) -> Partition | None:
        """Where a partition's trouble begins: itself, or one that it is made from; None if good."""
        own = self._direct_problem(partition)
        if own is not None and not own.startswith(_ANOTHER):
            return partition
        for up in self._upstream(partition):
            if (origin := self.origin(up)) is not None:
                return origin
        return None if own is None else partition

    def _sizes(self, step: Step) -> Callable[[str], int | None]:
        """Tells sizes of a step's files where they are kept; None of those that are not there."""
        there = self._there.get(step.home(self.study))
        if there is not None:
            return lambda name: there[name].size if name in there else None
        root = self._root(step)

        def on_disk(name: str) -> int | None:
            try:
                return os.stat(f"{root}/{name}").st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

        return on_disk

    def _find_direct_problem(self, partition: Partition) -> str | None:
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
        if gone := _gone(self._size_of(step), record.files):
            return gone
        for up in self._upstream(partition):
            current = self._record(up)
            if current is not None and record.upstream.get(str(up)) != current.content:
                return f"{_ANOTHER} {up} than the one there is now"
        return None


def _gone(size_of: Callable[[str], int | None], files: Mapping[str, int | None]) -> str | None:
    """Which of a partition's files is not there, or not as large as it was; None if none."""
    for name, size in files.items():
        found = size_of(name)
        if found is None:
            return f"has lost its file {name}"
        if size not in (None, found):
            return f"had {size:,} bytes in {name}, where {found:,} are now"
    return None


def require_as_recorded(study: Study, partitions: Iterable[Partition], needed_by: str) -> None:
    """Refuse finished partitions whose files do not hold what was recorded of them.

    Files are read for it once, and again where their size or one of their times has changed since.

    Raises:
        NotReadyError: names the partition, and what mends it.
    """
    for up in partitions:
        record = read_record(study, up)
        if record is None or not record.files:
            continue
        root = up.step.paths(study).root
        try:
            found = content_digest((root / name for name in record.files), hash_of)
        except FileNotFoundError as error:
            found = f"no {Path(error.filename).name}"
        # It may be made anew while it is looked at.
        if found != record.content and read_record(study, up) == record:
            raise NotReadyError(
                f"{needed_by} needs {up}, whose files do not hold what was recorded of them "
                f"(recorded {record.content}, found {found}): the disk is at fault, or somebody "
                f"changed them. Run: aanet doctor {study.name}, then: aanet run {study.name}"
            )


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
