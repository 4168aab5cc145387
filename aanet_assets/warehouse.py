"""Tables: Parquet files, one per partition, and the DuckDB file made from them.

The Parquet files are the truth. `metrics.duckdb` is changed in a copy that is swapped in, so a
query never waits for a run, never blocks one, and never sees half a partition. Whoever holds the
old file open goes on reading the old tables.
"""

import contextlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aanet_assets.files import replacing
from aanet_assets.lineage import Partition
from aanet_assets.locks import locked
from aanet_assets.paths import StudyPaths
from aanet_assets.tables import TABLES

# The file can be opened by the DuckDB command line from this version on.
_STORAGE_VERSION = "v1.5.0"
# A partition's rows are few: starting threads would take longer than they save.
_ONE_THREAD: dict[str, Any] = {"threads": 1}
_NULLABLE = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
}


def table_file(paths: StudyPaths, table: str, partition: Partition) -> Path:
    """Parquet file of one partition of a table."""
    return paths.tables / table / f"{partition.stem}.parquet"


def write_table(paths: StudyPaths, table: str, partition: Partition, frame: pd.DataFrame) -> Path:
    """Replace one partition of a table; `frame` has exactly the table's columns, in any order.

    Raises:
        ValueError: columns are missing or unknown.
    """
    schema = TABLES[table]
    if set(frame.columns) != set(schema.names):
        wrong = sorted(set(frame.columns) ^ set(schema.names))
        raise ValueError(f"table {table}: columns missing or unknown: {', '.join(wrong)}")
    rows = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    path = table_file(paths, table, partition)
    with replacing(path) as temporary:
        # Without pandas' own metadata the bytes depend on nothing but the rows.
        pq.write_table(rows.replace_schema_metadata(None), temporary)
    return path


def read_table(paths: StudyPaths, table: str, *partitions: Partition) -> pd.DataFrame:
    """Some partitions of a table, with nullable integers, booleans and strings."""
    schema = TABLES[table]
    parts = [_read(table_file(paths, table, partition), schema) for partition in partitions]
    return pa.concat_tables(parts).to_pandas(types_mapper=_NULLABLE.get)


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    """A Parquet file, as far as it has the schema's columns.

    An earlier version of the code may have written others: what it did not know is null, and what
    is no longer known is left out.
    """
    # Not read_table, which takes the name for a pattern.
    rows = pq.ParquetFile(path).read()
    columns = []
    for field in schema:
        try:
            columns.append(rows[field.name].cast(field.type))
        except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
            columns.append(pa.nulls(len(rows), field.type))
    return pa.table(columns, schema=schema)


