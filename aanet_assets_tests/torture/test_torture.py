"""A short torture: a few kills, a full disk, people with SQL; the long one is `make torture`."""

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from aanet_assets.orchestration.driver import Failure
from aanet_assets.orchestration.pipeline import tables_of
from aanet_assets.steps.aanets import aanet_metrics, aanet_models
from aanet_assets.steps.clusters import cluster_rows
from aanet_assets.steps.vertices import vertex_samples
from aanet_assets.storage import warehouse
from aanet_assets.storage.records import read_record
from aanet_assets.storage.table import Table
from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.small import small_study
from aanet_assets_tests.torture import disk, kills
from aanet_assets_tests.torture.compare import differences, state
from aanet_assets_tests.torture.home import Home, copy_home, load_libraries_once, new_home
from aanet_assets_tests.torture.readers import runs_beside_readers
from aanet_assets_tests.torture.users import SqlUser

ROWS = "SELECT n_clusters_total, aanet_k, count(*) FROM aanet_metrics GROUP BY ALL ORDER BY ALL"


@pytest.fixture(scope="module")
def battered(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home of its own with the finished study."""
    load_libraries_once()
    home = new_home(tmp_path_factory.mktemp("torture") / "home")
    shutil.copytree(finished.study.paths.root, home.paths.root)
    return home


@pytest.mark.slow
def test_kills_lose_nothing(battered: Home) -> None:
    expected, rng = state(battered.paths), random.Random(0)
    faults = []
    for partition in (aanet_models.at(n=7, k=3), vertex_samples.at(n=7)):
        seconds = {partition: kills.seconds_of_work(battered, partition)}
        assert not differences(expected, state(battered.paths)), "made again, undisturbed"
        for inject in (kills.kill, kills.kill_beside_user):
            fault = inject(battered, expected, partition, seconds, rng)
            assert not fault.problems
            faults.append(fault)
    assert any(fault.in_the_middle for fault in faults)


@pytest.mark.parametrize("seed", [0, 1], ids=["of the study", "of everything"])
def test_a_full_disk_is_one_clear_line_and_loses_nothing(
    battered: Home, tmp_path: Path, seed: int
) -> None:
    if problem := disk.mount_problem(tmp_path / "disk"):
        pytest.skip(f"no small disk can be mounted: {problem}")
    home = copy_home(battered, tmp_path / "home")
    partition = cluster_rows.at(n=7)
    fault = disk.fill_up(home, state(battered.paths), partition, random.Random(seed))
    assert not fault.problems
    assert fault.in_the_middle


def test_sql_at_any_time(battered: Home) -> None:
    counts = runs_beside_readers(battered, seconds=6, workers=2, seed=0)
    assert not counts.problems
    assert counts.runs >= 2
    # Two workers that finish at once may share a change.
    assert counts.swaps >= counts.runs / 2
    assert set(counts.looks) == {"reader", "writer", "visitor"}
    assert min(counts.looks.values()) > 0


def test_a_query_is_answered_while_somebody_writes(battered: Home) -> None:
    tables = tables_of(small_study())
    expected = warehouse.query(battered.paths, tables, ROWS).fetchall()
    with SqlUser(battered.paths, "writer") as user:
        with pytest.raises(duckdb.IOException, match="lock"):
            duckdb.connect(str(battered.paths.database), read_only=True)
        assert warehouse.query(battered.paths, tables, ROWS).fetchall() == expected
    assert not user.problems


def test_tables_that_did_not_reach_the_database_do_not_count(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = aanet_metrics.at(n=7, k=3)

    def no_room(paths: StudyPaths, tables: Sequence[Table]) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(warehouse, "update", no_room)
        with pytest.raises(Failure, match="no room"):
            finished.driver.materialise(partition)
    assert read_record(finished.study, partition) is None
    finished.driver.materialise(partition)


def test_no_log_is_left_where_an_update_fails(
    battered: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = warehouse._replace

    def half(database: duckdb.DuckDBPyConnection, paths: StudyPaths, *others) -> None:
        replace(database, paths, *others)
        assert list(paths.root.glob(".metrics.duckdb.*.wal"))
        raise OSError("no room")

    monkeypatch.setattr(warehouse, "_replace", half)
    # Written to by somebody else: made anew.
    os.utime(battered.paths.database)
    before = state(battered.paths)
    with pytest.raises(OSError, match="no room"):
        battered.update_database()
    assert not list(battered.paths.root.glob(".*"))
    assert state(battered.paths) == before
