"""Sensors, tick by tick, on an instance and a folder that are told what happened."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from aanet_assets.orchestration.automation import (
    STAGE3_TRIES,
    Cursor,
    job_steps,
    reselect_sensor,
    stage3_sensor,
)
from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.in_flight import STUDY_TAG
from aanet_assets.study.study import Study
from aanet_assets_tests.orchestration.ticking import (
    STUDY,
    Ticker,
    inputs,
    made,
    metrics,
    run_of,
    stage3_done,
)


@pytest.fixture
def ticker(instance: dg.DagsterInstance) -> Ticker:
    return Ticker(instance)


def test_nothing_there_asks_for_nothing(ticker: Ticker) -> None:
    assert ticker.tick() == []
    assert "7: waits for " in ticker.message
    assert "which is missing (and " in ticker.message


def test_part_of_a_row_asks_for_nothing_and_the_whole_row_once(ticker: Ticker) -> None:
    inputs()
    metrics(7, "a", 2, 3)
    assert ticker.tick() == []
    assert "7: waits for aanet_models [n_clusters 7, k 4], which is missing" in ticker.message
    metrics(7, "a", 4)
    assert ticker.tick() == ["7"]
    stage3_done(7)
    assert ticker.tick() == []
    assert "7: nothing to do" in ticker.message


def test_equal_content_never_asks_again(ticker: Ticker) -> None:
    inputs()
    metrics(7, "a")
    assert ticker.tick() == ["7"]
    stage3_done(7)
    for _ in range(3):
        metrics(7, "a")
        assert ticker.tick() == []


def test_one_changed_or_all_changed_asks_once(ticker: Ticker) -> None:
    inputs()
    for n in (6, 7):
        metrics(n, "a")
        stage3_done(n)
    assert ticker.tick() == []
    metrics(7, "b", 3)
    assert ticker.tick() == ["7"]
    stage3_done(7)
    metrics(7, "c")
    metrics(6, "c")
    assert ticker.tick() == ["6", "7"]
    stage3_done(6)
    stage3_done(7)
    assert ticker.tick() == []


def test_there_and_back_again_asks_three_times(ticker: Ticker) -> None:
    inputs()
    asked = []
    for content in "aba":
        metrics(7, content)
        asked += ticker.tick()
        stage3_done(7)
        asked += ticker.tick()
    assert asked == ["7", "7", "7"]
    assert len(set(ticker.keys)) == 3, "Dagster drops a run whose key it has seen"


def test_stage3_run_by_hand_needs_no_second_run(ticker: Ticker) -> None:
    inputs()
    metrics(7, "a")
    stage3_done(7)
    assert ticker.tick() == []


def test_a_row_in_motion_is_waited_for(ticker: Ticker) -> None:
    inputs()
    metrics(7, "a")
    run = run_of(ticker.instance, "ticking_stage1_grid", "3|7", dg.DagsterRunStatus.NOT_STARTED)
    assert ticker.tick() == []
    assert "7: waits, because aanet_m" in ticker.message
    assert "[n_clusters 7, k 3] is queued or running" in ticker.message
    ticker.instance.report_run_canceled(run)
    assert ticker.tick() == ["7"]


def test_another_studys_runs_are_not_waited_for(ticker: Ticker) -> None:
    inputs()
    metrics(7, "a")
    job = build_defs(STUDY).resolve_job_def("ticking_stage3")
    ticker.instance.create_run_for_job(
        job, tags={"dagster/partition": "7", STUDY_TAG: "other"},
        status=dg.DagsterRunStatus.STARTED,
    )  # fmt: skip
    assert ticker.tick() == ["7"]


def test_a_change_while_stage3_runs_waits_and_is_not_lost(ticker: Ticker) -> None:
    inputs()
    metrics(7, "a")
    assert ticker.tick() == ["7"]
    run = run_of(ticker.instance, "ticking_stage3", "7")
    stage3_done(7)
    metrics(7, "b")
    assert ticker.tick() == []
    assert "queued or running" in ticker.message
    ticker.instance.report_run_canceled(run)
    assert ticker.tick() == ["7"]


def test_a_failed_stage3_is_tried_so_often_and_then_says_why(ticker: Ticker) -> None:
    """Nothing but records is on disk, so that the runs really fail."""
    inputs()
    metrics(7, "a")
    job = build_defs(STUDY).resolve_job_def("ticking_stage3")
    for _ in range(STAGE3_TRIES):
        assert ticker.tick() == ["7"]
        job.execute_in_process(
            partition_key="7", instance=ticker.instance, raise_on_error=False,
            tags={STUDY_TAG: STUDY.name},
        )  # fmt: skip
    assert ticker.tick() == []
    assert f"7: given up after {STAGE3_TRIES} runs. Run " in ticker.message
    assert "aanet_metrics/n7_k2.parquet" in ticker.message
    metrics(7, "b")
    assert ticker.tick() == ["7"], "other metrics are another matter"


def test_a_backfill_that_has_not_launched_its_runs_yet_is_waited_for(ticker: Ticker) -> None:
    from dagster._core.execution.backfill import PartitionBackfill

    inputs()
    metrics(7, "a")
    graph = build_defs(STUDY).resolve_asset_graph()
    key = dg.AssetKey([STUDY.name, "aanet_models"])
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id="night", asset_graph=graph, partition_names=["2|7", "3|7"],
        asset_selection=[key], backfill_timestamp=datetime.now(tz=UTC).timestamp(), tags={},
        dynamic_partitions_store=ticker.instance, all_partitions=False, title=None,
        description=None, run_config=None,
    )  # fmt: skip
    ticker.instance.add_backfill(backfill)
    assert ticker.tick() == []
    assert "7: waits, because aanet_models [n_clusters 7, k " in ticker.message


def changed_selection() -> Study:
    selection = STUDY.selection.model_copy(update={"min_latents": 3})
    return STUDY.model_copy(update={"selection": selection})


def test_changed_thresholds_select_anew_and_do_nothing_else(instance: dg.DagsterInstance) -> None:
    inputs()
    metrics(7, "a")
    stage3_done(7)
    study = changed_selection()
    stage3, reselect = Ticker(instance, study=study), Ticker(instance, reselect_sensor, study)
    assert stage3.tick() == []
    assert reselect.tick() == ["7"]
    made(*job_steps(study)["reselect"], n=7, study=study)
    assert (stage3.tick(), reselect.tick()) == ([], [])


def test_thresholds_and_metrics_changed_together_are_one_run(instance: dg.DagsterInstance) -> None:
    inputs()
    metrics(7, "a")
    stage3_done(7)
    metrics(7, "b")
    study = changed_selection()
    stage3, reselect = Ticker(instance, study=study), Ticker(instance, reselect_sensor, study)
    assert (stage3.tick(), reselect.tick()) == (["7"], [])


def test_the_cursor_forgets_what_is_done(ticker: Ticker) -> None:
    inputs()
    metrics(7, "a")
    ticker.tick()
    assert list(Cursor.model_validate_json(ticker.cursor or "").asked) == [7]
    stage3_done(7)
    ticker.tick()
    assert Cursor.model_validate_json(ticker.cursor or "") == Cursor(requests=1)


def test_sensors_are_on_by_default() -> None:
    for sensor in (stage3_sensor(STUDY), reselect_sensor(STUDY)):
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
