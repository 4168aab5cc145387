"""What is used of Dagster beyond its public interface, and why; no other module imports such."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import dagster as dg

# Parts of a backfill's target: Dagster has no public way of asking for single partitions of
# several assets at once.
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.events import AssetKeyPartitionKey

# What a step prints is kept in files, and shown on the terminal as well; see `printing_to_files`.
from dagster._core.execution import compute_logs

# Backfills are listed by their status; the public `get_backfills` takes its filter from here. What
# it returns, and what `add_backfill` takes, is a `PartitionBackfill`.
from dagster._core.execution.backfill import (
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)

# A run launcher: Dagster's guide to writing one names these, and none of them is exported.
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus

# The command that works on one run in a process of its own, as Dagster's own launchers start it.
from dagster._grpc.types import ExecuteRunArgs

# What dagster.yaml may name as a `class` must be one of these.
from dagster._serdes import ConfigurableClass, ConfigurableClassData

# What a failed step's event holds; only its name is used, in annotations and to walk the causes.
from dagster_shared.error import SerializableErrorInfo

__all__ = [
    "AssetGraphSubset",
    "AssetKeyPartitionKey",
    "BulkActionStatus",
    "BulkActionsFilter",
    "CheckRunHealthResult",
    "ConfigurableClass",
    "ConfigurableClassData",
    "ExecuteRunArgs",
    "LaunchRunContext",
    "PartitionBackfill",
    "RunLauncher",
    "SerializableErrorInfo",
    "WorkerStatus",
    "file_of_events",
    "printing_to_files",
]


@contextmanager
def printing_to_files() -> Iterator[None]:
    """What steps print goes to the files that Dagit shows, and not to the terminal as well.

    For the terminal Dagster starts four processes per step, which took a tenth of a second.
    """
    shown = compute_logs.tail_to_stream
    compute_logs.tail_to_stream = lambda path, stream: nullcontext()
    try:
        yield
    finally:
        compute_logs.tail_to_stream = shown


def file_of_events(instance: dg.DagsterInstance, run_id: str) -> Path | None:
    """The file of a run's events; None where they are kept in no file of their own.

    `delete_run` empties it and leaves it as large as it was.
    """
    # Takes a third of a second, which every command would pay.
    from dagster._core.storage.event_log import SqliteEventLogStorage

    storage = instance.event_log_storage
    return (
        Path(storage.path_for_shard(run_id)) if isinstance(storage, SqliteEventLogStorage) else None
    )
