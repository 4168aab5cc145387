"""Schedules, tick by tick, on an instance and a folder that are told what happened."""

from datetime import UTC, datetime

import dagster as dg

from aanet_assets.orchestration.automation import gap_schedules
from aanet_assets.orchestration.build import build_defs
from aanet_assets.steps.aanets import aanet_exports, aanet_models
from aanet_assets.steps.activations import activation_cache, codes_by_latent, sae_fit
from aanet_assets.steps.clusters import cluster_rows
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.records import discard_record
from aanet_assets_tests.orchestration.ticking import STUDY, inputs, made, metrics, run_of
from aanet_assets_tests.small import pretend


def evaluated(instance: dg.DagsterInstance, name: str):
    context = dg.build_schedule_context(
        instance,
        scheduled_execution_time=datetime.now(tz=UTC),
        repository_def=build_defs(STUDY).get_repository_def(),
    )
    (schedule,) = (s for s in gap_schedules(STUDY) if s.name == name)
    return schedule.evaluate_tick(context)


def schedule_tick(instance: dg.DagsterInstance, name: str) -> tuple[list[str | None], str]:
    data = evaluated(instance, name)
    return [request.partition_key for request in data.run_requests or []], data.skip_message or ""


def test_the_grid_waits_for_training_rows(instance: dg.DagsterInstance) -> None:
    requested, message = schedule_tick(instance, "ticking_fill_grid")
    assert requested == []
    assert message.startswith("aanet_models [n_clusters 6, k 2] waits for ")


def test_the_grid_is_asked_for_row_by_row_but_for_what_is_there(
    instance: dg.DagsterInstance,
) -> None:
    inputs()
    metrics(6, "a", 3)
    pretend(STUDY, aanet_models.at(n=6, k=2), "a")
    assert schedule_tick(instance, "ticking_fill_grid")[0] == ["2|6", "4|6", "2|7", "3|7", "4|7"]
    run_of(instance, "ticking_stage1_grid", "2|7", dg.DagsterRunStatus.NOT_STARTED)
    assert schedule_tick(instance, "ticking_fill_grid")[0] == ["2|6", "4|6", "3|7", "4|7"]
    metrics(6, "a")
    metrics(7, "a")
    requested, message = schedule_tick(instance, "ticking_fill_grid")
    assert (requested, message) == ([], "every partition is there")


def test_failed_and_stale_partitions_are_asked_for_again(instance: dg.DagsterInstance) -> None:
    inputs()
    metrics(6, "a")
    metrics(7, "a")
    discard_record(STUDY, aanet_models.at(n=7, k=3))  # as a failed run leaves it
    assert schedule_tick(instance, "ticking_fill_grid")[0] == ["3|7"]
    made(cluster_rows, n=6, content="other")
    assert schedule_tick(instance, "ticking_fill_grid")[0] == ["2|6", "3|6", "4|6", "3|7"]


def test_only_what_is_missing_is_asked_for(instance: dg.DagsterInstance) -> None:
    inputs()
    metrics(6, "a")
    metrics(7, "a")
    discard_record(STUDY, aanet_exports.at(n=7, k=3))
    (request,) = evaluated(instance, "ticking_fill_grid").run_requests or []
    assert request.partition_key == "3|7"
    assert request.asset_selection == [dg.AssetKey([STUDY.name, "aanet_exports"])]


def test_the_cache_and_the_clusterings_are_filled_too(instance: dg.DagsterInstance) -> None:
    made(corpus, sae_fit)
    pretend(STUDY, activation_cache.at(shard=1), "a")
    pretend(STUDY, codes_by_latent.at(shard=1), "a")
    assert schedule_tick(instance, "ticking_fill_cache")[0] == ["0", "2"]
    assert schedule_tick(instance, "ticking_fill_clusters")[0] == []
    made(activation_cache)
    assert schedule_tick(instance, "ticking_fill_cache")[0] == ["0", "2"]
    made(codes_by_latent)
    assert schedule_tick(instance, "ticking_fill_cache")[0] == []
    assert schedule_tick(instance, "ticking_fill_clusters")[0] == ["6", "7"]


def test_schedules_are_off_by_default() -> None:
    for schedule in gap_schedules(STUDY):
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
