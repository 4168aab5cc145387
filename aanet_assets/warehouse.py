"""Tables: Parquet files, one per partition, and the DuckDB file made from them.

The Parquet files are the truth. `metrics.duckdb` is made anew beside the old file and swapped in,
so a query never waits for a run, never blocks one, and never sees half a partition. Whoever holds
the old file open goes on reading the old tables.
"""

import contextlib
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from aanet_assets.files import replacing
from aanet_assets.lineage import Partition
from aanet_assets.paths import StudyPaths
from aanet_assets.tables import TABLES

# The file can be opened by the DuckDB command line from this version on.
_STORAGE_VERSION = "v1.5.0"
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
    parts = [pq.read_table(table_file(paths, table, partition)) for partition in partitions]
    return pa.concat_tables(parts).to_pandas(types_mapper=_NULLABLE.get)


def rebuild(paths: StudyPaths) -> None:
    """Make `metrics.duckdb` anew from all Parquet files; one process at a time."""
    with FileLock(f"{paths.database}.lock"), replacing(paths.database) as temporary:
        temporary.unlink()
        try:
            with duckdb.connect(
                str(temporary), config={"storage_compatibility_version": _STORAGE_VERSION}
            ) as database:
                _fill(database, paths)
                database.execute("CHECKPOINT")
        finally:
            # DuckDB's own log stays behind where there was no room for the tables.
            Path(f"{temporary}.wal").unlink(missing_ok=True)
        # A log left behind by a writer of the old file does not belong to the new one. It goes
        # first: nobody, not even after a kill in between, may find it beside the new file.
        Path(f"{paths.database}.wal").unlink(missing_ok=True)


def _fill(database: duckdb.DuckDBPyConnection, paths: StudyPaths) -> None:
    for table, schema in TABLES.items():
        database.register("nothing", schema.empty_table())
        database.execute(f"CREATE TABLE {table} AS FROM nothing")
        database.unregister("nothing")
        for file in sorted((paths.tables / table).glob("*.parquet")):
            # A partition may be removed after its file was listed.
            with contextlib.suppress(FileNotFoundError):
                part = pq.read_table(file)
                database.register("part", part)
                database.execute(f"INSERT INTO {table} BY NAME FROM part")
                database.unregister("part")


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
        database = duckdb.connect()
        _fill(database, paths)
    return database.query(sql)
