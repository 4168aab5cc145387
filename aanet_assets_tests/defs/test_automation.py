"""The sensor and the schedule, tick by tick, on an instance that is told what happened."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from aanet_assets.defs.automation import grid_schedule, stage3_sensor
from aanet_assets.defs.build import build_defs
from aanet_assets.defs.materialise import METRICS_VERSION_TAG
from aanet_assets_tests.small import small_study

STUDY = small_study(name="ticking")


@pytest.fixture
def instance(tmp_path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def materialised(instance: dg.DagsterInstance, step: str, partition: str, **tags: str) -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization(["ticking", step], partition=partition, tags=tags)
    )


def metrics(instance: dg.DagsterInstance, n: str, version: str) -> None:
    materialised(instance, "consolidated_metrics", n, **{"dagster/data_version": version})


def stage3_done(instance: dg.DagsterInstance, n: str, version: str) -> None:
    materialised(instance, "vertex_samples", n, **{METRICS_VERSION_TAG: version})


class Ticker:
    """Evaluates the sensor as the daemon does, carrying the cursor on."""

    def __init__(self, instance: dg.DagsterInstance):
        self.instance, self.cursor, self.message = instance, None, ""
        self.sensor = stage3_sensor(STUDY)
        self.repository = build_defs(STUDY).get_repository_def()

    def tick(self) -> list[str | None]:
        context = dg.build_sensor_context(
            self.instance, cursor=self.cursor, repository_def=self.repository
        )
        data = self.sensor.evaluate_tick(context)
        self.cursor, self.message = data.cursor, data.skip_message or ""
        return [request.partition_key for request in data.run_requests or []]


@pytest.fixture
def ticker(instance: dg.DagsterInstance) -> Ticker:
    return Ticker(instance)


def test_nothing_there_asks_for_nothing(ticker: Ticker) -> None:
    assert ticker.tick() == []
    assert ticker.message == "6: no metrics yet; 7: no metrics yet"


def test_each_change_asks_once_for_its_own_n_clusters(ticker: Ticker) -> None:
    metrics(ticker.instance, "7", "a")
    assert ticker.tick() == ["7"]
    stage3_done(ticker.instance, "7", "a")
    assert ticker.tick() == []
    metrics(ticker.instance, "6", "x")
    assert ticker.tick() == ["6"]


def test_many_events_before_a_tick_are_one_change(ticker: Ticker) -> None:
    for version in "abcd":
        metrics(ticker.instance, "7", version)
    metrics(ticker.instance, "6", "x")
    assert ticker.tick() == ["6", "7"]


def test_equal_content_never_asks_again(ticker: Ticker) -> None:
    metrics(ticker.instance, "7", "a")
    assert ticker.tick() == ["7"]
    stage3_done(ticker.instance, "7", "a")
    for _ in range(3):
        metrics(ticker.instance, "7", "a")
        assert ticker.tick() == []
    assert "7: stage 3 is up to date" in ticker.message


def test_there_and_back_again_asks_three_times(ticker: Ticker) -> None:
    asked = []
    for version in "aba":
        metrics(ticker.instance, "7", version)
        asked += ticker.tick()
        stage3_done(ticker.instance, "7", version)
        asked += ticker.tick()
    assert asked == ["7", "7", "7"]


def test_stage3_run_by_hand_needs_no_second_run(ticker: Ticker) -> None:
    metrics(ticker.instance, "7", "a")
    stage3_done(ticker.instance, "7", "a")
    assert ticker.tick() == []


def test_stage3_that_did_not_finish_is_not_repeated_for_ever(ticker: Ticker) -> None:
    metrics(ticker.instance, "7", "a")
    assert ticker.tick() == ["7"]
    assert ticker.tick() == []
    assert "7: stage 3 was asked for and did not finish" in ticker.message
    metrics(ticker.instance, "7", "b")
    assert ticker.tick() == ["7"]


def run_in_flight(instance: dg.DagsterInstance, job_name: str, partition: str) -> dg.DagsterRun:
    job = build_defs(STUDY).resolve_job_def(job_name)
    return instance.create_run_for_job(
        job, tags={"dagster/partition": partition}, status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset(job.asset_layer.executable_asset_keys),
    )  # fmt: skip


def test_a_change_while_stage3_runs_waits_and_is_not_lost(ticker: Ticker) -> None:
    metrics(ticker.instance, "7", "a")
    assert ticker.tick() == ["7"]
    run = run_in_flight(ticker.instance, "stage3", "7")
    metrics(ticker.instance, "7", "b")
    assert ticker.tick() == []
    assert "7: stage 3 is queued or running" in ticker.message
    stage3_done(ticker.instance, "7", "a")
    ticker.instance.report_run_canceled(run)
    assert ticker.tick() == ["7"]


def schedule_tick(instance: dg.DagsterInstance) -> tuple[list[str | None], str]:
    context = dg.build_schedule_context(
        instance,
        scheduled_execution_time=datetime.now(tz=UTC),
        repository_def=build_defs(STUDY).get_repository_def(),
    )
    data = grid_schedule(STUDY).evaluate_tick(context)
    return [request.partition_key for request in data.run_requests or []], data.skip_message or ""


def grid_done(instance: dg.DagsterInstance, partition: str) -> None:
    for step in ("aanet_models", "aanet_metrics"):
        materialised(instance, step, partition)


def test_the_schedule_waits_for_training_rows(instance: dg.DagsterInstance) -> None:
    requested, message = schedule_tick(instance)
    assert requested == []
    assert "cluster_rows are not there for n_clusters 6, 7" in message


def test_the_schedule_asks_for_what_is_missing_row_by_row(instance: dg.DagsterInstance) -> None:
    for n in ("6", "7"):
        materialised(instance, "cluster_rows", n)
    grid_done(instance, "3|6")
    materialised(instance, "aanet_models", "2|6")
    assert schedule_tick(instance)[0] == ["2|6", "4|6", "2|7", "3|7", "4|7"]
    run_in_flight(instance, "stage1_grid", "2|7")
    assert schedule_tick(instance)[0] == ["2|6", "4|6", "3|7", "4|7"]
    for key in ("2|6", "4|6", "2|7", "3|7", "4|7"):
        grid_done(instance, key)
    requested, message = schedule_tick(instance)
    assert requested == []
    assert "every partition of the grid is there" in message


def test_a_failed_partition_is_asked_for_again(instance: dg.DagsterInstance) -> None:
    defs = build_defs(STUDY)
    for n in ("6", "7"):
        materialised(instance, "cluster_rows", n)
    for k in ("2", "3", "4"):
        for n in ("6", "7"):
            grid_done(instance, f"{k}|{n}")
    # Nothing is on disk, so this run fails, and with it a partition that was there.
    result = defs.resolve_job_def("stage1_grid").execute_in_process(
        partition_key="3|7", instance=instance, raise_on_error=False
    )
    assert not result.success
    assert schedule_tick(instance)[0] == ["3|7"]


def test_the_cursor_is_readable(ticker: Ticker) -> None:
    metrics(ticker.instance, "7", "a")
    ticker.tick()
    assert json.loads(ticker.cursor or "") == {"7": "a"}


def test_the_sensor_is_on_and_the_schedule_off_by_default() -> None:
    assert stage3_sensor(STUDY).default_status is dg.DefaultSensorStatus.RUNNING
    assert grid_schedule(STUDY).default_status is dg.DefaultScheduleStatus.STOPPED
