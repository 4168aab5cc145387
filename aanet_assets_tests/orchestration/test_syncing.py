"""Databases that are synced at the end are whole then, and are left alone until then."""

import sqlite3
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from aanet_assets.orchestration.driver import Driver, Failure
from aanet_assets.orchestration.syncing import synced_at_the_end
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Outcome
from aanet_assets_tests.small import small_study


def test_what_is_written_reaches_the_database_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    def log() -> Path:
        return path.with_name("events.db-wal")

    with synced_at_the_end():
        with engine.begin() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar() == 1  # NORMAL
            connection.execute(text("CREATE TABLE events(id INTEGER)"))
        size = path.stat().st_size
        for number in range(50):
            with engine.begin() as connection:
                connection.execute(text("INSERT INTO events VALUES (:id)"), {"id": number})
        assert log().stat().st_size > 0
        assert path.stat().st_size == size, "closing a connection copied the log"
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT count(*) FROM events").fetchone() == (50,)
        other.close()
    assert not log().exists()
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM events")).scalar() == 50
        connection.execute(text("DELETE FROM events"))
    assert not log().exists(), "afterwards every connection is its own again"


@pytest.mark.usefixtures("home")
def test_a_partition_is_made_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'other.db'}", poolclass=NullPool)
    seen: list[int] = []

    def synchronous() -> int:
        with engine.connect() as connection:
            return connection.execute(text("PRAGMA synchronous")).scalar_one()

    def work(_run: Run) -> Outcome:
        seen.append(synchronous())
        raise ValueError("seen")

    monkeypatch.setattr(corpus, "work", work)
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(Failure, match="seen"):
        Driver(small_study(name="synced"), instance).materialise(corpus.at())
    assert seen == [1]  # NORMAL
    assert synchronous() != 1
