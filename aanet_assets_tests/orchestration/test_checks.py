"""The checks inside Dagster: what is refused, what only warns, and what Dagit can show of it."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.driver import Driver, Failure, plan
from aanet_assets.orchestration.pipeline import all_steps, steps_of, tables_of
from aanet_assets.science.aanet.data import TrainedAANet
from aanet_assets.steps.aanets import AANET_METRICS, STACK, aanet_metrics, aanet_models
from aanet_assets.steps.inputs import corpus
from aanet_assets.steps.selection import SELECTED_CLUSTERS, selected_clusters
from aanet_assets.steps.vertices import refit_models, vertex_samples
from aanet_assets.storage import warehouse
from aanet_assets.storage.partitions import Whole
from aanet_assets.storage.records import MISSING, Standing
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, Partition
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import edit_stack, put
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.outputs import change

FAILED = AssetCheckExecutionRecordStatus.FAILED
SUCCEEDED = AssetCheckExecutionRecordStatus.SUCCEEDED
METRICS = aanet_metrics.at(n=7, k=3)


def latest(
    instance: dg.DagsterInstance, partition: Partition, check: str
) -> AssetCheckExecutionRecord | None:
    """The latest evaluation of a check of one partition, as Dagit's tab of checks finds it."""
    key = dg.AssetCheckKey(dg.AssetKey(["small", partition.step.name]), check)
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [key], PartitionKeyFilter(key=partition.key)
    )
    return found.get(key)


def evaluation(record: AssetCheckExecutionRecord | None) -> dg.AssetCheckEvaluation:
    assert record is not None
    assert record.event is not None
    assert record.event.dagster_event is not None
    found = record.event.dagster_event.event_specific_data
    assert isinstance(found, dg.AssetCheckEvaluation)
    return found


def materialised(instance: dg.DagsterInstance, partition: Partition) -> bool:
    asset = dg.AssetRecordsFilter(
        dg.AssetKey(["small", partition.step.name]),
        asset_partitions=[partition.key] if partition.key else None,
    )
    return bool(instance.fetch_materializations(asset, limit=1).records)


def test_every_step_has_blocking_checks_and_says_what_each_makes_sure_of() -> None:
    for step in all_steps():
        assert step.blocking, step
        assert not set(step.blocking) & set(step.warning), step
        for said in (*step.blocking.values(), *step.warning.values()):
            assert said.endswith("."), "a sentence"


def test_dagster_knows_the_checks_of_every_step(finished: Finished) -> None:
    specs = {
        (spec.asset_key.path[-1], spec.name): spec
        for asset in build_defs(finished.study).resolve_asset_graph().assets_defs
        for spec in asset.check_specs
    }
    described = {
        (step.name, name): (step, said)
        for step in steps_of(finished.study)
        for name, said in {**step.blocking, **step.warning}.items()
    }
    assert set(specs) == set(described)
    for key, spec in specs.items():
        step, said = described[key]
        assert spec.description == said
        assert spec.blocking == (spec.name in step.blocking)
        assert (spec.partitions_def is None) == (step.partitions is Whole)


def test_all_checks_of_the_finished_study_pass_and_are_those_described(finished: Finished) -> None:
    for partition in plan(finished.study):
        step = partition.step
        assert step.check is not None
        findings = step.check(Run(finished.study, partition))
        assert Counter((finding.name, finding.blocking) for finding in findings) == Counter(
            [*((name, True) for name in step.blocking), *((name, False) for name in step.warning)]
        )
        assert all(finding.passed for finding in findings), (partition, findings)
        assert not any(finding.said.endswith(".") for finding in findings), "part of a sentence"


def test_dagit_has_the_evaluation_of_every_partition(finished: Finished) -> None:
    for partition in plan(finished.study):
        for check in (*partition.step.blocking, *partition.step.warning):
            found = evaluation(latest(finished.instance, partition, check))
            assert found.passed, (partition, check)
            assert found.partition == partition.key
            assert found.description
            assert found.target_materialization_data is not None


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def one_row_short(run: Run) -> Outcome:
    """The work of METRICS, but for its last row."""
    return Outcome([change(run.study, run.partition, AANET_METRICS, lambda frame: frame.iloc[:-1])])


def test_a_blocking_check_keeps_the_partition_from_counting(
    copied: Study, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aanet_metrics, "work", one_row_short)
    driver = Driver(copied, instance)
    with pytest.raises(Failure) as failure:
        driver.materialise(METRICS)
    folder = copied.paths.tables / "aanet_metrics"
    assert re.fullmatch(
        r"aanet_metrics \[n_clusters 7, k 3\]: check complete failed: 6 rows \(cluster 6 at k 3 "
        r"missing\), 7 expected: one for each of 7 clusters at k 3\. The partition does not count, "
        rf"and nothing reads it; what was written is left in {re.escape(str(folder))} "
        r"\(run [0-9a-f]{8}\)",
        str(failure.value),
    )
    assert Standing(copied).problem(METRICS) == MISSING
    assert Standing(copied).problem(aanet_metrics.at(n=7, k=2)) is None
    assert not materialised(instance, METRICS)
    found = evaluation(latest(instance, METRICS, "complete"))
    assert (found.passed, found.severity, found.blocking, found.partition) == (
        False, dg.AssetCheckSeverity.ERROR, True, "3|7",
    )  # fmt: skip
    assert "6 rows (cluster 6 at k 3 missing), 7 expected" in (found.description or "")
    assert evaluation(latest(instance, METRICS, "losses")).passed
    assert latest(instance, aanet_metrics.at(n=7, k=2), "complete") is None


