"""Whether files still hold what was written, and what to do with a partition whose do not."""

from collections.abc import Sequence
from contextlib import suppress

import duckdb

from aanet_assets.storage import warehouse
from aanet_assets.storage.bucket import DamagedError
from aanet_assets.storage.fingerprints import content_digest
from aanet_assets.storage.locks import partition_lock
from aanet_assets.storage.records import discard_record, fetch_files, read_record
from aanet_assets.storage.remote import bucket_of
from aanet_assets.storage.step import Partition
from aanet_assets.storage.table import Table
from aanet_assets.study.layout import StudyPaths
from aanet_assets.study.study import Study


def fault_of(study: Study, partition: Partition) -> str | None:
    """What is wrong with the files of a partition, all of which are read; None if nothing is.

    A partition without a record has no files that count. Of what is kept in object storage, that
    is read which has been fetched; fetched anew where it is not as recorded.
    """
    record = read_record(study, partition)
    if record is None or record.files is None:
        return None
    root = partition.step.paths(study).root
    files = [root / name for name in record.files]
    is_kept_here = bucket_of(study, partition.step) is None
    if gone := [file for file in files if not file.is_file()]:
        return f"{gone[0].relative_to(root)} is missing" if is_kept_here else None
    content = content_digest(files)
    if content == record.content:
        return None
    if not is_kept_here:
        for file in files:
            file.unlink()
        with suppress(DamagedError):
            fetch_files(study, [partition])
            return None
    return f"stored {record.content}, found {content}"


def discard(study: Study, partition: Partition) -> None:
    """Make a damaged partition count as missing.

    Its Parquet files go, since one that cannot be read stands in the way of the whole database.

    Raises:
        BusyError: another process is making it.
    """
    with partition_lock(study, partition):
        record = read_record(study, partition)
        # It may have been made again since it was looked at.
        if record is None or record.files is None or fault_of(study, partition) is None:
            return
        discard_record(study, partition)
        paths = partition.step.paths(study)
        for path in (paths.root / name for name in record.files):
            if paths.tables in path.parents:
                path.unlink(missing_ok=True)


def database_problem(paths: StudyPaths, tables: Sequence[Table]) -> str | None:
    """How `metrics.duckdb` differs from what it would be if made now; None if it does not."""
    has_rows = any(any((paths.tables / table.name).glob("*.parquet")) for table in tables)
    if not paths.database.exists():
        return "is missing" if has_rows else None
    # Of all rows together, whatever their order.
    contents = "SELECT count(*), sum(hash(t)) FROM {} t"
    try:
        with (
            duckdb.connect(str(paths.database), read_only=True) as stored,
            warehouse.in_memory(paths, tables) as now,
        ):
            for table in tables:
                found, expected = (
                    database.execute(contents.format(table.name)).fetchone()
                    for database in (stored, now)
                )
                if found != expected:
                    return f"does not hold the rows of the {table}"
    except (duckdb.Error, ValueError) as error:
        return f"cannot be compared with the Parquet files: {str(error).splitlines()[0]}"
    return None
