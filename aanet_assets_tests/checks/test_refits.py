"""Damaged models of selected clusters."""

import json
import shutil

import pytest
import torch

from aanet_assets.steps.checks.refits import check_refits
from aanet_assets.storage.files import write_json
from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.checks.damage import failures

FIRST, SECOND = "cluster_0_k3_categoryM", "cluster_3_k2_categoryM"


def checked(paths: StudyPaths) -> dict[str, str]:
    return failures(check_refits(paths, 7))


def describe(paths: StudyPaths, **changes: str) -> None:
    path = paths.root / "selected_clusters" / "n7" / f"{FIRST}_metadata.json"
    write_json(path, json.loads(path.read_text()) | changes)


def test_good_models_pass(paths: StudyPaths) -> None:
    assert checked(paths) == {}
    assert failures(check_refits(paths, 6)) == {}


def test_metadata_are_missing(paths: StudyPaths) -> None:
    (paths.root / "selected_clusters" / "n7" / f"{FIRST}_metadata.json").unlink()
    assert f"cluster 0: {FIRST}_metadata.json is not there" in checked(paths)["models"]


def test_a_model_is_missing_without_a_reason(paths: StudyPaths) -> None:
    (paths.root / "selected_clusters" / "n7" / f"{FIRST}.pt").unlink()
    failed = checked(paths)
    assert "there is no AANet at" in failed["models"]
    assert failed["models"].startswith("1 of 2 selected clusters have a model")


def test_a_model_that_failed_with_a_reason_only_warns(paths: StudyPaths) -> None:
    (paths.root / "selected_clusters" / "n7" / f"{FIRST}.pt").unlink()
    describe(paths, status="failed", reason="the loss was not finite")
    (failed,) = (finding for finding in check_refits(paths, 7) if not finding.passed)
    assert (failed.name, failed.blocking) == ("all_trained", False)
    assert failed.said.startswith("1 of 2 selected clusters have no model (clusters 0; ")


def test_a_model_that_failed_without_a_reason(paths: StudyPaths) -> None:
    (paths.root / "selected_clusters" / "n7" / f"{FIRST}.pt").unlink()
    describe(paths, status="failed")
    assert "cluster 0: status failed without a reason" in checked(paths)["models"]


def test_a_model_left_from_before_it_failed(paths: StudyPaths) -> None:
    describe(paths, status="failed", reason="the loss was not finite")
    assert "cluster 0: status failed, and yet a model" in checked(paths)["models"]


def test_a_model_that_cannot_be_loaded(paths: StudyPaths) -> None:
    (paths.root / "selected_clusters" / "n7" / f"{FIRST}.pt").write_bytes(b"nothing")
    assert "is not an AANet's state dict" in checked(paths)["models"]


def test_a_model_of_another_k(paths: StudyPaths) -> None:
    folder = paths.root / "selected_clusters" / "n7"
    shutil.copy(folder / f"{SECOND}.pt", folder / f"{FIRST}.pt")
    assert "cluster 0: the model has 2 vertices, k is 3" in checked(paths)["models"]


def test_weights_that_are_not_finite(paths: StudyPaths) -> None:
    path = paths.root / "selected_clusters" / "n7" / f"{FIRST}.pt"
    state = torch.load(path, weights_only=True)
    state["decoder_layers.2.weight"][0, 0] = torch.nan
    torch.save(state, path)
    assert "cluster 0: the model's weights are not finite" in checked(paths)["models"]


@pytest.mark.parametrize("stray", ["cluster_5_k3_categoryA.pt", "cluster_0_k2_categoryM.pt"])
def test_a_model_of_no_selected_cluster(paths: StudyPaths, stray: str) -> None:
    folder = paths.root / "selected_clusters" / "n7"
    shutil.copy(folder / f"{SECOND}.pt", folder / stray)
    assert f"1 models belong to no selected cluster ({stray})" in checked(paths)["models"]
