"""The settings in deploy/: Dagster takes them, and as many runs go on as there are GPUs."""

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData

from aanet_assets_tests.conftest import PROJECT

DEPLOYED = sorted(PROJECT.glob("deploy/*/dagster.yaml"))


@pytest.fixture(params=DEPLOYED, ids=lambda path: path.parent.name)
def deployed(request: pytest.FixtureRequest) -> Path:
    return request.param


def settings_in(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def test_dagster_takes_the_settings(deployed: Path, monkeypatch: pytest.MonkeyPatch):
    launcher = settings_in(deployed)["run_launcher"]["module"].partition(".")[0]
    for package in (launcher, "dagster_postgres"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: it comes with an extra (docs/scale.md)")
    for name in re.findall(r"env: (\w+)", deployed.read_text()):
        monkeypatch.setenv(name, "5432")

    # What is said of Dagster itself is validated here, and what of its parts below.
    ref = InstanceRef.from_dir(str(deployed.parent))

    parts = [part for part in ref if isinstance(part, ConfigurableClassData)]
    assert ref.run_launcher_data in parts
    for part in parts:
        kind = getattr(importlib.import_module(part.module_name), part.class_name)
        given = yaml.safe_load(part.config_yaml)
        result = process_config(resolve_to_config_type(kind.config_type()), given)
        assert result.success, [error.message for error in result.errors or ()]


def test_runs_that_wait_are_not_failed_and_eight_gpus_get_eight_runs(deployed: Path):
    settings = settings_in(deployed)
    assert settings["run_monitoring"]["start_timeout_seconds"] >= 12 * 3600
    assert settings["run_monitoring"]["max_resume_run_attempts"] == 0
    assert settings["concurrency"]["runs"]["max_concurrent_runs"] >= 8
    assert settings["concurrency"]["pools"] == {"granularity": "run"}


def test_the_rest_is_as_on_one_machine(deployed: Path):
    here, there = settings_in(PROJECT / "dagster.yaml"), settings_in(deployed)
    assert there.keys() == {*here, "run_launcher"}
    for name in ("run_queue", "run_retries", "python_logs", "retention", "telemetry", "nux"):
        assert there[name] == here[name], name
