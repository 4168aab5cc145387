"""Where files lie: the project's folder, a study's folder, and the names within it.

Everything lies under `data/` of the project's folder: the folder in `AANET_HOME`, else the working
directory, as with Dagster's own files.
"""

import os
import re
import string
from dataclasses import dataclass
from pathlib import Path


def data_root() -> Path:
    """The `data/` folder."""
    return Path(os.environ.get("AANET_HOME") or Path.cwd()).resolve() / "data"


def fingerprints() -> Path:
    """Folder of what is kept of the contents of input files."""
    return data_root() / ".fingerprints"


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study, under `data/<study>/`, that belong to no single step."""

    root: Path

    @property
    def tables(self) -> Path:
        """Parquet files, one folder per table."""
        return self.root / "tables"

    @property
    def database(self) -> Path:
        """The DuckDB file made from the Parquet files."""
        return self.root / "metrics.duckdb"

    @property
    def records(self) -> Path:
        """Provenance records, one folder per step."""
        return self.root / "records"

    @property
    def locks(self) -> Path:
        """Locks of the partitions that are being made, one folder per step."""
        return self.root / "locks"

    def everything(self) -> list[Path]:
        """All files in the study's folder; links to folders elsewhere are not followed."""
        return sorted(path for path in self.root.rglob("*") if not path.is_dir())


@dataclass(frozen=True)
class File:
    """A kind of file that a step writes: its name, relative to the study's folder.

    `{n}`, `{k}` and `{shard}` stand for the numbers of the step's partition, other names in braces
    for what else tells files of one partition apart, and `*` for anything within a name.
    """

    template: str

    @property
    def fields(self) -> list[str]:
        """The names in braces, each once."""
        parsed = string.Formatter().parse(self.template)
        return list(dict.fromkeys(name for _, name, _, _ in parsed if name))

    @property
    def folder(self) -> "File":
        """The folder it lies in."""
        return File(self.template.rpartition("/")[0])

    def under(self, root: Path, **values: object) -> Path:
        """The path of one of them in a study's folder."""
        return root / self.template.format(**values)

    def pattern(self, numbers: list[str]) -> re.Pattern[str]:
        """Matches names of such files; `numbers` are those of the step's partition, as groups."""
        parts, seen = [], set()
        for literal, name, _, _ in string.Formatter().parse(self.template):
            parts.append(re.escape(literal).replace(r"\*", "[^/]*"))
            if name in seen:
                parts.append(f"0*(?P={name})")
            elif name in numbers:
                parts.append(f"0*(?P<{name}>[0-9]+)")
                seen.add(name)
            elif name:
                parts.append("[^/]+")
        return re.compile("".join(parts))
