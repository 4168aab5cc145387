"""Materialising a study in this process, one Dagster run per partition, on the usual instance.

What is there already, and belongs to the study as it is now, is left alone; so a run that was
stopped goes on where it was, and Dagit shows all of it.
"""

from collections.abc import Sequence

import dagster as dg

from aanet_assets.orchestration.dagster_internals import (
    SerializableErrorInfo,
    printing_to_files,
)
from aanet_assets.orchestration.materialise import build_asset, materialisation
from aanet_assets.orchestration.orphans import process_tags
from aanet_assets.orchestration.pipeline import read_by, step_named, steps_of
from aanet_assets.orchestration.syncing import synced_at_the_end
from aanet_assets.storage.records import Standing, read_record
from aanet_assets.storage.step import Partition, Step
from aanet_assets.study.study import Study


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
    wanted = steps_of(study) if until is None else _needed(study, step_named(study, until))
    for name, asked, allowed in (
        ("n_clusters", n_clusters, study.n_clusters), ("k", ks, study.ks),
    ):  # fmt: skip
        for value in asked:
            if value not in allowed:
                raise ValueError(
                    f"{name} {value} is not in study {study.name!r}, which has {allowed}"
                )
    asked_for = {"n": n_clusters, "k": ks}
    return [
        partition
        for step in wanted
        for partition in step.all_of(study)
        if all(
            value in (asked_for.get(name) or [value])
            for name, value in partition.at.numbers.items()
        )
    ]


def _needed(study: Study, last: Step) -> list[Step]:
    """A step and all that it is made from; what only steps of other studies read is not."""
    own, found, ahead = steps_of(study), {last}, [last]
    while ahead:
        new = [read for read in read_by(ahead.pop()) if read in own and read not in found]
        found.update(new)
        ahead += new
    return [step for step in own if step in found]


class Driver:
    """Materialises partitions of one study on one instance."""

    def __init__(self, study: Study, instance: dg.DagsterInstance):
        self.study, self.instance = study, instance
        # Shared activations are among them, whose definitions belong to another study.
        assets = [build_asset(study, step) for step in steps_of(study)]
        defs = dg.Definitions(assets=assets, executor=dg.in_process_executor)
        self._job = defs.resolve_implicit_global_asset_job_def()
        self._standing = Standing(study)
        self._known: dict[dg.AssetKey, set[str | None]] = {}

    def is_there(self, partition: Partition) -> bool:
        """Whether the partition needs no work; tells Dagster of it if Dagster does not know."""
        if self._standing.problem(partition) is not None:
            # It may have been made since: by this driver, or by another process.
            self._standing = Standing(self.study)
            if self._standing.problem(partition) is not None:
                return False
        key = dg.AssetKey(partition.step.asset_key(self.study))
        if partition.key not in self._materialised(key):
            self._known[key].add(partition.key)
            record = read_record(self.study, partition)
            if record is None:
                return False
            said = "Found on disk, made earlier."
            found = materialisation(self.study, partition, record.content, description=said)
            self.instance.report_runless_asset_event(found)
        return True

    def _materialised(self, key: dg.AssetKey) -> set[str | None]:
        """Partitions of an asset that Dagster knows of; None is that of one without partitions.

        Asked for once: ten thousand questions would take a minute.
        """
        if key not in self._known:
            found: set[str | None] = {*self.instance.get_materialized_partitions(key)}
            if self.instance.get_latest_materialization_event(key) is not None:
                found.add(None)
            self._known[key] = found
        return self._known[key]

    def materialise(self, partition: Partition) -> list[str]:
        """Run one partition.

        Returns: what its checks warn of, a sentence each.

        Raises:
            Failure: it failed; the message is the error's own where the mistake is the user's.
            KeyboardInterrupt: it was interrupted.
        """
        with synced_at_the_end(), printing_to_files():
            result = self._job.execute_in_process(
                asset_selection=[dg.AssetKey(partition.step.asset_key(self.study))],
                partition_key=partition.key,
                instance=self.instance,
                tags=process_tags(),
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        if result.success:
            return [
                f"check {check.check_name}: {check.description}"
                for check in result.get_asset_check_evaluations()
                if not check.passed
            ]
        # Dagster turns Ctrl-C into a failed run; for the caller it still is Ctrl-C.
        if was_interrupted(result.all_events):
            raise KeyboardInterrupt
        raise failure_of(partition, result.run_id, result.all_events)


def failure_of(partition: Partition, run_id: str, events: Sequence[dg.DagsterEvent]) -> Failure:
    """What the events of a failed run say of its partition: the run's first error, for people."""
    errors = _errors(events)
    # A run whose process died has no error; what Dagster says of it is all there is.
    said = [event.message for event in events if event.is_job_failure and event.message]
    reason = _reason(errors[0]) if errors else (said or ["no reason given"])[0]
    # What the project says of a partition itself begins with its name.
    if not reason.startswith(str(partition)):
        reason = f"{partition}: {reason}"
    return Failure(f"{reason} (run {run_id[:8]})")


def was_interrupted(events: Sequence[dg.DagsterEvent]) -> bool:
    """Whether a run failed because its process was asked to end."""
    return any(error.cls_name in _INTERRUPTIONS for error in _errors(events))


def _errors(events: Sequence[dg.DagsterEvent]) -> list[SerializableErrorInfo]:
    """A run's errors; those of steps, which say more, come first."""
    # A run that another process reports as failed has no data of its own.
    of_steps = [event.step_failure_data for event in events if event.is_step_failure]
    of_runs = [event.job_failure_data for event in events if event.is_job_failure]
    return [data.error for data in (*of_steps, *of_runs) if data and data.error]


_INTERRUPTIONS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
_USERS_OWN = (
    "ValueError", "FileNotFoundError", "NotReadyError", "BusyError", "LostLeaseError", "Failure",
    "RemoteError", "DamagedError", "OtherCodeError",
)  # fmt: skip


def _reason(error: SerializableErrorInfo) -> str:
    """The innermost message; its kind too, where it is not one written for users."""
    while error.cause is not None:
        error = error.cause
    kind, _, message = error.message.strip().partition(": ")
    return message if kind.split(".")[-1] in _USERS_OWN else f"{kind}: {message}"
