"""Runs that were asked for by other code than that of the machine that works on them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from aanet_assets.orchestration import same_code, submit
from aanet_assets.orchestration.driver import failure_of, plan
from aanet_assets.orchestration.materialise import build_asset
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.orchestration.same_code import CODE_TAG, code
from aanet_assets.orchestration.submit import Submission
from aanet_assets.steps.selection import selected_clusters
from aanet_assets.storage.records import record_path
from aanet_assets_tests.conftest import PROJECT
from aanet_assets_tests.orchestration.ticking import STUDY, inputs, metrics

PARTITION = selected_clusters.at(n=7)
OTHER = "0.0.9 (source 00000000)"


def job() -> dg.JobDefinition:
    """The assets, as a machine with the code of now loads them."""
    assets = [build_asset(STUDY, step) for step in steps_of(STUDY)]
    defs = dg.Definitions(assets=assets, executor=dg.in_process_executor)
    key = dg.AssetKey(PARTITION.step.asset_key(STUDY))
    return defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={key})


def ask(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    assert PARTITION.key is not None
    asked = job()
    return instance.create_run_for_job(
        asked,
        asset_selection=asked.asset_selection,
        tags={"dagster/partition": PARTITION.key, **tags},
    )


def work(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What a run fails with; as the command of a run worker does it."""
    result = execute_run(InMemoryJob(job()), run, instance, raise_on_error=False)
    return str(failure_of(PARTITION, run.run_id, result.all_events))


def pretend_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (same_code, submit, sys.modules[build_asset.__module__]):
        monkeypatch.setattr(module, "code", lambda: OTHER)


@pytest.fixture(autouse=True)
def made_before(instance: dg.DagsterInstance) -> Path:
    """A record, which work would take away first."""
    inputs()
    metrics(7, "a")
    record = record_path(STUDY, PARTITION)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("{}")
    return record


def test_a_machine_with_other_code_refuses_before_it_works(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, made_before: Path
) -> None:
    run = ask(instance)
    own = code()
    with monkeypatch.context() as patch:
        pretend_other_code(patch)
        said = work(instance, run)
    assert said.startswith(f"{PARTITION}: asked for by aanet-assets {own}, but ")
    assert f" has {OTHER}: nothing was made. Install the same on all machines" in said
    assert made_before.exists()
    # The same code goes on, and finds that something else is not there.
    assert "needs consolidated_metrics" in work(instance, ask(instance))


def test_whoever_submits_must_have_the_code_of_the_runs(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, made_before: Path
) -> None:
    with monkeypatch.context() as patch:
        pretend_other_code(patch)
        (backfill,) = next(Submission(STUDY, instance, plan(STUDY)).watch()).backfills
    assert f"asked for by aanet-assets {OTHER}, but " in work(
        instance, ask(instance, **{CODE_TAG: backfill.tags[CODE_TAG]})
    )
    assert made_before.exists()


def test_code_is_the_version_and_the_source(tmp_path: Path) -> None:
    copy = tmp_path / "aanet_assets"
    shutil.copytree(PROJECT / "aanet_assets", copy, ignore=shutil.ignore_patterns("__pycache__"))

    def found() -> str:
        command = "from aanet_assets.orchestration.same_code import code; print(code())"
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", command], env=environment, capture_output=True, check=True,
            text=True, cwd=tmp_path,
        )  # fmt: skip
        return done.stdout.strip()

    assert re.fullmatch(r"\S+ \(source [0-9a-f]{8}\)", code())
    # What an interpreter leaves there does not count.
    assert found() == code()
    with (copy / "science/aanet/train.py").open("a") as file:
        file.write("# edited\n")
    assert found() != code()
