"""Asking Dagster's daemon for what a study lacks, and watching what becomes of it.

What provenance calls missing or stale becomes the target of a backfill: one for each class of
device, because all that an engine learns of a backfill's runs is the backfill's tags. The daemon
orders the partitions of one backfill by what they read, passes over what is not in its target, and
knows no order between two backfills. So a partition is asked for when all that it reads is good or
in the same backfill; what reads the work of another class is asked for once that is done, by
whoever watches. Of a study that runs on the CPU, everything is asked for at once.
"""

import secrets
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from math import inf
from typing import Any

import dagster as dg

from aanet_assets.orchestration.automation import Situation
from aanet_assets.orchestration.dagster_internals import (
    AssetGraphSubset,
    AssetKeyPartitionKey,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from aanet_assets.orchestration.driver import Failure, failure_of, was_interrupted
from aanet_assets.orchestration.in_flight import STUDY_TAG
from aanet_assets.orchestration.materialise import build_asset
from aanet_assets.orchestration.partitions import partitions_of_run
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.orchestration.same_code import CODE_TAG, code
from aanet_assets.storage.locks import submit_lock
from aanet_assets.storage.records import NotReadyError, Standing, require_upstream
from aanet_assets.storage.step import Partition, upstream
from aanet_assets.study.study import Study

DEVICE_TAG = "aanet/device"
"""Tag of what was submitted, and of its runs: the class of device that they need."""
_GOING_ON = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING)
_BROKEN_OFF = (
    BulkActionStatus.CANCELING, BulkActionStatus.CANCELED,
    BulkActionStatus.FAILING, BulkActionStatus.FAILED,
)  # fmt: skip
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# A daemon gives a sign of life every 30 seconds; a machine may be busy.
_SILENCE = 120.0
_LONG_AGO = 86_400.0
"""Seconds by which no clock is wrong."""
_PAUSE = 10.0
"""The most seconds between two looks."""


class Daemon:
    """The daemon that works on backfills, seen by its signs of life.

    They have its machine's time, which may be another than here: what tells is that they change.
    """

    def __init__(self, instance: dg.DagsterInstance):
        self._instance = instance
        self._sign: float | None = None
        self._seen_at = -inf

    def is_there(self) -> bool:
        """Whether it gave a new sign lately, or may give one soon: ask again and again."""
        beat = self._instance.get_daemon_heartbeats().get("BACKFILL")
        if beat is None:
            return False
        if beat.timestamp != self._sign:
            is_over = self._sign is None and abs(time.time() - beat.timestamp) > _LONG_AGO
            self._sign, self._seen_at = beat.timestamp, -inf if is_over else time.monotonic()
        return time.monotonic() - self._seen_at < _SILENCE


def submitted(study: Study, instance: dg.DagsterInstance) -> list[PartitionBackfill]:
    """Backfills that were submitted for a study and go on, the oldest first."""
    return _found(instance, tags={STUDY_TAG: study.name}, statuses=_GOING_ON)


def _found(instance: dg.DagsterInstance, **filters: Any) -> list[PartitionBackfill]:
    """Backfills of `--submit`, in the order in which the database got them."""
    found = instance.get_backfills(filters=BulkActionsFilter(**filters))
    return [backfill for backfill in found[::-1] if DEVICE_TAG in backfill.tags]


def cancel(study: Study, instance: dg.DagsterInstance) -> Iterator[list[PartitionBackfill]]:
    """Cancel what was submitted for a study; yields what Dagster has not cancelled yet."""
    wanted = {backfill.backfill_id for backfill in submitted(study, instance)}
    while going_on := [
        backfill for backfill in submitted(study, instance) if backfill.backfill_id in wanted
    ]:
        for backfill in going_on:
            # Asked for again where the daemon, which was at work on it, wrote its own state over.
            if backfill.status == BulkActionStatus.REQUESTED:
                instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELING))
        yield going_on
        time.sleep(1)


@dataclass
class Look:
    """What has become, so far, of what was asked for."""

    asked: set[Partition] = field(default_factory=set)
    done: set[Partition] = field(default_factory=set)
    failed: dict[Partition, Failure] = field(default_factory=dict)
    backfills: list[PartitionBackfill] = field(default_factory=list)
    others: list[Partition] = field(default_factory=list)
    """What runs that nobody submitted here are making, and is waited for."""
    later: int = 0
    """How many partitions wait for those, or for another class of device, to be asked for."""


