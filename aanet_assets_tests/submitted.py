"""What the daemon would do with what was submitted, done at once."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import dagster as dg
import pytest

from aanet_assets.orchestration import submit
from aanet_assets.orchestration.dagster_internals import BulkActionStatus, PartitionBackfill
from aanet_assets.orchestration.materialise import build_asset
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.study.study import Study


@pytest.fixture
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a second before the next look, nor for a daemon that is not there."""
    if request.node.get_closest_marker("slow"):
        return  # whose daemon is real, and takes its time
    sleep, looks = time.sleep, iter(range(2_000))

    def briefly(seconds: float) -> None:
        assert next(looks, None) is not None, "what was asked for is never made"
        sleep(min(seconds, 0.05))

    monkeypatch.setattr(submit.time, "sleep", briefly)


def end(
    instance: dg.DagsterInstance,
    backfill: PartitionBackfill,
    status: BulkActionStatus = BulkActionStatus.COMPLETED_SUCCESS,
) -> None:
    instance.update_backfill(backfill.with_status(status))


def run_as_the_daemon(
    instance: dg.DagsterInstance, study: Study, backfill: PartitionBackfill
) -> bool:
    """Make the target of a backfill, a run for each partition; tell whether all succeeded."""
    assets = [build_asset(study, step) for step in steps_of(study)]
    defs = dg.Definitions(assets=assets, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    assert backfill.asset_backfill_data is not None
    target = backfill.asset_backfill_data.target_subset.iterate_asset_partitions()
    results = [
        job.execute_in_process(
            asset_selection=[asset.asset_key],
            partition_key=asset.partition_key,
            instance=instance,
            tags={"dagster/backfill": backfill.backfill_id},
            raise_on_error=False,
        )
        for asset in target
    ]
    return all(result.success for result in results)


@contextmanager
def daemon(study: Study) -> Iterator[None]:
    """Works on what is submitted, as Dagster's own would, until the block is left."""
    enough = Event()

    def work() -> None:
        with dg.DagsterInstance.get() as instance:
            while not enough.is_set():
                for backfill in submit.submitted(study, instance):
                    good = run_as_the_daemon(instance, study, backfill)
                    now = instance.get_backfill(backfill.backfill_id)
                    assert now is not None
                    status = BulkActionStatus.COMPLETED_FAILED
                    end(instance, now, BulkActionStatus.COMPLETED_SUCCESS if good else status)
                enough.wait(0.1)

    with ThreadPoolExecutor(1) as elsewhere:
        working = elsewhere.submit(work)
        try:
            yield
        finally:
            enough.set()
            working.result()
