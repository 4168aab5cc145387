"""Whether two folders of the study hold the same: bytes of files, rows of tables."""

import hashlib
from pathlib import Path

import duckdb

from aanet_assets.orchestration.pipeline import tables_of
from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.small import small_study

State = dict[str, str]
"""Digests by the names of files and tables."""


def state(paths: StudyPaths) -> State:
    """All that a study's folder holds, but for locks and leftovers of killed processes."""
    files = {
        str(path.relative_to(paths.root)): _digest(path.read_bytes())
        for path in sorted(paths.root.rglob("*"))
        if path.is_file() and not _is_passing(path, paths)
    }
    with duckdb.connect(str(paths.database), read_only=True) as database:
        # In whatever order the partitions were finished.
        rows = {
            table.name: "".join(sorted(map(repr, database.table(table.name).fetchall())))
            for table in tables_of(small_study())
        }
    return files | {f"table {table}": _digest(text.encode()) for table, text in rows.items()}


def _is_passing(path: Path, paths: StudyPaths) -> bool:
    is_database = path.name.startswith(paths.database.name)
    return is_database or paths.locks in path.parents or path.name.startswith(".")


def leftovers(paths: StudyPaths) -> list[Path]:
    """Temporary files; nothing is being made now, so nobody will finish them."""
    return [path for path in paths.root.rglob(".*") if path.is_file()]


def differences(expected: State, found: State) -> list[str]:
    """What is missing, too much or different, in words."""
    return (
        [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
        + [f"{name} should not be there" for name in sorted(found.keys() - expected.keys())]
        + [
            f"{name} is different"
            for name in sorted(expected.keys() & found.keys())
            if expected[name] != found[name]
        ]
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
