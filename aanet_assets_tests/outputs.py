"""Reading and replacing what a partition has written, from outside its step."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Partition
from aanet_assets.storage.table import Table
from aanet_assets.study.study import Study


def read(study: Study, partition: Partition, table: Table) -> pd.DataFrame:
    """A partition of a table that its step writes."""
    return Run(study, partition).read(table)


def write(study: Study, partition: Partition, table: Table, frame: pd.DataFrame) -> Path:
    """Replace it; the database is left as it was."""
    return Run(study, partition).write(table, frame)


def table_file(study: Study, partition: Partition, table: Table) -> Path:
    """Where it lies."""
    return table.file(study.paths.tables, partition.at.stem)


def change(
    study: Study, partition: Partition, table: Table, how: Callable[[pd.DataFrame], pd.DataFrame]
) -> Path:
    """Change its rows."""
    return write(study, partition, table, how(read(study, partition, table)))


def findings(study: Study, partition: Partition) -> dict[str, Finding]:
    """What the checks of its step find, by name."""
    check = partition.step.check
    assert check is not None
    return {found.name: found for found in check(Run(study, partition))}
