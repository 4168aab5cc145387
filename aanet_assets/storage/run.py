"""What the work of one partition may open and write: what its step declares, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from aanet_assets.storage.step import A, Partition, Step, parts_read, upstream
from aanet_assets.storage.table import Table
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

if TYPE_CHECKING:
    import pandas as pd


class UndeclaredReadError(RuntimeError):
    """A step opens what it does not declare to read; the message says what to add."""


@dataclass(frozen=True)
class Run(Generic[A]):
    """The work on one partition of a study."""

    study: Study
    partition: Partition[A]

    @property
    def at(self) -> A:
        """The numbers of the partition."""
        return self.partition.at

    def path(self, file: File, **values: object) -> Path:
        """A file that the step writes or reads.

        Args:
            values: what else the name has in braces; of a file that is read, numbers of its
                partition that this one does not have.

        Raises:
            UndeclaredReadError: no step that is declared to be read has such a file.
            ValueError: several partitions that are read have it, and `values` do not say which; or
                they name a number that the partition itself has.
        """
        own = self.partition.step
        if file in own.files:
            if twice := sorted(values.keys() & self.at.numbers.keys()):
                raise ValueError(f"{self.partition} has its own {twice[0]}: leave it out")
            return file.under(own.paths(self.study).root, **values, **self.at.numbers)
        numbers = {name: value for name, value in values.items() if isinstance(value, int)}
        found, *others = self._read_of(file, file.template, numbers)
        if others:
            read = ", ".join(map(str, (found, *others)))
            raise ValueError(
                f"{own} opens {file.template} of {numbers or 'no partition in particular'}, which "
                f"{len(others) + 1} partitions that it reads have: {read}; say which"
            )
        return file.under(found.step.paths(self.study).root, **{**values, **found.at.numbers})

    def folder(self, file: File) -> Path:
        """The folder of a file that the step writes, in this partition."""
        return file.folder.under(self.partition.step.paths(self.study).root, **self.at.numbers)

    def paths(self, file: File) -> list[Path]:
        """A file of each partition that is read."""
        return [
            file.under(found.step.paths(self.study).root, **found.at.numbers)
            for found in self._read_of(file, file.template, {})
        ]

    def read(self, table: Table, **numbers: int) -> "pd.DataFrame":
        """A table that the step reads: the rows of all partitions that it reads.

        Or of its own, where the step writes it.

        Args:
            numbers: of the partitions that are wanted, where not all are.
        """
        own = self.partition.step
        if table in own.tables:
            return table.read(table.file(own.paths(self.study).tables, self.at.stem))
        found = self._read_of(table, table.name, numbers)
        return table.read(
            *(table.file(each.step.paths(self.study).tables, each.at.stem) for each in found)
        )

    def write(self, table: Table, frame: "pd.DataFrame") -> Path:
        """Replace this partition of a table of the step.

        Raises:
            ValueError: the frame has not the table's columns.
        """
        own = self.partition.step
        if table not in own.tables:
            raise UndeclaredReadError(f"{own} writes {table}, which is not among its tables")
        return table.write(table.file(own.paths(self.study).tables, self.at.stem), frame)

    def _read_of(
        self, output: File | Table, name: str, numbers: dict[str, int]
    ) -> Iterator[Partition]:
        """The partitions that are read of the step whose output this is."""
        own = self.partition.step
        owners: list[Step] = [
            part.step
            for part in parts_read(self.study, own)
            if output in (*part.step.tables, *part.step.files)
        ]
        found = [
            up
            for up in upstream(self.study, self.partition)
            if up.step in owners
            and all(up.at.numbers.get(key, value) == value for key, value in numbers.items())
        ]
        if not found:
            asked = f" of {numbers}" if numbers and owners else ""
            raise UndeclaredReadError(
                f"{own} opens {name}{asked}, which none of the steps that it declares to read "
                f"makes: add the step to its `reads`, or the output to that step's declaration"
            )
        return iter(found)
