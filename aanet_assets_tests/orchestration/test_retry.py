"""Runs that Dagster starts anew because their process, or its database, was lost on the way."""

import dagster as dg
import pytest

from aanet_assets.orchestration.driver import failure_of
from aanet_assets.orchestration.materialise import build_asset
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.records import read_record, record_path
from aanet_assets_tests.small import small_study

STUDY = small_study()
RETRY = {"dagster/retry_number": "1"}


def make(instance: dg.DagsterInstance, **tags: str) -> dg.ExecuteInProcessResult:
    asset = build_asset(STUDY, corpus)
    return dg.materialize([asset], instance=instance, tags=tags, raise_on_error=False)


def test_a_retry_makes_nothing_anew_that_came_to_its_end(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads it may be at work by then, and would find it missing."""
    work = corpus.work
    assert make(instance, **RETRY).success
    record = record_path(STUDY, corpus.at())
    before = record.read_bytes()

    def no_work(_: object) -> None:
        raise RuntimeError("made anew")

    monkeypatch.setattr(corpus, "work", no_work)
    result = make(instance, **RETRY)
    assert result.success
    assert record.read_bytes() == before
    (event,) = result.get_asset_materialization_events()
    tags = event.materialization.tags or {}
    stored = read_record(STUDY, corpus.at())
    assert stored is not None
    assert tags["dagster/data_version"] == stored.content
    told = {evaluation.check_name for evaluation in result.get_asset_check_evaluations()}
    assert told == {*corpus.blocking, *corpus.warning}
    # Whoever asks for it gets it made, and a retry makes what is not there.
    result = make(instance)
    assert "made anew" in str(failure_of(corpus.at(), result.run_id, result.all_events))
    assert "made anew" in str(
        failure_of(corpus.at(), result.run_id, make(instance, **RETRY).all_events)
    )
    monkeypatch.setattr(corpus, "work", work)
    assert make(instance, **RETRY).success
    assert record.read_bytes() == before
