"""Damaged models of selected clusters."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from aanet_assets.steps.vertices import refit_models
from aanet_assets.storage.files import write_json
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints
from aanet_assets_tests.outputs import findings

PARTITION = refit_models.at(n=7)
FIRST, SECOND = "cluster_0_k3_categoryM", "cluster_3_k2_categoryM"


@pytest.fixture
def folder(study: Study) -> Path:
    return study.paths.root / "selected_clusters" / "n7"


def checked(study: Study) -> dict[str, str]:
    return complaints(study, PARTITION)


def describe(folder: Path, **changes: str) -> None:
    path = folder / f"{FIRST}_metadata.json"
    write_json(path, json.loads(path.read_text()) | changes)


def test_good_models_pass(study: Study) -> None:
    assert checked(study) == {}
    assert complaints(study, refit_models.at(n=6)) == {}


def test_metadata_are_missing(study: Study, folder: Path) -> None:
    (folder / f"{FIRST}_metadata.json").unlink()
    assert f"cluster 0: {FIRST}_metadata.json is not there" in checked(study)["models"]


def test_a_model_is_missing_without_a_reason(study: Study, folder: Path) -> None:
    (folder / f"{FIRST}.pt").unlink()
    failed = checked(study)
    assert "there is no AANet at" in failed["models"]
    assert failed["models"].startswith("1 of 2 selected clusters have a model")


def test_a_model_that_failed_with_a_reason_only_warns(study: Study, folder: Path) -> None:
    (folder / f"{FIRST}.pt").unlink()
    describe(folder, status="failed", reason="the loss was not finite")
    (failed,) = (finding for finding in findings(study, PARTITION).values() if not finding.passed)
    assert (failed.name, failed.blocking) == ("all_trained", False)
    assert failed.said.startswith("1 of 2 selected clusters have no model (clusters 0; ")


def test_a_model_that_failed_without_a_reason(study: Study, folder: Path) -> None:
    (folder / f"{FIRST}.pt").unlink()
    describe(folder, status="failed")
    assert "cluster 0: status failed without a reason" in checked(study)["models"]


def test_a_model_left_from_before_it_failed(study: Study, folder: Path) -> None:
    describe(folder, status="failed", reason="the loss was not finite")
    assert "cluster 0: status failed, and yet a model" in checked(study)["models"]


def test_a_model_that_cannot_be_loaded(study: Study, folder: Path) -> None:
    (folder / f"{FIRST}.pt").write_bytes(b"nothing")
    assert "is not an AANet's state dict" in checked(study)["models"]


def test_a_model_of_another_k(study: Study, folder: Path) -> None:
    shutil.copy(folder / f"{SECOND}.pt", folder / f"{FIRST}.pt")
    assert "cluster 0: the model has 2 vertices, k is 3" in checked(study)["models"]


def test_weights_that_are_not_finite(study: Study, folder: Path) -> None:
    path = folder / f"{FIRST}.pt"
    state = torch.load(path, weights_only=True)
    state["decoder_layers.2.weight"][0, 0] = torch.nan
    torch.save(state, path)
    assert "cluster 0: the model's weights are not finite" in checked(study)["models"]


@pytest.mark.parametrize("stray", ["cluster_5_k3_categoryA.pt", "cluster_0_k2_categoryM.pt"])
def test_a_model_of_no_selected_cluster(study: Study, folder: Path, stray: str) -> None:
    shutil.copy(folder / f"{SECOND}.pt", folder / stray)
    assert f"1 models belong to no selected cluster ({stray})" in checked(study)["models"]