def update(paths: StudyPaths) -> None:
    """Bring `metrics.duckdb` in line with the Parquet files; one process at a time.

    The rows of files that are new, changed or gone are replaced in a copy, which is then swapped
    in. Several partitions that were finished at once are taken in together: whoever comes second
    finds nothing left to do. A database that is lost, damaged, of other tables than today's or was
    written to by somebody else is made anew from all files.

    Raises:
        NoLocksError: there are no locks on this disk.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    with locked(paths.database.with_suffix(".duckdb.lock")):
        there, held = _files(paths), _held(paths.database)
        if there == held:
            return
        with replacing(paths.database) as temporary:
            temporary.unlink()
            if held is not None:
                shutil.copyfile(paths.database, temporary)
            try:
                settings = {**_ONE_THREAD, "storage_compatibility_version": _STORAGE_VERSION}
                with duckdb.connect(str(temporary), config=settings) as database:
                    if held is None:
                        _create(database)
                    stamp = _replace(database, paths, held or {}, there)
                    database.execute("CHECKPOINT")
            finally:
                # DuckDB's own log stays behind where there was no room for the tables.
                Path(f"{temporary}.wal").unlink(missing_ok=True)
            os.utime(temporary, ns=(stamp, stamp))
            # A log left behind by a writer of the old file does not belong to the new one. It goes
            # first: nobody, not even after a kill in between, may find it beside the new file.
            Path(f"{paths.database}.wal").unlink(missing_ok=True)


class _File(NamedTuple):
    """A Parquet file as the database remembers it; another one has another time of change."""

    table: str
    stem: str
    size: int
    modified: int
    """Nanoseconds."""
    inode: int


_Files = dict[tuple[str, str], _File]


def _files(paths: StudyPaths) -> _Files:
    """The Parquet files of all tables, by table and first part of the name."""
    found: _Files = {}
    for table in TABLES:
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


def _held(path: Path) -> _Files | None:
    """What the database says that it was made from; None where it cannot be gone on with."""
    try:
        modified = path.stat().st_mtime_ns
        with duckdb.connect(str(path), read_only=True, config=_ONE_THREAD) as database:
            answer = database.execute("SELECT schemas, modified FROM provenance.database")
            if answer.fetchall() != [(_schemas(), modified)]:
                return None
            files = database.execute("FROM provenance.parquet_files").fetchall()
    except (FileNotFoundError, duckdb.Error):
        return None
    return {file[:2]: _File(*file) for file in files}


def _schemas() -> str:
    return repr({table: schema.to_string() for table, schema in TABLES.items()})


def _create(database: duckdb.DuckDBPyConnection) -> None:
    for table, schema in TABLES.items():
        database.register("nothing", schema.empty_table())
        database.execute(f"CREATE TABLE {table} AS FROM nothing")
        database.unregister("nothing")
    # Apart from the tables of the study, so that nobody takes them for some.
    database.execute("CREATE SCHEMA provenance")
    database.execute(
        "CREATE TABLE provenance.parquet_files"
        "(table_name VARCHAR, stem VARCHAR, size BIGINT, modified BIGINT, inode UBIGINT)"
    )
    database.execute("CREATE TABLE provenance.database(schemas VARCHAR, modified BIGINT)")


def _replace(
    database: duckdb.DuckDBPyConnection, paths: StudyPaths, held: _Files, there: _Files
) -> int:
    """Replace the rows of files that differ; returns the time of change that the file is to get."""
    for file in held.values():
        if there.get((file.table, file.stem)) != file:
            numbers = dict(_NUMBER.findall(file.stem))
            columns = _partition_columns(TABLES[file.table])
            where = " AND ".join(f"{columns[name]} = {numbers[name]}" for name in numbers)
            database.execute(f"DELETE FROM {file.table} WHERE {where or 'true'}")
            database.execute(
                "DELETE FROM provenance.parquet_files WHERE (table_name, stem) = (?, ?)",
                file[:2],
            )
    for table, schema in TABLES.items():
        new = [file for key, file in there.items() if file.table == table and held.get(key) != file]
        parts, taken = [schema.empty_table()], []
        for file in sorted(new):
            with contextlib.suppress(FileNotFoundError):
                parts.append(_read(paths.tables / table / f"{file.stem}.parquet", schema))
                taken.append(file)
        if taken:
            database.register("rows", pa.concat_tables(parts))
            database.execute(f"INSERT INTO {table} BY NAME FROM rows")
            database.unregister("rows")
            database.executemany("INSERT INTO provenance.parquet_files VALUES (?,?,?,?,?)", taken)
    stamp = time.time_ns()
    database.execute("DELETE FROM provenance.database")
    database.execute("INSERT INTO provenance.database VALUES (?, ?)", [_schemas(), stamp])
    return stamp


_NUMBER = re.compile(r"(shard|n|k)(\d+)")


def _partition_columns(schema: pa.Schema) -> dict[str, str]:
    """The columns that hold the numbers of a partition, by their names in those of its files."""
    k = "aanet_k" if "aanet_k" in schema.names else "k"
    return {"shard": "shard", "n": "n_clusters_total", "k": k}


def query(paths: StudyPaths, sql: str) -> duckdb.DuckDBPyRelation:
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
        database = in_memory(paths)
    return database.query(sql)


def in_memory(paths: StudyPaths) -> duckdb.DuckDBPyConnection:
    """The tables as the Parquet files hold them now, in a database without a file."""
    database = duckdb.connect()
    _create(database)
    _replace(database, paths, {}, _files(paths))
    return database
