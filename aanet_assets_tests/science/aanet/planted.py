"""Clusters whose shape is known: rows on a simplex in a random subspace."""

from collections.abc import Sequence

import numpy as np

from aanet_assets.science.aanet.data import ClusterRows, Task, TrainedAANet
from aanet_assets.science.aanet.train import train_aanets
from aanet_assets.study.settings import AANetSettings


def random_basis(d_model: int, rank: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((d_model, rank)))[0].astype(np.float32)


def planted_cluster(
    cluster_id: int = 0,
    corners: int = 3,
    rank: int = 5,
    n_train: int = 400,
    n_heldout: int = 100,
    d_model: int = 48,
    n_extrema: int = 8,
    seed: int = 0,
) -> ClusterRows:
    """Rows spread evenly over a simplex; the corners themselves lead the extrema."""
    rng = np.random.default_rng(seed)
    vertices = 3 * rng.standard_normal((corners, rank))
    mixed = rng.dirichlet(np.ones(corners), n_train + n_heldout) @ vertices
    rows = (mixed + 0.05 * rng.standard_normal(mixed.shape)).astype(np.float32)
    extrema = np.concatenate([vertices.astype(np.float32), rows])[:n_extrema]
    return ClusterRows(
        cluster_id, random_basis(d_model, rank, rng), rows[:n_train], rows[n_train:], extrema
    )


def train_clusters(
    clusters: Sequence[ClusterRows], k: int, settings: AANetSettings, seeds: Sequence[int]
) -> list[TrainedAANet]:
    """One model per cluster and seed, all of one k."""
    tasks = [Task(rows, k, seed) for rows, seed in zip(clusters, seeds, strict=True)]
    return train_aanets(tasks, settings)


def losses_of(model: TrainedAANet) -> dict[str, float]:
    """The losses of a model that was trained."""
    assert model.losses is not None
    return model.losses


def heldout_of(model: TrainedAANet) -> dict[str, float]:
    """The numbers of a trained model on its held-out rows."""
    assert model.heldout is not None
    return model.heldout
