"""Whether files still hold what was written: of the finished study, damaged one by one."""

import shutil

import duckdb
import pytest

from aanet_assets.orchestration.pipeline import tables_of
from aanet_assets.steps.aanets import AANET_METRICS, STACK, aanet_metrics, aanet_models
from aanet_assets.storage.integrity import database_problem, discard, fault_of
from aanet_assets.storage.locks import BusyError, partition_lock
from aanet_assets.storage.records import MISSING, Standing, read_record
from aanet_assets.study.study import Study

MODELS, METRICS = aanet_models.at(n=7, k=3), aanet_metrics.at(n=7, k=3)


def test_what_is_as_it_was_written_has_no_fault(copied: Study) -> None:
    assert fault_of(copied, MODELS) is None
    assert fault_of(copied, METRICS) is None
    assert database_problem(copied.paths, tables_of(copied)) is None


def test_one_byte_is_enough(copied: Study) -> None:
    file = STACK.under(copied.paths.root, n=7, k=3)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    record = read_record(copied, MODELS)
    assert record is not None
    assert str(fault_of(copied, MODELS)).startswith(f"stored {record.content}, found ")
    file.unlink()
    assert fault_of(copied, MODELS) == f"{file.relative_to(copied.paths.root)} is missing"
    # Another partition has files of its own.
    assert fault_of(copied, METRICS) is None


def test_a_damaged_partition_counts_no_longer_and_its_table_is_out_of_the_way(
    copied: Study,
) -> None:
    file = AANET_METRICS.file(copied.paths.tables, METRICS.at.stem)
    # As long as nothing is wrong, nothing is discarded.
    discard(copied, METRICS)
    assert Standing(copied).problem(METRICS) is None
    file.write_bytes(file.read_bytes()[:100])
    with partition_lock(copied, METRICS), pytest.raises(BusyError):
        discard(copied, METRICS)
    assert file.exists()
    discard(copied, METRICS)
    assert not file.exists()
    assert Standing(copied).problem(METRICS) == MISSING
    assert Standing(copied).problem(MODELS) is None


def test_how_the_database_differs_is_said(copied: Study) -> None:
    paths, tables = copied.paths, tables_of(copied)
    with duckdb.connect(str(paths.database)) as database:
        database.execute("UPDATE aanet_metrics SET aanet_recon_loss = 0 WHERE aanet_k = 3")
    assert database_problem(paths, tables) == "does not hold the rows of the table aanet_metrics"
    paths.database.write_bytes(b"no database")
    assert str(database_problem(paths, tables)).startswith("cannot be compared with the Parquet")
    paths.database.unlink()
    assert database_problem(paths, tables) == "is missing"
    # Where no table has rows there is nothing to be missing.
    shutil.rmtree(paths.tables)
    assert database_problem(paths, tables) is None
