"""Damaged clusterings."""

from collections.abc import Callable

import numpy as np
import pytest

from aanet_assets.science.activations import sae
from aanet_assets.science.activations.by_latent import CodesByLatent
from aanet_assets.steps.clusters import CLUSTERING, clustering
from aanet_assets.study.settings import ClusteringSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, edit_arrays
from aanet_assets_tests.outputs import findings

PARTITION = clustering.at(n=7)
FROM_A_FILE = ClusteringSettings(method="labels", labels_file="labels.npy")


@pytest.fixture
def checked(study: Study):
    """Checks the clustering of 7 after a change, or with other settings."""

    def run(
        change: Callable[[dict[str, np.ndarray]], object] = lambda arrays: None,
        settings: ClusteringSettings = study.clustering,
    ) -> dict[str, str]:
        edit_arrays(CLUSTERING.under(study.paths.root, n=7), change)
        return complaints(study.model_copy(update={"clustering": settings}), PARTITION)

    return run


@pytest.fixture
def decoder(study: Study, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The decoder rows that the checks see, for tests to change."""
    rows = sae.decoder_rows(sae.load_sae(study.sae)).copy()
    monkeypatch.setattr(sae, "decoder_rows", lambda sae: rows)
    return rows


def labelled(latent: int, label: int):
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["labels"][latent] = label

    return change


def test_a_good_clustering_passes(checked) -> None:
    assert checked() == {}


@pytest.mark.parametrize("label", [7, -2])
def test_labels_that_are_no_clusters(checked, label: int) -> None:
    said = checked(labelled(3, label))
    assert said == {
        "labels": "1 of 32 latents have a label that is neither -1 nor 0 to 6; none may"
    }


def test_labels_of_another_sae(checked) -> None:
    def shorter(arrays: dict[str, np.ndarray]) -> None:
        arrays["labels"] = arrays["labels"][:-1]

    assert "shape (31,); the SAE has 32 latents" in checked(shorter)["labels"]


def test_labels_that_are_no_whole_numbers(checked) -> None:
    def halves(arrays: dict[str, np.ndarray]) -> None:
        arrays["labels"] = arrays["labels"] + 0.5

    assert "labels are float64" in checked(halves)["labels"]


def test_a_usable_latent_left_out(checked) -> None:
    failed = checked(labelled(4, -1))
    assert (
        "1 without a cluster fire and repeat no other (latents 4)" in failed["usable_latents_only"]
    )
    assert "sizes" in failed, "coordinates of a latent that is no longer a member"


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_a_latent_that_is_not_in_use_has_a_cluster(
    checked, study: Study, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    activity = np.where(np.arange(32) == 4, rate, 0.5)
    monkeypatch.setattr(CodesByLatent, "activity", activity)
    least = {"min_activity_rate": 0.02 if rate else 0.0}
    failed = checked(settings=study.clustering.model_copy(update=least))
    assert "1 latents of a cluster never fire or fire too rarely" in failed["usable_latents_only"]
    assert list(failed) == ["usable_latents_only"]


def test_a_repeated_latent_may_be_left_out(checked, decoder: np.ndarray) -> None:
    decoder[4] = -3 * decoder[3]
    assert list(checked(labelled(4, -1))) == ["sizes"]


def test_a_latent_without_a_decoder_row_may_be_left_out(checked, decoder: np.ndarray) -> None:
    decoder[4] = 0
    assert list(checked(labelled(4, -1))) == ["sizes"]


def test_labels_from_a_file_decide_themselves(checked) -> None:
    assert list(checked(labelled(4, -1), FROM_A_FILE)) == ["sizes"]


def test_a_cluster_without_a_basis(checked) -> None:
    failed = checked(lambda arrays: arrays.pop("5.columns"))
    assert failed["sizes"].startswith("6 of 7 clusters have a basis")
    assert "(clusters 5)" in failed["sizes"]


@pytest.mark.parametrize("value", [2.0, np.nan])
def test_a_basis_that_is_not_orthonormal(checked, value: float) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["2.columns"][0, 0] = value

    failed = checked(spoil)
    assert list(failed) == ["bases"]
    assert "1 of 7 clusters" in failed["bases"]
    assert "(clusters 2)" in failed["bases"]


def test_a_basis_as_skew_as_rounding_passes(checked) -> None:
    def tilt(arrays: dict[str, np.ndarray]) -> None:
        arrays["2.columns"] *= np.float32(1 + 2e-4)

    assert checked(tilt) == {}


def test_coordinates_that_are_not_finite(checked) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["2.coordinates"][0, 0] = np.inf

    assert list(checked(spoil)) == ["bases"]


def test_an_empty_cluster_only_warns(study: Study) -> None:
    def emptied(arrays: dict[str, np.ndarray]) -> None:
        arrays["labels"][arrays["labels"] == 6] = -1
        arrays["6.columns"] = arrays["6.columns"][:, :0]
        arrays["6.coordinates"] = arrays["6.coordinates"][:0, :0]

    edit_arrays(CLUSTERING.under(study.paths.root, n=7), emptied)
    study = study.model_copy(update={"clustering": FROM_A_FILE})
    (failed,) = (found for found in findings(study, PARTITION).values() if not found.passed)
    assert (failed.name, failed.blocking) == ("no_empty_cluster", False)
    assert failed.said == "1 of 7 clusters are empty (clusters 6); none should be"
