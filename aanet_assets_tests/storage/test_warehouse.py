"""Tables: whole partitions only, readers undisturbed, wrong columns refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aanet_assets.orchestration.pipeline import tables_of
from aanet_assets.steps.evidence import EVIDENCE, REPLICATES, replicates
from aanet_assets.steps.selection import SELECTION_FUNNEL
from aanet_assets.storage import warehouse
from aanet_assets.storage.table import Table
from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.small import small_study

TABLES = tables_of(small_study())


def funnel(n: int, rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n_clusters_total": n,
            "mode": "elbow",
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


def file_of(paths: StudyPaths, n: int) -> Path:
    return SELECTION_FUNNEL.file(paths.tables, f"n{n}")


def write(paths: StudyPaths, n: int, rows: int) -> None:
    SELECTION_FUNNEL.write(file_of(paths, n), funnel(n, rows))
    warehouse.update(paths, TABLES)


def ask(paths: StudyPaths, sql: str) -> list[tuple]:
    return warehouse.query(paths, TABLES, sql).fetchall()


COUNTS = "SELECT n_clusters_total, count(*) FROM selection_funnel GROUP BY ALL ORDER BY ALL"


def test_every_table_is_there_from_the_start(paths: StudyPaths) -> None:
    warehouse.update(paths, TABLES)
    for table in TABLES:
        answer = warehouse.query(paths, TABLES, f"FROM {table.name}")
        assert answer.columns == table.names
        assert answer.fetchall() == []


def test_the_database_says_what_tables_and_columns_are(paths: StudyPaths) -> None:
    changed = Table("evidence", "Another's words.", *EVIDENCE.columns)
    for tables in (TABLES, [*(table for table in TABLES if table is not EVIDENCE), changed]):
        warehouse.update(paths, tables)
        assert set(ask(paths, "SELECT table_name, comment FROM duckdb_tables()")) >= {
            (table.name, table.description) for table in tables
        }
        columns = ask(paths, "SELECT table_name, column_name, comment FROM duckdb_columns()")
        assert set(columns) >= {(t.name, c.name, c.description) for t in tables for c in t.columns}


def test_a_partition_replaces_itself_and_nothing_else(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    write(paths, 7, 4)
    write(paths, 6, 2)
    assert ask(paths, COUNTS) == [(6, 2), (7, 4)]


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
        assert ask(paths, COUNTS) == [(6, 3), (7, 4)]
        print(file=reader.stdin, flush=True)
        assert reader.stdout.readline().strip() == "[(6, 3)]"
    assert reader.returncode == 0


def test_a_log_left_by_a_killed_writer_does_not_break_the_new_file(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    Path(f"{paths.database}.wal").write_bytes(b"left behind")
    write(paths, 7, 4)
    assert ask(paths, COUNTS) == [(6, 3), (7, 4)]


def test_wrong_columns_are_refused_and_leave_the_old_partition(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    renamed = funnel(6, 1).rename(columns={"remaining": "left"})
    message = "table selection_funnel: columns missing or unknown: left, remaining"
    with pytest.raises(ValueError, match=message):
        SELECTION_FUNNEL.write(file_of(paths, 6), renamed)
    warehouse.update(paths, TABLES)
    assert ask(paths, COUNTS) == [(6, 3)]


def test_equal_rows_give_equal_bytes(paths: StudyPaths) -> None:
    file = SELECTION_FUNNEL.write(file_of(paths, 6), funnel(6, 3))
    before = file.read_bytes()
    shuffled_columns = funnel(6, 3)[sorted(funnel(6, 3).columns)]
    SELECTION_FUNNEL.write(file, shuffled_columns)
    assert file.read_bytes() == before


def test_a_query_before_anything_was_computed(paths: StudyPaths) -> None:
    with pytest.raises(FileNotFoundError, match="nothing has been computed"):
        ask(paths, "SELECT 1")


def test_a_partition_removed_while_the_database_is_made_is_left_out(
    paths: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(paths, 6, 3)
    write(paths, 7, 2)
    paths.database.unlink()
    rows = Table.rows

    def remove_the_other_first(table: Table, file: Path) -> pa.Table:
        file_of(paths, 7).unlink(missing_ok=True)
        return rows(table, file)

    monkeypatch.setattr(Table, "rows", remove_the_other_first)
    warehouse.update(paths, TABLES)
    assert ask(paths, COUNTS) == [(6, 3)]


def test_a_partition_that_was_removed_leaves_the_database(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    write(paths, 7, 2)
    file_of(paths, 6).unlink()
    warehouse.update(paths, TABLES)
    assert ask(paths, COUNTS) == [(7, 2)]


def test_only_what_changed_is_read(paths: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(6, 10):
        write(paths, n, 3)
    rows, seen = Table.rows, []

    def remember(table: Table, file: Path) -> pa.Table:
        seen.append(file.stem)
        return rows(table, file)

    monkeypatch.setattr(Table, "rows", remember)
    write(paths, 7, 5)
    assert seen == ["n7"]
    assert ask(paths, COUNTS) == [(6, 3), (7, 5), (8, 3), (9, 3)]


def test_partitions_finished_at_once_share_one_change(paths: StudyPaths) -> None:
    for n in (6, 7):
        SELECTION_FUNNEL.write(file_of(paths, n), funnel(n, 2))
    warehouse.update(paths, TABLES)
    swapped = paths.database.stat().st_ino, paths.database.stat().st_mtime_ns
    warehouse.update(paths, TABLES)
    assert (paths.database.stat().st_ino, paths.database.stat().st_mtime_ns) == swapped
    assert ask(paths, COUNTS) == [(6, 2), (7, 2)]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM selection_funnel",
        "DROP TABLE evidence",
        "UPDATE selection_funnel SET remaining = 0",
    ],
)
def test_what_a_user_wrote_into_the_database_does_not_stay(
    paths: StudyPaths, statement: str
) -> None:
    write(paths, 6, 3)
    with duckdb.connect(str(paths.database)) as user:
        user.execute(statement)
    write(paths, 7, 2)
    sums = "SELECT n_clusters_total, sum(remaining) FROM selection_funnel GROUP BY ALL ORDER BY ALL"
    assert ask(paths, sums) == [(6, 18), (7, 14)]
    assert ask(paths, "FROM evidence") == []


@pytest.mark.parametrize("damage", [b"no database", b"", None])
def test_a_lost_or_damaged_database_is_made_anew(paths: StudyPaths, damage: bytes | None) -> None:
    write(paths, 6, 3)
    if damage is None:
        paths.database.unlink()
    else:
        paths.database.write_bytes(damage)
    write(paths, 7, 2)
    assert ask(paths, COUNTS) == [(6, 3), (7, 2)]


def test_a_damaged_parquet_file_is_named_with_what_finds_and_mends_it(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    write(paths, 7, 2)
    paths.database.write_bytes(b"no database")
    file_of(paths, 7).write_bytes(b"no Parquet")
    named = rf"{file_of(paths, 7).name} cannot be read .* Run: aanet doctor {paths.root.name}$"
    for ask_anew in (
        lambda: warehouse.update(paths, TABLES),
        lambda: warehouse.answer(paths, TABLES, COUNTS, lambda answer: answer.fetchall()),
    ):
        with pytest.raises(ValueError, match=named):
            ask_anew()


def write_and_damage(paths: StudyPaths) -> None:
    """A database that opens, and in which rows of a large table cannot be read."""
    texts = np.random.default_rng(0).bytes(50_000 * 16).hex()
    rows = funnel(6, 50_000).assign(filter=[texts[32 * i : 32 * i + 32] for i in range(50_000)])
    SELECTION_FUNNEL.write(file_of(paths, 6), rows)
    warehouse.update(paths, TABLES)
    size, modified = paths.database.stat().st_size, paths.database.stat().st_mtime_ns
    with paths.database.open("r+b") as file:
        file.seek(size // 3)
        file.write(bytes(size // 3))
    os.utime(paths.database, ns=(modified, modified))


def test_a_database_with_a_damaged_part_is_made_anew_for_the_query_that_meets_it(
    paths: StudyPaths, caplog: pytest.LogCaptureFixture
) -> None:
    write_and_damage(paths)
    asked = "SELECT count(DISTINCT filter) FROM selection_funnel"
    with pytest.raises(duckdb.Error):
        ask(paths, asked)
    found = warehouse.answer(paths, TABLES, asked, lambda answer: answer.fetchall())
    assert found == [(50_000,)]
    (record,) = caplog.records
    assert "metrics.duckdb was damaged, and is made anew from" in record.getMessage()
    assert ask(paths, asked) == found


def test_a_partition_is_taken_in_whichever_byte_of_the_database_is_wrong(
    paths: StudyPaths,
) -> None:
    write(paths, 6, 3)
    write(paths, 8, 4)
    whole = paths.database.read_bytes()
    modified = paths.database.stat().st_mtime_ns
    for place in range(100, len(whole), 50_000):
        wrong = bytearray(whole)
        wrong[place] ^= 255
        paths.database.write_bytes(wrong)
        os.utime(paths.database, ns=(modified, modified))
        write(paths, 8, 2)
        assert ask(paths, COUNTS) == [(6, 3), (8, 2)], place
        assert ask(paths, "SELECT max(filter) FROM selection_funnel") == [("f",)]


def test_a_query_is_answered_whichever_byte_of_the_database_is_wrong(paths: StudyPaths) -> None:
    write(paths, 6, 3)
    write(paths, 8, 4)
    whole = paths.database.read_bytes()
    asked = f"SELECT *, (SELECT max(filter) FROM selection_funnel) FROM ({COUNTS})"
    for place in range(100, len(whole), 50_000):
        wrong = bytearray(whole)
        wrong[place] ^= 255
        paths.database.write_bytes(wrong)
        found = warehouse.answer(paths, TABLES, asked, lambda answer: answer.fetchall())
        assert found == [(6, 3, "f"), (8, 4, "f")], place


def test_a_wrong_query_is_no_damage(paths: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    write(paths, 6, 3)
    monkeypatch.setattr(warehouse, "update", lambda *all, **named: pytest.fail("made anew"))
    for wrong in ("FROM nowhere", "SELECT 'x'::INT FROM selection_funnel", "FROM 'no.parquet'"):
        with pytest.raises(duckdb.Error):
            warehouse.answer(paths, TABLES, wrong, lambda answer: answer.fetchall())


def test_grid_partitions_replace_their_own_rows_only(paths: StudyPaths) -> None:
    def row(n: int, k: int, replicate: int) -> dict[str, object]:
        nothing = dict.fromkeys(REPLICATES.names)
        known = {"n_clusters_total": n, "k": k, "replicate": replicate}
        return nothing | known | {"cluster_id": 0, "null_cluster": False}

    def put(n: int, k: int, count: int) -> None:
        rows = [row(n, k, i) for i in range(count)]
        frame = pd.DataFrame(rows, columns=REPLICATES.names)
        REPLICATES.write(REPLICATES.file(paths.tables, replicates.at(n=n, k=k).at.stem), frame)
        warehouse.update(paths, TABLES)

    # 2|11 and 12|1 hold the same digits.
    for n, k, count in ((1, 12, 1), (11, 2, 2), (1, 2, 3), (1, 12, 4), (1, 2, 0)):
        put(n, k, count)
    counts = "SELECT n_clusters_total, k, count(*) FROM replicates GROUP BY ALL ORDER BY ALL"
    assert ask(paths, counts) == [(1, 12, 4), (11, 2, 2)]


def test_a_file_of_other_columns_is_read_as_far_as_it_goes(
    paths: StudyPaths, caplog: pytest.LogCaptureFixture
) -> None:
    write(paths, 7, 2)
    file = file_of(paths, 6)
    older = funnel(6, 1).drop(columns="remaining").rename(columns={"filter": "sieve"})
    older.assign(position="first").to_parquet(file)
    expected = [(6, "elbow", None, None, None), (7, "elbow", 0, "f", 7), (7, "elbow", 1, "f", 7)]
    columns = "n_clusters_total, mode, position, filter, remaining"
    asked = f"SELECT {columns} FROM selection_funnel ORDER BY ALL"
    # Taken in beside what is there, and once more where all is made anew.
    warehouse.update(paths, TABLES)
    assert ask(paths, asked) == expected
    paths.database.unlink()
    warehouse.update(paths, TABLES)
    assert ask(paths, asked) == expected
    caplog.clear()
    assert SELECTION_FUNNEL.read(file)["remaining"].isna().all()
    # Of a column that is not there nothing can be said; of one that is, why its values are not.
    (record,) = caplog.records
    assert re.sub("large_", "", record.getMessage()) == (
        f"{file}: position was written as string, not int64: read as null"
    )


def test_null_clusters_of_an_earlier_version_are_still_told_from_real_ones(
    paths: StudyPaths,
) -> None:
    older = {
        "n_clusters_total": [7, 7], "cluster_id": [0, 0], "is_null": [False, True],
        "simplex_fit": [0.9, 0.5],
    }  # fmt: skip
    file = EVIDENCE.file(paths.tables, "n7")
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table(older), file)
    warehouse.update(paths, TABLES)
    assert ask(paths, "SELECT simplex_fit FROM evidence WHERE NOT null_cluster") == [(0.9,)]
    assert EVIDENCE.read(file)["null_cluster"].tolist() == [False, True]
    with pytest.raises(duckdb.BinderException, match='"is_null" not found'):
        ask(paths, "SELECT is_null FROM evidence")


def test_a_database_of_other_tables_than_todays_is_made_anew(paths: StudyPaths) -> None:
    others = [table for table in TABLES if table not in (EVIDENCE, SELECTION_FUNNEL)]
    fewer = Table("selection_funnel", "Of fewer columns.", *SELECTION_FUNNEL.columns[1:])
    warehouse.update(paths, [*others, fewer])
    write(paths, 6, 3)
    assert ask(paths, COUNTS) == [(6, 3)]
    assert ask(paths, "FROM evidence") == []


def test_folders_with_the_signs_of_patterns(tmp_path: Path) -> None:
    for name in ("bra[b]", "a*b", "it's"):
        paths = StudyPaths(tmp_path / name / "data" / "x")
        write(paths, 6, 3)
        write(paths, 7, 1)
        assert ask(paths, COUNTS) == [(6, 3), (7, 1)]
