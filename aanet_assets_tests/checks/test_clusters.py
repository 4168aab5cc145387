"""Damaged clusterings."""

from collections.abc import Callable

import numpy as np
import pytest

from aanet_assets.activations.sae import decoder_rows, load_sae
from aanet_assets.steps.activations import SHARD
from aanet_assets.steps.checks.clusters import activity_rates, check_clustering
from aanet_assets.steps.clusters import CLUSTERING
from aanet_assets.study.layout import StudyPaths
from aanet_assets.study.settings import ClusteringSettings
from aanet_assets_tests.checks.damage import edit_arrays, failures
from aanet_assets_tests.conftest import Finished

SETTINGS = ClusteringSettings(method="spectral_cooccurrence")


@pytest.fixture
def checked(paths: StudyPaths, finished: Finished):
    """Checks the clustering of 7 after a change, with the decoder and activity of the SAE."""
    decoder = decoder_rows(load_sae(finished.study.sae)).copy()
    activity = activity_rates(
        SHARD.under(paths.root, shard=s) for s in finished.study.training_shards
    )

    def run(
        change: Callable[[dict[str, np.ndarray]], object] = lambda arrays: None,
        settings: ClusteringSettings = SETTINGS,
    ) -> dict[str, str]:
        edit_arrays(CLUSTERING.under(paths.root, n=7), change)
        return failures(
            check_clustering(CLUSTERING.under(paths.root, n=7), 7, decoder, activity, settings)
        )

    run.decoder, run.activity = decoder, activity
    return run


def labelled(latent: int, label: int):
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["labels"][latent] = label

    return change


def test_a_good_clustering_passes(checked) -> None:
    assert checked() == {}


def test_activity_is_the_share_of_counted_tokens(checked, finished: Finished) -> None:
    from aanet_assets.activations.shards import counted_codes

    codes = counted_codes(
        SHARD.under(finished.study.paths.root, shard=s) for s in finished.study.training_shards
    )
    np.testing.assert_array_equal(checked.activity, (codes.toarray() > 0).mean(axis=0))


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
def test_a_latent_that_is_not_in_use_has_a_cluster(checked, rate: float) -> None:
    checked.activity[4] = rate
    settings = SETTINGS.model_copy(update={"min_activity_rate": 0.02 if rate else 0.0})
    checked.activity[np.arange(32) != 4] = 0.5
    failed = checked(settings=settings)
    assert "1 latents of a cluster never fire or fire too rarely" in failed["usable_latents_only"]
    assert list(failed) == ["usable_latents_only"]


def test_a_repeated_latent_may_be_left_out(checked) -> None:
    checked.decoder[4] = -3 * checked.decoder[3]
    assert list(checked(labelled(4, -1))) == ["sizes"]


def test_a_latent_without_a_decoder_row_may_be_left_out(checked) -> None:
    checked.decoder[4] = 0
    assert list(checked(labelled(4, -1))) == ["sizes"]


def test_labels_from_a_file_decide_themselves(checked) -> None:
    settings = ClusteringSettings(method="labels", labels_file="labels.npy")
    assert list(checked(labelled(4, -1), settings)) == ["sizes"]


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


def test_an_empty_cluster_only_warns(paths: StudyPaths, checked) -> None:
    def emptied(arrays: dict[str, np.ndarray]) -> None:
        arrays["labels"][arrays["labels"] == 6] = -1
        arrays["6.columns"] = arrays["6.columns"][:, :0]
        arrays["6.coordinates"] = arrays["6.coordinates"][:0, :0]

    edit_arrays(CLUSTERING.under(paths.root, n=7), emptied)
    settings = ClusteringSettings(method="labels", labels_file="labels.npy")
    findings = check_clustering(
        CLUSTERING.under(paths.root, n=7), 7, checked.decoder, checked.activity, settings
    )
    (failed,) = (finding for finding in findings if not finding.passed)
    assert (failed.name, failed.blocking) == ("no_empty_cluster", False)
    assert failed.said == "1 of 7 clusters are empty (clusters 6); none should be"
