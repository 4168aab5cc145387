"""The DuckDB file that is made from the Parquet files of a study's tables.

The Parquet files are the truth. `metrics.duckdb` is changed in a copy that is swapped in, so a
query never waits for a run, never blocks one, and never sees half a partition. Whoever holds the
old file open goes on reading the old tables.
"""

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import duckdb
import pyarrow as pa

from aanet_assets.storage.file_locks import locked
from aanet_assets.storage.files import replacing
from aanet_assets.storage.table import Table
from aanet_assets.study.layout import StudyPaths

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("aanet")
T = TypeVar("T")

# The file can be opened by the DuckDB command line from this version on.
_STORAGE_VERSION = "v1.5.0"
# A partition's rows are few: starting threads would take longer than they save.
_ONE_THREAD: dict[str, Any] = {"threads": 1}


def update(paths: StudyPaths, tables: Sequence[Table], anew: bool = False) -> None:
    """Bring `metrics.duckdb` in line with the Parquet files; one process at a time.

    The rows of files that are new, changed or gone are replaced in a copy, which is then swapped
    in. Several partitions that were finished at once are taken in together: whoever comes second
    finds nothing left to do. A database that is lost, damaged, of other tables than today's or was
    written to by somebody else is made anew from all files; any is, if `anew`.

    Raises:
        ValueError: a Parquet file cannot be read.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    with locked(paths.database.with_suffix(".duckdb.lock")):
        there = _files(paths, tables)
        held = None if anew else _held(paths.database, tables)
        if there == held:
            return
        with replacing(paths.database) as temporary:
            try:
                stamp = _write(temporary, paths, tables, held, there)
            except duckdb.Error as error:
                if held is None or not _is_damage(temporary, error):
                    raise
                _tell_damage(paths, error)
                stamp = _write(temporary, paths, tables, None, there)
            os.utime(temporary, ns=(stamp, stamp))
            # A log left behind by a writer of the old file does not belong to the new one. It goes
            # first: nobody, not even after a kill in between, may find it beside the new file.
            Path(f"{paths.database}.wal").unlink(missing_ok=True)


def _write(
    temporary: Path,
    paths: StudyPaths,
    tables: Sequence[Table],
    held: "_Files | None",
    there: "_Files",
) -> int:
    """Write a copy of the database that is up to date, or a new one where it holds nothing.

    Returns: the time of change that the file is to get.
    """
    temporary.unlink()
    if held is not None:
        shutil.copyfile(paths.database, temporary)
    try:
        settings = {**_ONE_THREAD, "storage_compatibility_version": _STORAGE_VERSION}
        with duckdb.connect(str(temporary), config=settings) as database:
            if held is None:
                _create(database, tables)
            stamp = _replace(database, paths, tables, held or {}, there)
            database.execute("CHECKPOINT")
    finally:
        # DuckDB's own log stays behind where there was no room for the tables.
        Path(f"{temporary}.wal").unlink(missing_ok=True)
    return stamp


class _File(NamedTuple):
    """A Parquet file as the database remembers it; another one has another time of change."""

    table: str
    stem: str
    size: int
    modified: int
    """Nanoseconds."""
    inode: int


_Files = dict[tuple[str, str], _File]


def _files(paths: StudyPaths, tables: Sequence[Table]) -> _Files:
    """The Parquet files of all tables, by table and first part of the name."""
    found: _Files = {}
    for table in (table.name for table in tables):
        folder = paths.tables / table
        for entry in os.scandir(folder) if folder.is_dir() else ():
            stem, ending = os.path.splitext(entry.name)
            # A partition may be removed after its file was listed.
            with contextlib.suppress(FileNotFoundError):
                if ending == ".parquet" and not stem.startswith("."):
                    stat = entry.stat()
                    file = _File(table, stem, stat.st_size, stat.st_mtime_ns, stat.st_ino)
                    found[table, stem] = file
    return found


def _held(path: Path, tables: Sequence[Table]) -> _Files | None:
    """What the database says that it was made from; None where it cannot be gone on with."""
    try:
        modified = path.stat().st_mtime_ns
        with duckdb.connect(str(path), read_only=True, config=_ONE_THREAD) as database:
            answer = database.execute("SELECT schemas, modified FROM provenance.database")
            if answer.fetchall() != [(_schemas(tables), modified)]:
                return None
            files = database.execute("FROM provenance.parquet_files").fetchall()
    except (FileNotFoundError, duckdb.Error):
        return None
    return {file[:2]: _File(*file) for file in files}


def _schemas(tables: Sequence[Table]) -> str:
    return repr([(table.name, table.description, table.columns) for table in tables])


def _create(database: duckdb.DuckDBPyConnection, tables: Sequence[Table]) -> None:
    for table in tables:
        database.register("nothing", table.schema.empty_table())
        database.execute(f"CREATE TABLE {table.name} AS FROM nothing")
        database.unregister("nothing")
        comments = [("TABLE", table.name, table.description)]
        comments += [("COLUMN", f'{table.name}."{c.name}"', c.description) for c in table.columns]
        for kind, name, said in comments:
            quoted = said.replace("'", "''")
            database.execute(f"COMMENT ON {kind} {name} IS '{quoted}'")
    # Apart from the tables of the study, so that nobody takes them for some.
    database.execute("CREATE SCHEMA provenance")
    database.execute(
        "CREATE TABLE provenance.parquet_files"
        "(table_name VARCHAR, stem VARCHAR, size BIGINT, modified BIGINT, inode UBIGINT)"
    )
    database.execute("CREATE TABLE provenance.database(schemas VARCHAR, modified BIGINT)")


def _replace(
    database: duckdb.DuckDBPyConnection,
    paths: StudyPaths,
    tables: Sequence[Table],
    held: _Files,
    there: _Files,
) -> int:
    """Replace the rows of files that differ; returns the time of change that the file is to get."""
    by_name = {table.name: table for table in tables}
    for file in held.values():
        if there.get((file.table, file.stem)) != file:
            numbers = dict(_NUMBER.findall(file.stem))
            columns = partition_columns(by_name[file.table])
            where = " AND ".join(f"{columns[name]} = {numbers[name]}" for name in numbers)
            database.execute(f"DELETE FROM {file.table} WHERE {where or 'true'}")
            database.execute(
                "DELETE FROM provenance.parquet_files WHERE (table_name, stem) = (?, ?)",
                file[:2],
            )
    for name, table in by_name.items():
        new = [file for key, file in there.items() if file.table == name and held.get(key) != file]
        parts, taken = [table.schema.empty_table()], []
        for file in sorted(new):
            path = table.file(paths.tables, file.stem)
            try:
                parts.append(table.rows(path))
            except FileNotFoundError:
                continue
            except pa.ArrowException as error:
                raise ValueError(
                    f"{path} cannot be read ({error}): the disk is at fault, "
                    f"or somebody changed it. Run: aanet doctor {paths.root.name}"
                ) from error
            taken.append(file)
        if taken:
            database.register("rows", pa.concat_tables(parts))
            database.execute(f"INSERT INTO {name} BY NAME FROM rows")
            database.unregister("rows")
            database.executemany("INSERT INTO provenance.parquet_files VALUES (?,?,?,?,?)", taken)
    stamp = time.time_ns()
    database.execute("DELETE FROM provenance.database")
    database.execute("INSERT INTO provenance.database VALUES (?, ?)", [_schemas(tables), stamp])
    return stamp


_NUMBER = re.compile(r"(shard|n|k)(\d+)")


def partition_columns(table: Table) -> dict[str, str]:
    """The columns that hold the numbers of a partition, by their names in those of its files."""
    k = "aanet_k" if "aanet_k" in table.names else "k"
    return {"shard": "shard", "n": "n_clusters_total", "k": k}


def query(paths: StudyPaths, tables: Sequence[Table], sql: str) -> duckdb.DuckDBPyRelation:
    """Answer a query on the study's tables.

    Raises:
        FileNotFoundError: nothing has been written yet.
        duckdb.Error: the query is wrong.
    """
    if not paths.database.exists():
        raise FileNotFoundError(f"{paths.database} is not there yet: nothing has been computed")
    try:
        database = duckdb.connect(str(paths.database), read_only=True)
    except duckdb.IOException:
        # Somebody has the file open to write, or left the log of an older one beside it.
        database = in_memory(paths, tables)
    return database.query(sql)


def answer(
    paths: StudyPaths,
    tables: Sequence[Table],
    sql: str,
    take: Callable[[Any], T],
) -> T:
    """What is taken from the answer to a query; a damaged database is made anew for it.

    Args:
        take: given what `query` returns.

    Raises:
        FileNotFoundError: nothing has been written yet.
        ValueError: a Parquet file that it would be made from cannot be read.
        duckdb.Error: the query is wrong.
    """
    try:
        return take(query(paths, tables, sql))
    except duckdb.Error as error:
        if not _is_damage(paths.database, error):
            raise
        _tell_damage(paths, error)
    update(paths, tables, anew=True)
    return take(query(paths, tables, sql))


def _is_damage(path: Path, error: duckdb.Error) -> bool:
    """Whether an error is the file's, and neither the query's nor that of a full disk."""
    said, kinds = str(error), (duckdb.SerializationException, duckdb.FatalException)
    is_unreadable = path.name in said and "Could not read" in said
    return is_unreadable or "Corrupt database file" in said or isinstance(error, kinds)


def _tell_damage(paths: StudyPaths, error: duckdb.Error) -> None:
    said = " ".join(str(error).split())
    log.warning(
        f"{paths.database.name} was damaged, and is made anew from the Parquet files: {said}"
    )


def in_memory(paths: StudyPaths, tables: Sequence[Table]) -> duckdb.DuckDBPyConnection:
    """The tables as the Parquet files hold them now, in a database without a file."""
    database = duckdb.connect()
    _create(database, tables)
    _replace(database, paths, tables, {}, _files(paths, tables))
    return database


def write_frames(path: Path, frames: "dict[str, pd.DataFrame]") -> None:
    """Write a database of its own, a table per frame; whatever was there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.unlink()
        settings = {**_ONE_THREAD, "storage_compatibility_version": _STORAGE_VERSION}
        with duckdb.connect(str(temporary), config=settings) as database:
            for name, frame in frames.items():
                database.register("rows", frame)
                database.execute(f"CREATE TABLE {name} AS FROM rows")
                database.unregister("rows")
            database.execute("CHECKPOINT")
