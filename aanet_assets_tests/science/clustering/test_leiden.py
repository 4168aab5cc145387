"""The backbone against its definition, pair by pair; communities against planted groups."""

import math
from typing import Literal

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import beta
from sklearn.metrics import adjusted_rand_score

from aanet_assets.science.clustering import cooccurrence
from aanet_assets.science.clustering.leiden import DEVIATIONS, backbone
from aanet_assets.science.clustering.methods import cluster_latents
from aanet_assets.study.settings import ClusteringSettings


def planted(speaking: int, seed: int) -> tuple[csr_matrix, np.ndarray]:
    """Codes of 24 latents in 4 groups, `speaking` of which are drawn at each of 3,000 tokens.

    Of a single group that speaks half of the latents fire; of several, one latent each.
    """
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(4), 6))
    fires = np.zeros((3_000, 24), dtype=np.float32)
    for token in fires:
        for group in rng.permutation(4)[:speaking]:
            members = np.flatnonzero(truth == group)
            token[rng.choice(members, 3 if speaking == 1 else 1, replace=False)] = 1
    fires[rng.uniform(size=fires.shape) < 0.02] = 1
    return csr_matrix(fires), truth


def clustered(codes: csr_matrix, n_clusters: int, pairs: str) -> np.ndarray:
    settings = ClusteringSettings.model_validate({"method": "leiden", "backbone": pairs})
    affinity = backbone([codes], 1e-6, settings.backbone)
    everything = np.ones(codes.shape[1], dtype=bool)
    return cluster_latents(np.eye(codes.shape[1]), everything, n_clusters, settings, affinity)


@pytest.mark.parametrize(("speaking", "pairs"), [(1, "together"), (4, "apart")])
def test_planted_groups_are_found_and_found_again(speaking: int, pairs: str) -> None:
    codes, truth = planted(speaking, seed=speaking)
    labels = clustered(codes, 4, pairs)
    assert adjusted_rand_score(truth, labels) == 1
    np.testing.assert_array_equal(labels, clustered(codes, 4, pairs))


def test_a_number_of_communities_that_there_is_not_is_refused() -> None:
    # Two pairs that are never active together: no resolution makes three of them.
    codes = csr_matrix(np.repeat([[1, 1, 0, 0], [0, 0, 1, 1]], 200, axis=0).astype(np.float32))
    with pytest.raises(ValueError, match="3 communities of latents, only such as give 2 and 4"):
        clustered(codes, 3, "together")
    with pytest.raises(ValueError, match="1 communities of latents, only such as give 2:"):
        clustered(codes, 1, "together")


def test_only_numbers_of_communities_that_were_found_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = csr_matrix(np.repeat([[1, 1, 0, 0], [0, 0, 1, 1]], 200, axis=0).astype(np.float32))
    # A search that ends before it has seen a resolution too high.
    monkeypatch.setattr("aanet_assets.science.clustering.leiden.HALVINGS", 3)
    with pytest.raises(ValueError, match="only such as give 2: take"):
        clustered(codes, 3, "together")


@pytest.mark.parametrize("pairs", ["together", "apart"])
def test_the_backbone_is_its_definition(
    pairs: Literal["together", "apart"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooccurrence, "BLOCK_PAIRS", 40)
    rng = np.random.default_rng(3)
    codes = (rng.uniform(size=(400, 12)) < rng.uniform(0.02, 0.4, 12)).astype(np.float32)
    codes[:, 1] = codes[:, 0]
    codes[:, 3] = (1 - codes[:, 2]) * (rng.uniform(size=400) < 0.5)
    codes[:, 11] = 0  # never fires
    found = backbone([csr_matrix(codes[:150]), csr_matrix(codes[150:])], 0.5, pairs).toarray()
    edges = codes.T @ codes
    np.fill_diagonal(edges, 0)
    total, sums = edges.sum(), edges.sum(axis=1)
    kept = 0
    for i in range(12):
        for j in range(12):
            expected = 0.0
            if i != j and sums[i] and sums[j]:
                score, deviation = slow_score(edges[i, j], sums[i], sums[j], total)
                side = score if pairs == "together" else -score
                expected = side if side > DEVIATIONS * deviation else 0.0
                kept += expected > 0
            assert found[i, j] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert 0 < kept < 100


def slow_score(edge: float, i: float, j: float, total: float) -> tuple[float, float]:
    """Score of one edge and its standard deviation, the slope taken by a finite difference."""

    def score(more: float) -> float:
        # One more token with both active is one more edge in each of the sums.
        ratio = (edge + more) * (total + more) / ((i + more) * (j + more))
        return (ratio - 1) / (ratio + 1)

    mean = i * j / total**2
    variance = i * j * (total - i) * (total - j) / (total**4 * (total - 1))
    a = mean**2 * (1 - mean) / variance - mean
    b = mean * (1 - mean) ** 2 / variance - (1 - mean)
    assert beta(a, b).mean() == pytest.approx(mean)
    assert beta(a, b).var() == pytest.approx(variance)
    p = beta(a + edge, b + total - edge).mean()
    slope = abs(score(1e-4) - score(-1e-4)) / 2e-4
    return score(0), slope * math.sqrt(total * p * (1 - p))
