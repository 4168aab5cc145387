"""Null clusterings have the sizes and activities of the real one, and nothing else of it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aanet_assets.science.selection.nulls import STRATUM, matched_shuffle, shuffles_for


@given(st.integers(1, 200), st.integers(1, 12), st.integers(0, 5))
def test_sizes_stay_and_latents_without_a_cluster_stay_out(
    latents: int, n_clusters: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels, activity = rng.integers(-1, n_clusters, latents), rng.random(latents)
    shuffled = matched_shuffle(labels, activity, seed)
    assert sorted(shuffled) == sorted(labels)
    np.testing.assert_array_equal(shuffled < 0, labels < 0)
    np.testing.assert_array_equal(shuffled, matched_shuffle(labels, activity, seed))


def test_latents_change_places_with_latents_of_like_activity_alone() -> None:
    rng = np.random.default_rng(0)
    activity = np.sort(rng.lognormal(sigma=3, size=400))
    labels = np.arange(400)
    shuffled = matched_shuffle(labels, activity, 1)
    # With the activities in order, a latent's label is the place that it came from.
    assert np.abs(shuffled - labels).max() < 2 * STRATUM
    assert (shuffled != labels).mean() > 0.7


def test_a_real_cluster_is_scattered() -> None:
    labels = np.repeat(np.arange(40), 10)
    activity = np.random.default_rng(0).random(400)
    shuffled = matched_shuffle(labels, activity, 2)
    shares = [np.bincount(labels[shuffled == i], minlength=40).max() / 10 for i in range(40)]
    assert np.mean(shares) < 0.35


def test_there_are_as_many_nulls_as_asked_for_and_never_fewer_than_clusters() -> None:
    assert [shuffles_for(100, n) for n in (6, 7, 50, 100, 768)] == [17, 15, 2, 1, 1]