class Submission:
    """What is asked for of one study, and what somebody else has submitted for it already."""

    def __init__(self, study: Study, instance: dg.DagsterInstance, todo: Sequence[Partition]):
        self.study, self.instance, self.todo = study, instance, todo
        self.asked_here: set[str] = set()
        """Backfills that this object, and nobody before it, asked for."""
        self._steps = {dg.AssetKey(step.asset_key(study)): step for step in steps_of(study)}
        # What is looked at, by name: times are of the machines that submitted it.
        self._watched: set[str] = set()
        # What never changes again: targets by backfill, what became of runs that have ended.
        self._targets: dict[str, set[Partition]] = {}
        self._ended: dict[str, Look] = {}
        self._look = Look()

    def watch(self) -> Iterator[Look]:
        """Ask for what is to be made, and look again and again until all of it has ended.

        Raises:
            Failure: something is not there in the end; the message is for people.
        """
        before: set[str] | None = None
        others: list[Partition] = []
        later = 0
        while True:
            started = time.monotonic()
            backfills = self._backfills()
            if not any(backfill.status in _BROKEN_OFF for backfill in backfills):
                going_on = _ids_going_on(backfills)
                if not going_on or going_on != before:
                    others, later = self._ask()
                    backfills = self._backfills()
            else:
                others, later = [], 0
            before = _ids_going_on(backfills)
            self._look = self._look_at(backfills)
            self._look.others, self._look.later = others, later
            yield self._look
            if not before and not others:
                break
            # Many runs take long to look through: that is not to slow down anything else.
            time.sleep(min(max(1.0, 5 * (time.monotonic() - started)), _PAUSE))
        self._conclude()

    def _ask(self) -> tuple[list[Partition], int]:
        """Ask for what can be made and nobody was asked for.

        Returns:
            What other runs are making, and how many partitions are to be asked for later.
        """
        # Of two that ask at the same moment, the second finds what the first has asked for.
        with submit_lock(self.study):
            going_on = submitted(self.study, self.instance)
            asked = set().union(*map(self.target, self._backfills()))
            situation = Situation(self.study, self.instance)
            still_open = [p for p in situation.open(self.todo) if p not in asked]
            others = [p for p in still_open if p in situation.in_flight]
            ready = self._ready([p for p in still_open if p not in others], situation.standing)
            busy = {backfill.tags[DEVICE_TAG] for backfill in going_on}
            for device, partitions in ready.items():
                if device not in busy:
                    self._add(device, partitions.keys())
                    still_open = [p for p in still_open if p not in partitions]
            return others, len(still_open) - len(others)

    def _ready(
        self, partitions: Sequence[Partition], standing: Standing
    ) -> dict[str, dict[Partition, None]]:
        """Those of each class that read nothing but what is good or in the same class."""
        ready: dict[str, dict[Partition, None]] = {}
        for partition in partitions:
            same = ready.setdefault(self._device(partition), {})
            if all(
                up in same or standing.problem(up) is None for up in upstream(self.study, partition)
            ):
                same[partition] = None
        return {device: found for device, found in ready.items() if found}

    def _device(self, partition: Partition) -> str:
        return self.study.device if partition.step.on_device else "cpu"

    def _add(self, device: str, partitions: Set[Partition]) -> None:
        assets = [build_asset(self.study, step) for step in self._steps.values()]
        subset = AssetGraphSubset.from_asset_partition_set(
            {AssetKeyPartitionKey(self._asset(p), p.key) for p in partitions},
            dg.Definitions(assets=assets).resolve_asset_graph(),
        )
        on = f" on {device}" if self.study.device != "cpu" else ""
        backfill = PartitionBackfill.from_asset_graph_subset(
            backfill_id=secrets.token_hex(4),
            backfill_timestamp=time.time(),
            tags={STUDY_TAG: self.study.name, DEVICE_TAG: device, CODE_TAG: code()},
            dynamic_partitions_store=self.instance,
            asset_graph_subset=subset,
            title=f"Study {self.study.name}{on}",
            description=f"What was missing or stale when `aanet run {self.study.name} --submit` "
            "asked.",
            run_config=None,
        )
        self.instance.add_backfill(backfill)
        self.asked_here.add(backfill.backfill_id)

    def _backfills(self) -> list[PartitionBackfill]:
        """What was submitted for the study and was seen to go on."""
        going_on = submitted(self.study, self.instance)
        self._watched |= {*self.asked_here, *(backfill.backfill_id for backfill in going_on)}
        if not self._watched:
            return []
        return _found(self.instance, backfill_ids=list(self._watched))

    def target(self, backfill: PartitionBackfill) -> set[Partition]:
        """What a backfill is to make."""
        known = self._targets.get(backfill.backfill_id)
        if known is None:
            data = backfill.asset_backfill_data
            known = self._targets[backfill.backfill_id] = {
                self._steps[asset.asset_key].of_key(asset.partition_key)
                for asset in (data.target_subset.iterate_asset_partitions() if data else ())
                # A step may have been taken out of the study meanwhile.
                if asset.asset_key in self._steps
            }
        return known

    def _look_at(self, backfills: list[PartitionBackfill]) -> Look:
        look = Look(backfills=backfills)
        for backfill in backfills:
            look.asked |= self.target(backfill)
            ended = dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id}, statuses=_ENDED)
            for run in reversed(self.instance.get_runs(ended)):
                found = self._ended.get(run.run_id) or self._of_run(run)
                look.done |= found.done
                look.failed |= found.failed
        look.done &= look.asked
        look.failed = {p: reason for p, reason in look.failed.items() if p not in look.done}
        return look

    def _of_run(self, run: dg.DagsterRun) -> Look:
        """What a run that has ended made, and why it made no more."""
        found = Look()
        asked = [
            partition
            for asset, step in self._steps.items()
            if asset in (run.asset_selection or ())
            for partition in partitions_of_run(self.study, step, run)
        ]
        if run.status == dg.DagsterRunStatus.SUCCESS:
            found.done = set(asked)
        else:
            logs = self.instance.all_logs(run.run_id)
            events = [entry.dagster_event for entry in logs if entry.dagster_event]
            made = {(e.asset_key, e.partition) for e in events if e.is_step_materialization}
            found.done = {p for p in asked if (self._asset(p), p.key) in made}
            if self._may_be_tried_again(run):
                return found
            names = [event.step_key for event in events if event.is_step_failure]
            left = [partition for partition in asked if partition not in found.done]
            # Without a step that failed, the process ended in the midst of the first that is left.
            culprits = [p for p in left if "__".join(p.step.asset_key(self.study)) in names] or left
            for partition in culprits[:1]:
                found.failed[partition] = self._reason(run, partition, events)
        self._ended[run.run_id] = found
        return found

    def _asset(self, partition: Partition) -> dg.AssetKey:
        return dg.AssetKey(partition.step.asset_key(self.study))

    def _may_be_tried_again(self, run: dg.DagsterRun) -> bool:
        # The tag is written just after the run's end, and changes where there is no next try.
        return (
            run.status == dg.DagsterRunStatus.FAILURE
            and self.instance.run_retries_enabled
            and run.tags.get("dagster/will_retry") != "false"
        )

    def _reason(
        self, run: dg.DagsterRun, partition: Partition, events: Sequence[dg.DagsterEvent]
    ) -> Failure:
        if run.status == dg.DagsterRunStatus.CANCELED or was_interrupted(events):
            return Failure(f"{partition}: its run was cancelled (run {run.run_id[:8]})")
        return failure_of(partition, run.run_id, events)

    def _conclude(self) -> None:
        """Make sure that everything is there now.

        Raises:
            Failure: something is not; the message is for people.
        """
        again = f"aanet run {self.study.name} --submit"
        look = self._look
        for backfill in look.backfills:
            name = f"the backfill {backfill.backfill_id} of study {self.study.name!r}"
            if backfill.status == BulkActionStatus.CANCELED:
                raise Failure(f"{name} was cancelled; what was finished is kept. To go on: {again}")
            if backfill.status == BulkActionStatus.FAILED:
                said = backfill.error.message.strip() if backfill.error else "no reason given"
                raise Failure(
                    f"Dagster gave up {name}: {said}. If the study is new or was changed, reload "
                    f"the code location in Dagit (aanet ui). To go on: {again}"
                )
        if look.failed:
            rest = len(look.asked) - len(look.done) - len(look.failed)
            more = f"; {rest} more, made from what failed, could not be made" if rest else ""
            raise Failure(
                f"{count(len(look.failed))} failed, as said above{more}. What was finished is "
                f"kept. To go on: {again}"
            )
        standing = Standing(self.study)
        left = [p for p in self.todo if standing.problem(p) is not None]
        for partition in left:
            if partition not in look.asked:
                try:
                    require_upstream(self.study, partition)
                except NotReadyError as error:
                    raise Failure(error) from None
        if left:
            first = f"{left[0]}, which {standing.problem(left[0])}"
            raise Failure(
                f"Dagster says that all is done, but {count(len(left))} of study "
                f"{self.study.name!r} do not count, the first of them {first}: an input or the "
                "study was changed meanwhile, or the daemon has another version of the study or "
                f"works in another folder. Reload the code location in Dagit (aanet ui), then: "
                f"{again}"
            )


def _ids_going_on(backfills: Sequence[PartitionBackfill]) -> set[str]:
    return {backfill.backfill_id for backfill in backfills if backfill.status in _GOING_ON}


def count(number: int) -> str:
    """So many partitions, in words."""
    return "1 partition" if number == 1 else f"{number} partitions"
