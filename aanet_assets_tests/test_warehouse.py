"""Tables: whole partitions only, readers undisturbed, wrong columns refused."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from aanet_assets import warehouse
from aanet_assets.lineage import Partition
from aanet_assets.paths import StudyPaths
from aanet_assets.tables import TABLES


def funnel(n: int, rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n_clusters_total": n,
            "mode": "guide",
            "position": range(rows),
            "filter": "f",
            "setting": "s",
            "failed_here": 0,
            "failed_cumulative": 0,
            "remaining": n,
        }
    )


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path / "data" / "x")


def write(paths: StudyPaths, n: int, rows: int) -> None:
    partition = Partition("selected_clusters", n=n)
    warehouse.write_table(paths, "selection_funnel", partition, funnel(n, rows))
    warehouse.rebuild(paths)


COUNTS = "SELECT n_clusters_total, count(*) FROM selection_funnel GROUP BY ALL ORDER BY ALL"


def test_every_table_is_there_from_the_start(paths: StudyPaths) -> None:
    warehouse.rebuild(paths)
    for table, schema in TABLES.items():
        answer = warehouse.query(paths, f"FROM {table}")
        assert answer.columns == schema.names
        assert answer.fetchall() == []


def test_a_partition_replaces_itself_and_nothing_else(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    write(paths, 7, 4)
    write(paths, 6, 2)
    assert warehouse.query(paths, COUNTS).fetchall() == [(6, 2), (7, 4)]


def test_a_reader_keeps_its_tables_and_never_stands_in_the_way(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    # A process of its own, as a user's is, and read-write: the rudest kind.
    code = (
        "import duckdb, sys; reader = duckdb.connect(sys.argv[1]); "
        "ask = lambda: print(reader.sql(sys.argv[2]).fetchall(), flush=True); "
        "ask(); input(); ask()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(paths.database), COUNTS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline().strip() == "[(6, 3)]"
        write(paths, 7, 4)
        assert warehouse.query(paths, COUNTS).fetchall() == [(6, 3), (7, 4)]
        print(file=reader.stdin, flush=True)
        assert reader.stdout.readline().strip() == "[(6, 3)]"
    assert reader.returncode == 0


def test_a_log_left_by_a_killed_writer_does_not_break_the_new_file(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    Path(f"{paths.database}.wal").write_bytes(b"left behind")
    write(paths, 7, 4)
    assert warehouse.query(paths, COUNTS).fetchall() == [(6, 3), (7, 4)]


def test_wrong_columns_are_refused_and_leave_the_old_partition(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    renamed = funnel(6, 1).rename(columns={"remaining": "left"})
    with pytest.raises(ValueError, match="missing or unknown: left, remaining"):
        warehouse.write_table(
            paths, "selection_funnel", Partition("selected_clusters", n=6), renamed
        )
    warehouse.rebuild(paths)
    assert warehouse.query(paths, COUNTS).fetchall() == [(6, 3)]


def test_equal_rows_give_equal_bytes(paths: StudyPaths) -> None:
    partition = Partition("selected_clusters", n=6)
    file = warehouse.write_table(paths, "selection_funnel", partition, funnel(6, 3))
    before = file.read_bytes()
    shuffled_columns = funnel(6, 3)[sorted(funnel(6, 3).columns)]
    warehouse.write_table(paths, "selection_funnel", partition, shuffled_columns)
    assert file.read_bytes() == before


def test_a_query_before_anything_was_computed(paths: StudyPaths) -> None:
    with pytest.raises(FileNotFoundError, match="nothing has been computed"):
        warehouse.query(paths, "SELECT 1")


def test_a_partition_removed_while_the_database_is_made_is_left_out(
    paths: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(paths, 6, 3)
    write(paths, 7, 2)
    read = warehouse.pq.read_table

    def remove_the_other_first(file: Path):
        warehouse.table_file(paths, "selection_funnel", Partition("selected_clusters", n=7)).unlink(
            missing_ok=True
        )
        return read(file)

    monkeypatch.setattr(warehouse.pq, "read_table", remove_the_other_first)
    warehouse.rebuild(paths)
    assert warehouse.query(paths, COUNTS).fetchall() == [(6, 3)]
