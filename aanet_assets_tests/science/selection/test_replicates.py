"""Replicates differ by their seeds alone, and vertices are matched before they are compared."""

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.science.aanet.evaluation import subspace_network
from aanet_assets.science.aanet.train import train_aanets
from aanet_assets.science.selection.replicates import (
    archetypes_of,
    heldout_occupancy,
    replicate_rows,
    tasks_of,
    vertex_shift,
)
from aanet_assets.study.settings import AANetSettings, ControlSettings
from aanet_assets_tests.science.aanet.planted import heldout_of, losses_of

SETTINGS = AANetSettings(max_steps=300, batch_size=128)
SHARE = ControlSettings().near_share


@pytest.fixture(scope="module")
def rows() -> ClusterRows:
    rng = np.random.default_rng(0)
    points = 3 * rng.dirichlet([0.4, 0.4, 0.4], 600) @ rng.standard_normal((3, 4))
    points = points.astype(np.float32)
    basis = np.linalg.qr(rng.standard_normal((10, 4)))[0].astype(np.float32)
    return ClusterRows(5, basis, points[:500], points[500:], points[:3])


def test_every_replicate_has_a_seed_of_its_own_whatever_else_is_trained(rows: ClusterRows) -> None:
    one = tasks_of([rows], 3, range(1, 4), 43, "study", 7)
    more = tasks_of([rows, rows], 3, range(5), 43, "study", 7, "null")
    assert len({task.seed for task in (*one, *more[:5])}) == 8
    assert tasks_of([rows], 3, [2], 43, "study", 7)[0].seed == one[1].seed


def test_archetypes_are_what_the_network_makes_of_the_corners(rows: ClusterRows) -> None:
    (model,) = train_aanets(tasks_of([rows], 3, [1], 43, "study"), SETTINGS)
    found = archetypes_of(model, SETTINGS)
    network = subspace_network(model.weights, 3, SETTINGS)
    assert found is not None
    coordinates = network.barycentric(torch.from_numpy(found).float()).detach().numpy()
    # Encoding is not exactly the inverse of decoding; near the corners it comes close.
    assert coordinates.argmax(axis=1).tolist() == [0, 1, 2]
    occupancy = heldout_occupancy(model, rows.heldout, SETTINGS, SHARE)
    assert occupancy is not None
    assert 0.5 < occupancy <= 1
    assert heldout_occupancy(model, rows.heldout[:0], SETTINGS, SHARE) is None


def test_the_rows_of_replicates_compare_each_with_the_first(rows: ClusterRows) -> None:
    models = train_aanets(tasks_of([rows], 3, range(2), 43, "study"), SETTINGS)
    few = ClusterRows(5, rows.basis, rows.train[:2], rows.heldout[:2], rows.extrema)
    models += train_aanets(tasks_of([few], 3, [2], 43, "study"), SETTINGS)
    first, second, failed = replicate_rows(rows, True, models, SETTINGS, SHARE)
    assert [(row["cluster_id"], row["null_cluster"], row["k"], row["replicate"])
            for row in (first, second, failed)] == [(5, True, 3, i) for i in range(3)]  # fmt: skip
    one, other = (archetypes_of(model, SETTINGS) for model in models[:2])
    assert one is not None
    assert other is not None
    assert second["vertex_shift"] == vertex_shift(one, other, rows.train) > 0
    assert first["vertex_shift"] is None
    assert first["aanet_recon_loss"] == losses_of(models[0])["recon_loss"]
    assert second["heldout_explained_variance"] == heldout_of(models[1])["explained_variance"]
    assert failed["aanet_status"] == "insufficient_samples"
    measured = ("aanet_recon_loss", "heldout_in_simplex", "heldout_occupancy", "vertex_shift")
    assert {failed[name] for name in measured} == {None}


def test_vertices_in_another_order_have_not_moved() -> None:
    rng = np.random.default_rng(0)
    vertices, cloud = rng.standard_normal((4, 6)), rng.standard_normal((500, 6))
    assert vertex_shift(vertices, vertices[[2, 0, 3, 1]], cloud) == 0
    moved = vertices.copy()
    moved[0, 0] += 0.4
    spread = np.sqrt(np.square(cloud - cloud.mean(axis=0)).sum(axis=1).mean())
    assert vertex_shift(vertices, moved[::-1], cloud) == pytest.approx(0.1 / spread)
