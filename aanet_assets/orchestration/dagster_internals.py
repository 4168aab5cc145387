"""What is used of Dagster beyond its public interface, and why; no other module imports such."""

# Backfills are listed by their status; the public `get_backfills` takes its filter from here.
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

# `delete_run` empties the file of a run's events and leaves it as large as it was: its path is
# needed to remove it.
from dagster._core.storage.event_log import SqliteEventLogStorage

# What a failed step's event holds; only its name is used, in annotations and to walk the causes.
from dagster_shared.error import SerializableErrorInfo

__all__ = [
    "BulkActionStatus",
    "BulkActionsFilter",
    "SerializableErrorInfo",
    "SqliteEventLogStorage",
]
