"""Each clustering finds what was planted, repeats itself and refuses what it cannot do."""

import logging

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from aanet_assets.science.clustering.cooccurrence import cooccurrence
from aanet_assets.science.clustering.decoder import unit_rows
from aanet_assets.science.clustering.k_subspaces import k_subspaces
from aanet_assets.science.clustering.methods import (
    NEIGHBOURS,
    check_memory,
    cluster_latents,
    effect_affinity,
)
from aanet_assets.science.clustering.ranks import decoder_rank
from aanet_assets.study.settings import ClusteringSettings


def everything(decoder: np.ndarray) -> np.ndarray:
    return np.ones(len(decoder), dtype=bool)


def planted_subspaces(
    ranks: list[int], per_subspace: int, d_model: int, noise: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows near random subspaces, shuffled, and the subspace of each.

    In its subspace a row has positive coordinates, as latents that share a direction have.
    """
    rng = np.random.default_rng(seed)
    rows, truth = [], []
    for label, rank in enumerate(ranks):
        basis = np.linalg.qr(rng.normal(size=(d_model, rank)))[0]
        rows.append((np.abs(rng.normal(size=(per_subspace, rank))) + 0.3) @ basis.T)
        truth += [label] * per_subspace
    stacked = np.concatenate(rows)
    order = rng.permutation(len(stacked))
    noisy = stacked + noise * rng.normal(size=stacked.shape)
    return noisy[order].astype(np.float32), np.array(truth)[order]


@pytest.mark.parametrize("ranks", [[1, 1, 1], [2, 2, 2, 2], [1, 2, 3], [3] * 6])
@pytest.mark.parametrize("method", ["k_subspaces", "spectral_decoder"])
def test_planted_subspaces_are_recovered(ranks: list[int], method: str) -> None:
    decoder, truth = planted_subspaces(ranks, 20, 60, 0.003, seed=len(ranks))
    settings = ClusteringSettings.model_validate({"method": method})
    labels = cluster_latents(decoder, everything(decoder), len(ranks), settings, None)
    assert adjusted_rand_score(truth, labels) == 1


def test_k_subspaces_stops_where_every_row_has_its_nearest_subspace() -> None:
    decoder, _ = planted_subspaces([2, 3, 4], 15, 12, 0.05, seed=8)
    rows = unit_rows(decoder)
    settings = ClusteringSettings(method="k_subspaces", max_rounds=100)
    labels = k_subspaces(rows, 3, settings)
    residuals = []
    for cluster in range(3):
        members = rows[labels == cluster]
        rank = decoder_rank(members, settings)
        vectors = np.linalg.svd(members.astype(np.float64))[2][:rank]
        residuals.append(np.linalg.norm(rows - rows @ vectors.T @ vectors, axis=1))
    np.testing.assert_array_equal(np.argmin(residuals, axis=0), labels)


def test_kmeans_recovers_planted_directions() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 60)
    decoder = (rng.normal(size=(5, 40))[truth] + 0.1 * rng.normal(size=(60, 40))) * rng.uniform(
        0.1, 9, (60, 1)
    )
    labels = cluster_latents(decoder, everything(decoder), 5, ClusteringSettings(), None)
    assert adjusted_rand_score(truth, labels) == 1


@pytest.mark.parametrize("kind", ["jaccard", "dice", "overlap", "phi", "mutual_information"])
def test_spectral_finds_planted_blocks_from_every_cooccurrence(kind: str) -> None:
    rng = np.random.default_rng(5)
    truth = rng.permutation(np.repeat(np.arange(4), 6))
    speaks = rng.integers(0, 4, 4000)
    fires = rng.uniform(size=(4000, 24)) < np.where(speaks[:, None] == truth, 0.4, 0.02)
    codes = csr_matrix(fires.astype(np.float32))
    affinity = cooccurrence([codes], 1e-6, kind)
    settings = ClusteringSettings(method="spectral_cooccurrence")
    decoder = rng.normal(size=(24, 8))
    labels = cluster_latents(decoder, everything(decoder), 4, settings, affinity)
    assert adjusted_rand_score(truth, labels) == 1


@pytest.mark.parametrize("method", ["kmeans", "k_subspaces", "spectral_decoder"])
@pytest.mark.parametrize("n_clusters", [1, 2, 11, 12])
def test_labels_are_complete_canonical_and_repeat(method: str, n_clusters: int) -> None:
    decoder = np.random.default_rng(7).normal(size=(15, 9)).astype(np.float32)
    usable = everything(decoder)
    usable[[0, 4, 14]] = False
    settings = ClusteringSettings.model_validate({"method": method})
    labels = cluster_latents(decoder, usable, n_clusters, settings, None)
    assert (labels[[0, 4, 14]] == -1).all()
    firsts = [int(np.flatnonzero(labels == c)[0]) for c in range(n_clusters)]
    assert firsts == sorted(firsts)
    assert set(labels[usable]) == set(range(n_clusters))
    again = cluster_latents(decoder, usable, n_clusters, settings, None)
    np.testing.assert_array_equal(labels, again)


def test_k_subspaces_fills_empty_clusters() -> None:
    # All rows on one line: every cluster but one would be empty.
    rows = unit_rows(np.outer(np.arange(1.0, 7), np.ones(4)))
    labels = k_subspaces(rows, 4, ClusteringSettings(method="k_subspaces"))
    assert set(labels) == {0, 1, 2, 3}


def test_more_clusters_than_dimensions() -> None:
    decoder = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    settings = ClusteringSettings(method="k_subspaces")
    labels = cluster_latents(decoder, everything(decoder), 8, settings, None)
    assert set(labels) == set(range(8))


def test_coinciding_latents_leave_the_last_clusters_empty(
    caplog: pytest.LogCaptureFixture,
) -> None:
    decoder = np.repeat(np.eye(2), 3, axis=0)
    with caplog.at_level(logging.WARNING, "aanet"), pytest.warns(UserWarning, match="distinct"):
        labels = cluster_latents(decoder, everything(decoder), 4, ClusteringSettings(), None)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert "kmeans found 2 clusters where 4 were asked for" in caplog.text


def test_what_cannot_be_clustered_is_refused() -> None:
    decoder = np.eye(4)
    usable = np.array([True, True, False, True])
    with pytest.raises(ValueError, match=r"n_clusters 4 is more than the 3 usable latents \(of 4"):
        cluster_latents(decoder, usable, 4, ClusteringSettings(), None)
    settings = ClusteringSettings(method="spectral_cooccurrence")
    with pytest.raises(ValueError, match="spectral_cooccurrence needs the latents' affinity"):
        cluster_latents(decoder, usable, 2, settings, None)


@pytest.mark.parametrize("kind", ["phi", "jaccard"])
def test_sparse_spectral_clustering_is_that_of_the_dense_affinity(kind: str) -> None:
    rng = np.random.default_rng(2)
    group = rng.integers(0, 6, 90)
    speaks = rng.integers(0, 6, 3000)
    fires = rng.uniform(size=(3000, 90)) < np.where(speaks[:, None] == group, 0.2, 0.005)
    affinity = cooccurrence([csr_matrix(fires.astype(np.float32))], 0.0, kind)
    assert affinity.pairs.nnz < 0.9 * 90**2, "some pairs never fire together"
    settings = ClusteringSettings(method="spectral_cooccurrence")
    decoder = np.eye(90)
    labels = cluster_latents(decoder, everything(decoder), 6, settings, affinity)
    dense = SpectralClustering(6, affinity="precomputed", random_state=0)
    assert adjusted_rand_score(dense.fit_predict(affinity.toarray()), labels) == 1


def test_many_rows_are_clustered_by_those_nearest_to_each() -> None:
    decoder, truth = planted_subspaces([2, 3, 3, 2, 4], 130, 60, 0.003, seed=1)
    assert len(decoder) > 2 * NEIGHBOURS
    settings = ClusteringSettings(method="spectral_decoder")
    labels = cluster_latents(decoder, everything(decoder), 5, settings, None)
    assert adjusted_rand_score(truth, labels) == 1


def test_a_method_that_may_not_fit_into_memory_is_refused() -> None:
    settings = ClusteringSettings(method="spectral_cooccurrence")
    check_memory(16_384, 768, settings, 8 * 10**9)
    check_memory(10**6, 10_000, ClusteringSettings(), 0)
    said = (
        r"spectral_cooccurrence may take 16,320 GB for 1,000,000 latents and n_clusters 10,000, "
        r"and this machine has 256 GB: take kmeans, raise"
    )
    with pytest.raises(ValueError, match=said):
        check_memory(10**6, 10_000, settings, 256 * 10**9)
    with pytest.raises(ValueError, match="spectral_decoder may take 328 GB"):
        check_memory(10**6, 10_000, ClusteringSettings(method="spectral_decoder"), 256 * 10**9)


def test_latents_are_grouped_by_what_they_do_to_predictions_and_not_by_their_angle() -> None:
    # A token says two things of four symbols each and one of three, all independent. Latents of the
    # first two move one of two pairs of symbols, up or down, which do not correlate.
    rng = np.random.default_rng(4)
    symbols = np.stack(np.unravel_index(np.arange(48), (4, 4, 3)))
    chances = [rng.dirichlet(np.full(n, 20.0)) for n in (4, 4, 3)]
    prediction = np.prod([p[own] for p, own in zip(chances, symbols, strict=True)], axis=0)
    pairs = np.array([[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1.0]])
    moves = [pairs, pairs, np.eye(3) - 1 / 3]
    truth = np.repeat([0, 1, 2], [4, 4, 3])
    effects = np.concatenate([each[:, own] for each, own in zip(moves, symbols, strict=True)])
    order = rng.permutation(11)
    affinity = effect_affinity(effects[order], prediction)
    apart = affinity.toarray()[truth[order][:, None] != truth[order]]
    assert apart.max() < 1e-12
    settings = ClusteringSettings(method="spectral_effect")
    decoder = rng.normal(size=(11, 64))
    labels = cluster_latents(decoder, everything(decoder), 3, settings, affinity)
    assert adjusted_rand_score(truth[order], labels) == 1
    assert affinity.toarray().max() <= 1 + 1e-6
