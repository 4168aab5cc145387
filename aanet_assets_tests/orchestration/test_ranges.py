"""Runs that make several shards, one after the other."""

from collections.abc import Iterator

import dagster as dg
import pytest

from aanet_assets.orchestration.driver import failure_of
from aanet_assets.orchestration.in_flight import in_flight
from aanet_assets.orchestration.materialise import build_asset
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.orchestration.submit import Submission
from aanet_assets.steps.activations import activation_cache, codes_by_latent
from aanet_assets.steps.clusters import clustering
from aanet_assets.storage.records import discard_record, read_record
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Outcome, Partition
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study

SHARDS = [codes_by_latent.at(shard=shard) for shard in range(3)]
RANGE = {"dagster/asset_partition_range_start": "0", "dagster/asset_partition_range_end": "2"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def together(study: Study, shards: int) -> Study:
    cache = study.cache.model_copy(update={"shards_per_run": shards})
    return study.model_copy(update={"cache": cache})


def make(study: Study, instance: dg.DagsterInstance, **tags: str) -> dg.ExecuteInProcessResult:
    assets = [build_asset(study, step) for step in steps_of(study)]
    return (
        dg.Definitions(assets=assets, executor=dg.in_process_executor)
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            asset_selection=[dg.AssetKey(codes_by_latent.asset_key(study))],
            instance=instance,
            tags={**RANGE, **tags},
            raise_on_error=False,
        )
    )


def told(study: Study, instance: dg.DagsterInstance) -> dict[Partition, str]:
    """The data version that Dagster has of each shard."""
    key = dg.AssetKey(codes_by_latent.asset_key(study))
    found = {}
    for shard in instance.get_materialized_partitions(key):
        filters = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[shard])
        event = instance.fetch_materializations(filters, limit=1).records[0]
        assert event.asset_materialization is not None
        tags = event.asset_materialization.tags or {}
        found[codes_by_latent.of_key(shard)] = tags["dagster/data_version"]
    return found


def recorded(study: Study) -> dict[Partition, str]:
    records = {shard: read_record(study, shard) for shard in SHARDS}
    return {shard: record.content for shard, record in records.items() if record}


def test_a_range_makes_what_single_runs_make_and_dagster_knows_each(
    copied: Study, instance: dg.DagsterInstance
) -> None:
    before = recorded(copied)
    for shard in SHARDS:
        discard_record(copied, shard)
    result = make(copied, instance)
    assert result.success
    assert recorded(copied) == before == told(copied, instance)
    assert len(set(before.values())) == 3


def test_one_that_fails_leaves_the_earlier_ones_and_is_named(
    copied: Study, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, work = recorded(copied), codes_by_latent.work

    def second_fails(run: Run) -> Outcome:
        if run.at.shard == 1:
            raise ValueError("no more")
        return work(run)

    monkeypatch.setattr(codes_by_latent, "work", second_fails)
    for shard in SHARDS:
        discard_record(copied, shard)
    submission = Submission(copied, instance, SHARDS)
    result = make(copied, instance)
    assert "no more" in str(failure_of(SHARDS[1], result.run_id, result.all_events))
    assert told(copied, instance) == {SHARDS[0]: before[SHARDS[0]]} == recorded(copied)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    look = submission._of_run(run)
    assert look.done == {SHARDS[0]}
    assert [str(partition) for partition in look.failed] == ["codes_by_latent [shard 1]"]
    # A retry tells of what is there, and makes the others.
    monkeypatch.setattr(codes_by_latent, "work", work)
    made = []
    monkeypatch.setattr(codes_by_latent, "work", lambda run: made.append(run.at) or work(run))
    assert make(copied, instance, **{"dagster/retry_number": "1"}).success
    assert [at.shard for at in made] == [1, 2]
    assert recorded(copied) == before == told(copied, instance)


def test_checks_are_told_of_each_shard(copied: Study, instance: dg.DagsterInstance) -> None:
    asset = build_asset(copied, activation_cache)
    result = dg.materialize([asset], instance=instance, tags=RANGE)
    of_shards = [
        (evaluation.check_name, evaluation.partition)
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.partition is not None
    ]
    names = {*activation_cache.blocking, *activation_cache.warning}
    assert sorted(of_shards) == sorted((name, str(shard)) for name in names for shard in range(3))


def test_a_range_that_goes_on_counts_as_in_flight(instance: dg.DagsterInstance) -> None:
    study = small_study()
    job = dg.Definitions(assets=[build_asset(study, codes_by_latent)])
    instance.create_run_for_job(
        job.resolve_implicit_global_asset_job_def(),
        tags=RANGE,
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey(codes_by_latent.asset_key(study))}),
    )
    assert in_flight(instance, study, {}) == set(SHARDS)


def test_only_shards_are_put_together_and_only_where_the_study_says_so() -> None:
    study = small_study()
    policies = [
        build_asset(each, step).backfill_policy
        for each in (study, together(study, 4))
        for step in (activation_cache, codes_by_latent, clustering)
    ]
    four = dg.BackfillPolicy.multi_run(4)
    assert policies == [None, None, None, four, four, None]
