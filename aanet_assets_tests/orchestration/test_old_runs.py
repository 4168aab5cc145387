"""Old runs go with their logs; what Dagit knows of every partition stays."""

import dagster as dg

from aanet_assets.orchestration.old_runs import bytes_of_runs, delete_runs, old_runs
from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.steps.selection import selected_clusters
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.small import small_study


def latest(finished: Finished) -> list[str]:
    """The run behind each partition, as Dagster knows it."""
    found = []
    for partition in partitions_of(finished.study):
        asset = dg.AssetRecordsFilter(
            dg.AssetKey([finished.study.name, partition.step.name]),
            asset_partitions=[partition.key] if partition.key else None,
        )
        (event,) = finished.instance.fetch_materializations(asset, limit=1).records
        found.append(event.run_id)
    return found


def test_only_runs_that_were_followed_by_another_go(finished: Finished) -> None:
    study, instance = finished.study, finished.instance
    for _ in range(2):
        finished.driver.materialise(selected_clusters.at(n=6))
    runs, behind = {run.run_id for run in instance.get_runs()}, latest(finished)
    assert old_runs(instance, study, days=1) == []
    assert old_runs(instance, small_study(name="another"), days=0) == []
    old = old_runs(instance, study, days=0)
    assert len(old) >= 2
    assert not set(old) & set(behind)
    assert bytes_of_runs(instance, old) > 10_000 * len(old)
    delete_runs(instance, old)
    assert bytes_of_runs(instance, old) == 0
    assert {run.run_id for run in instance.get_runs()} == runs - set(old)
    assert latest(finished) == behind
