"""Materialising a study in this process, one Dagster run per partition, on the usual instance.

What is there already, and belongs to the study as it is now, is left alone; so a run that was
stopped goes on where it was, and Dagit shows all of it.
"""

from collections.abc import Sequence

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from aanet_assets.defs.orphans import process_tags
from aanet_assets.lineage import Partition, partitions, steps
from aanet_assets.records import Standing, read_record
from aanet_assets.study import Study


class Failure(RuntimeError):  # noqa: N818 (the name of what happened to a partition)
    """A partition could not be materialised; the message is for people."""


def plan(
    study: Study,
    until: str | None = None,
    n_clusters: Sequence[int] = (),
    ks: Sequence[int] = (),
) -> list[Partition]:
    """The partitions of a run, in an order in which they can be materialised.

    Args:
        until: the last step; everything it needs comes with it. All steps if None.
        n_clusters: only these clusterings; all if empty.
        ks: only these ks; all if empty.

    Raises:
        ValueError: an unknown step, or a number the study does not have.
    """
    table = steps(study)
    if until is not None and until not in table:
        raise ValueError(f"study {study.name!r} has no asset {until!r}; it has {', '.join(table)}")
    for name, asked, allowed in (
        ("n_clusters", n_clusters, study.n_clusters), ("k", ks, study.ks),
    ):  # fmt: skip
        for value in asked:
            if value not in allowed:
                raise ValueError(
                    f"{name} {value} is not in study {study.name!r}, which has {allowed}"
                )
    wanted = set(table) if until is None else _ancestors(study, until)
    return [
        partition
        for name, step in table.items()
        if name in wanted
        for partition in partitions(study, step)
        if (partition.n is None or not n_clusters or partition.n in n_clusters)
        and (partition.k is None or not ks or partition.k in ks)
    ]


def _ancestors(study: Study, name: str) -> set[str]:
    found = {name}
    for up in steps(study)[name].upstream:
        found |= _ancestors(study, up)
    return found


class Driver:
    """Materialises partitions of one study on one instance."""

    def __init__(self, study: Study, defs: dg.Definitions, instance: dg.DagsterInstance):
        self.study, self.instance = study, instance
        self._job = defs.resolve_implicit_global_asset_job_def()

    def is_there(self, partition: Partition) -> bool:
        """Whether the partition needs no work; tells Dagster of it if Dagster does not know."""
        if Standing(self.study).problem(partition) is not None:
            return False
        key = dg.AssetKey([self.study.name, partition.step])
        filters = dg.AssetRecordsFilter(
            key, asset_partitions=[partition.key] if partition.key else None
        )
        if not self.instance.fetch_materializations(filters, limit=1).records:
            record = read_record(self.study, partition)
            assert record is not None
            self.instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    key,
                    partition=partition.key,
                    description="Found on disk, made earlier.",
                    tags={"dagster/data_version": record.content},
                )
            )
        return True

    def materialise(self, partition: Partition) -> None:
        """Run one partition.

        Raises:
            Failure: it failed; the message is the error's own where the mistake is the user's.
            KeyboardInterrupt: it was interrupted.
        """
        result = self._job.execute_in_process(
            asset_selection=[dg.AssetKey([self.study.name, partition.step])],
            partition_key=partition.key,
            instance=self.instance,
            tags=process_tags(),
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        if result.success:
            return
        errors = [
            event.step_failure_data.error
            for event in result.all_events
            if event.is_step_failure and event.step_failure_data.error
        ] + [
            event.job_failure_data.error
            for event in result.all_events
            if event.is_job_failure and event.job_failure_data.error
        ]
        # Dagster turns Ctrl-C into a failed run; for the caller it still is Ctrl-C.
        if any(error.cls_name in _INTERRUPTIONS for error in errors):
            raise KeyboardInterrupt
        reason = _reason(errors[0]) if errors else "no reason given"
        # What the project says of a partition itself begins with its name.
        said = reason if reason.startswith(str(partition)) else f"{partition}: {reason}"
        raise Failure(f"{said} (run {result.run_id[:8]})")


_INTERRUPTIONS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
_USERS_OWN = (
    "ValueError", "FileNotFoundError", "NotReadyError", "BusyError", "NoLocksError", "Failure",
)  # fmt: skip


def _reason(error: SerializableErrorInfo) -> str:
    """The innermost message; its kind too, where it is not one written for users."""
    while error.cause is not None:
        error = error.cause
    kind, _, message = error.message.strip().partition(": ")
    return message if kind.split(".")[-1] in _USERS_OWN else f"{kind}: {message}"
