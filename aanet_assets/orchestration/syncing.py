"""What Dagster keeps in SQLite reaches the disk once per run, in place of some hundreds of times.

A run opens, changes and closes three databases for each of its events, and for each of these SQLite
waits for the disk. That took longer than most partitions.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from sqlalchemy import Engine, event


@contextmanager
def synced_at_the_end() -> Iterator[None]:
    """Let SQLite's databases wait for the disk when this ends, and hardly before.

    A power cut may lose what was written within, and leaves every database whole: Dagster then
    does not know of a run, or takes it for one that still goes on. Both are found and mended by the
    next `aanet run`, as the results are on the disk for themselves.
    """
    held: dict[str, sqlite3.Connection] = {}
    with ExitStack() as open_until_the_end:

        def connected(connection: object, _: object) -> None:
            if not isinstance(connection, sqlite3.Connection):
                return  # of another kind of database
            # As Dagster sets it; here it holds already while the tables of a new file are made.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            file = connection.execute("PRAGMA database_list").fetchone()[2]
            if file and file not in held:
                # Whoever closes a file last copies its log into it, and waits for that.
                last = sqlite3.connect(file, check_same_thread=False)
                held[file] = open_until_the_end.enter_context(closing(last))
                last.execute("SELECT count(*) FROM sqlite_master").fetchone()

        event.listen(Engine, "connect", connected)
        open_until_the_end.callback(event.remove, Engine, "connect", connected)
        yield
