"""People with a DuckDB client of their own on `metrics.duckdb`, each a process."""

import multiprocessing
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

import duckdb

from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.small import small_study

_processes = multiprocessing.get_context("forkserver")
_GRID = "SELECT n_clusters_total, aanet_k, count(*) FROM {} GROUP BY ALL ORDER BY ALL"


def _visitor(database: Path, line: Connection) -> int:
    """Opens the file anew for every look; finds all rows of an n_clusters and k, or none."""
    looks = 0
    line.send(None)
    while not line.poll():
        with duckdb.connect(str(database), read_only=True) as connection:
            for table in ("aanet_metrics", "training_curves"):
                for n, k, rows in connection.execute(_GRID.format(table)).fetchall():
                    assert rows == n, f"{table}: {rows} rows of n_clusters {n}, k {k}"
            whole = "SELECT n_clusters_total, count(*) FROM consolidated_metrics GROUP BY ALL"
            for n, rows in connection.execute(whole).fetchall():
                assert rows == n * len(small_study().ks), f"{rows} rows of n_clusters {n}"
        looks += 1
    return looks


def _reader(database: Path, line: Connection) -> int:
    """Looks all the time through one connection, under which nothing may ever change."""
    looks = 0
    with duckdb.connect(str(database), read_only=True) as connection:
        first = connection.execute(_GRID.format("aanet_metrics")).fetchall()
        line.send(None)
        while not line.poll(0.005):
            found = connection.execute(_GRID.format("aanet_metrics")).fetchall()
            assert found == first, f"{first} became {found}"
            looks += 1
    return looks


def _writer(database: Path, line: Connection) -> int:
    """Opens the file to write, as clients do unless told otherwise, and never commits."""
    looks = 0
    with duckdb.connect(str(database)) as connection:
        connection.execute("BEGIN; DELETE FROM aanet_metrics; CREATE TABLE mine AS SELECT 1")
        line.send(None)
        while not line.poll(0.005):
            assert connection.execute("FROM aanet_metrics").fetchall() == []
            looks += 1
        connection.execute("ROLLBACK")
    return looks


def _killed_writer(database: Path, line: Connection) -> int:
    """Commits, and waits to be killed before DuckDB brings the change from its log to the file."""
    connection = duckdb.connect(str(database))
    connection.execute("CREATE TABLE mine AS FROM range(1000)")
    line.send(None)
    line.recv()
    return 0


_KINDS: dict[str, Callable[[Path, Connection], int]] = {
    "visitor": _visitor, "reader": _reader, "writer": _writer, "killed writer": _killed_writer,
}  # fmt: skip


class SqlUser:
    """Such a user, there as long as the block; `problems` tells afterwards what went wrong."""

    def __init__(self, paths: StudyPaths, kind: str):
        self.kind, self.looks = kind, 0
        self.problems: list[str] = []
        self._line, theirs = _processes.Pipe()
        self._process = _processes.Process(
            target=_use, args=(kind, paths.database, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        if (failure := self._line.recv()) is not None:
            raise RuntimeError(f"a {kind} could not begin:\n{failure}")
        if kind == "killed writer":
            self._process.kill()
            self._process.join()
            if not Path(f"{paths.database}.wal").exists():
                self.problems.append("the killed writer left no log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.kind == "killed writer":
            return
        # One who failed before has left; what they said is in the pipe.
        with suppress(BrokenPipeError):
            self._line.send(None)
        said = self._line.recv()
        self._process.join()
        if isinstance(said, int):
            self.looks = said
        else:
            self.problems.append(f"a {self.kind} failed:\n{said}")


def _use(kind: str, database: Path, line: Connection) -> None:
    try:
        line.send(_KINDS[kind](database, line))
    except Exception:
        line.send(traceback.format_exc())