def test_refused_rows_are_not_in_the_database_but_can_be_read(
    copied: Study, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(sql: str) -> list[tuple]:
        return warehouse.query(copied.paths, tables_of(copied), sql).fetchall()

    def ks() -> list[int]:
        sql = "SELECT DISTINCT aanet_k FROM aanet_metrics WHERE n_clusters_total = 7 ORDER BY 1"
        return [k for (k,) in asked(sql)]

    assert ks() == [2, 3, 4]
    driver = Driver(copied, instance)
    with monkeypatch.context() as patch:
        patch.setattr(aanet_metrics, "work", one_row_short)
        with pytest.raises(Failure):
            driver.materialise(METRICS)
    assert ks() == [2, 4]
    refused = copied.paths.tables / "aanet_metrics" / "n7_k3.refused"
    sql = f"SELECT count(*) FROM read_parquet('{refused}')"
    assert asked(sql) == [(6,)]
    driver.materialise(METRICS)
    assert ks() == [2, 3, 4]
    assert not refused.exists()
    assert Standing(copied).problem(METRICS) is None
    assert evaluation(latest(instance, METRICS, "complete")).passed


def test_a_blocking_check_stops_the_rest_of_a_job(
    copied: Study, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_a_reason(run: Run) -> Outcome:
        table = change(run.study, run.partition, SELECTED_CLUSTERS, put("reason", ""))
        return Outcome([table], {"dagster/row_count": 2, "verdicts": dg.MetadataValue.md("| a |")})

    monkeypatch.setattr(selected_clusters, "work", without_a_reason)
    job = build_defs(copied).resolve_job_def("small_reselect")
    result = job.execute_in_process(partition_key="7", instance=instance, raise_on_error=False)
    assert not result.success
    started = [event.step_key for event in result.all_events if event.is_step_start]
    assert {"small__selected_clusters"} <= {*started} <= {
        "small__selected_clusters", "small__analysis_plots", "small__reproducibility",
    }  # fmt: skip
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    shown = failure.step_failure_data.user_failure_data
    assert shown is not None
    assert set(shown.metadata) == {"dagster/row_count", "verdicts"}, "to look at what went wrong"
    assert (shown.description or "").startswith(
        "selected_clusters [n_clusters 7]: check complete failed: 7 verdicts, 1 of them without a "
        "reason; each of 7 clusters must have one, with a reason. The partition does not count"
    )
    for step in (selected_clusters, refit_models, vertex_samples):
        assert not materialised(instance, step.at(n=7))
    record = latest(instance, selected_clusters.at(n=7), "complete")
    assert record is not None
    assert record.status == FAILED


def test_a_warning_is_shown_and_logged_and_stops_nothing(
    copied: Study,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    models = aanet_models.at(n=7, k=3)

    def worse(model: TrainedAANet) -> TrainedAANet:
        return replace(model, heldout={**(model.heldout or {}), "explained_variance": -0.25})

    def two_worse(run: Run) -> Outcome:
        edit_stack(run.path(STACK), worse, 1, 4)
        return Outcome([run.path(STACK)])

    monkeypatch.setattr(aanet_models, "work", two_worse)
    job = build_defs(copied).resolve_job_def("small_stage1_grid")
    with caplog.at_level(logging.WARNING, "aanet"):
        result = job.execute_in_process(partition_key="3|7", instance=instance)
    assert result.success
    said = (
        "2 of 7 models have an explained variance below 0 on held-out rows, and so predict worse "
        "than the mean of the training rows (clusters 1, 4; at worst -0.25); none should"
    )
    logged = [record.getMessage() for record in caplog.records if record.name == "aanet"]
    assert logged == [f"{models}: check beats_the_mean failed: {said}"]
    record = latest(instance, models, "beats_the_mean")
    found = evaluation(record)
    assert record is not None
    assert record.status == FAILED
    assert (found.severity, found.blocking, found.partition, found.description) == (
        dg.AssetCheckSeverity.WARN, False, "3|7", said,
    )  # fmt: skip
    assert materialised(instance, models)
    assert Standing(copied).problem(models) is None
    assert materialised(instance, METRICS), "what comes after is made"


def test_a_step_without_partitions_is_refused_too(
    copied: Study, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = corpus.at()
    said = [
        Finding("complete", False, "0 documents, 4,500 expected"),
        Finding("letters", False, "1 word is no letter"),
    ]
    monkeypatch.setattr(corpus, "check", lambda run: said)
    with pytest.raises(Failure) as failure:
        Driver(copied, instance).materialise(whole)
    assert str(failure.value).startswith(
        "corpus: check complete failed: 0 documents, 4,500 expected; check letters failed: 1 word "
        "is no letter. The partition does not count"
    )
    assert evaluation(latest(instance, whole, "letters")).partition is None
    assert Standing(copied).problem(whole) == MISSING
