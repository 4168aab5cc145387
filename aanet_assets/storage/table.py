"""A table as it is declared, and its Parquet files, one per partition."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from aanet_assets.storage.files import replacing

if TYPE_CHECKING:
    import pandas as pd  # every command reads the declarations; those that read no rows go without

log = logging.getLogger("aanet")


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: pa.DataType
    description: str
    """One line, which becomes the comment in the database and the line in the docs."""
    formerly: str = ""
    """Its name in files of earlier versions; empty where it had no other."""


def integer(name: str, description: str) -> Column:
    """A column of whole numbers."""
    return Column(name, pa.int64(), description)


def number(name: str, description: str) -> Column:
    """A column of floating-point numbers."""
    return Column(name, pa.float64(), description)


def flag(name: str, description: str, formerly: str = "") -> Column:
    """A column of yes and no."""
    return Column(name, pa.bool_(), description, formerly)


def text(name: str, description: str) -> Column:
    """A column of texts."""
    return Column(name, pa.string(), description)


def listed(column: Column) -> Column:
    """A column with a list of such values in every row."""
    return Column(column.name, pa.list_(column.type), column.description)


class Table:
    """A table of the study's database; declared beside the step that writes it."""

    def __init__(self, name: str, description: str, *columns: Column):
        """Columns are in the order in which they stand in the database."""
        self.name, self.description, self.columns = name, description, columns
        self.schema = pa.schema([(column.name, column.type) for column in columns])

    def __repr__(self) -> str:
        return f"table {self.name}"

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return self.schema.names

    def file(self, tables: Path, stem: str) -> Path:
        """Parquet file of the partition with this stem, under the folder of all tables."""
        return tables / self.name / f"{stem}.parquet"

    def write(self, path: Path, frame: "pd.DataFrame") -> Path:
        """Write one partition; `frame` has exactly the table's columns, in any order.

        Raises:
            ValueError: columns are missing or unknown.
        """
        if set(frame.columns) != set(self.names):
            wrong = sorted(set(frame.columns) ^ set(self.names))
            raise ValueError(f"{self}: columns missing or unknown: {', '.join(wrong)}")
        rows = pa.Table.from_pandas(frame[self.names], schema=self.schema, preserve_index=False)
        with replacing(path) as temporary:
            # Without pandas' own metadata the bytes depend on nothing but the rows.
            pq.write_table(rows.replace_schema_metadata(None), temporary)
        return path

    def read(self, *files: Path) -> "pd.DataFrame":
        """Some partitions, with nullable integers, booleans and strings."""
        import pandas as pd

        nullable = {
            pa.int64(): pd.Int64Dtype(),
            pa.bool_(): pd.BooleanDtype(),
            pa.string(): pd.StringDtype(),
        }
        return pa.concat_tables(map(self.rows, files)).to_pandas(types_mapper=nullable.get)

    def rows(self, path: Path) -> pa.Table:
        """A Parquet file, as far as it has the table's columns.

        An earlier version of the code may have written others: what it did not know is null, what
        is no longer known is left out, and what it wrote as another type is null where its values
        are none of today's type, which is said in a warning. Nothing else can have another type:
        `write` lets it not pass.
        """
        # Not read_table, which takes the name for a pattern.
        stored = pq.ParquetFile(path).read()
        columns = []
        for column in self.columns:
            name = column.name if column.name in stored.column_names else column.formerly
            if name not in stored.column_names:
                columns.append(pa.nulls(len(stored), column.type))
                continue
            try:
                columns.append(stored[name].cast(column.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                was = stored.schema.field(name).type
                log.warning(f"{path}: {name} was written as {was}, not {column.type}: read as null")
                columns.append(pa.nulls(len(stored), column.type))
        return pa.table(columns, schema=self.schema)
