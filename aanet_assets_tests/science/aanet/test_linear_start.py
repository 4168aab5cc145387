"""The linear start: the affine map it should be, where there is one, and what is said where not."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aanet_assets.science.aanet.data import ClusterRows, Task
from aanet_assets.science.aanet.linear_start import (
    AffineMap,
    affine_map,
    linear_parameters,
    start_of,
)
from aanet_assets.science.aanet.reference import AANet, simplex_vertices
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.science.aanet.planted import heldout_of, planted_cluster, train_clusters

SETTINGS = AANetSettings(simplex_scale=1.3)


def found_of(cluster: ClusterRows, k: int) -> AffineMap:
    return affine_map(cluster.train, cluster.extrema[:k], k, SETTINGS)


def network_of(found: AffineMap, k: int, widths: tuple[int, int], seed: int) -> AANet:
    rank = len(found.back)
    generator = torch.Generator().manual_seed(seed)
    network = AANet(rank, k, widths, SETTINGS.simplex_scale).double()
    network.load_state_dict(linear_parameters(found, 64, k, widths, generator))
    return network


@pytest.mark.usefixtures("double")
@settings(deadline=None, max_examples=15)
@given(st.integers(2, 6), st.sampled_from([(64, 32), (21, 13), (10, 10)]), st.integers(0, 99))
def test_the_network_is_that_affine_map_wherever_its_input_lies(
    k: int, widths: tuple[int, int], seed: int
) -> None:
    found = found_of(planted_cluster(corners=4, rank=6, seed=seed), k)
    network = network_of(found, k, widths, seed)
    rows = torch.randn(50, 6, dtype=torch.float64) * 10
    points = rows @ torch.from_numpy(found.onto).T + torch.from_numpy(found.onto_offset)
    back = points @ torch.from_numpy(found.back).T + torch.from_numpy(found.back_offset)
    torch.testing.assert_close(network.embed(rows), points, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network(rows), back, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("corners", [2, 3, 4, 6])
def test_planted_vertices_are_the_start_in_the_order_of_the_extrema(corners: int) -> None:
    cluster = planted_cluster(corners=corners, rank=7, n_train=3_000, seed=corners)
    found = found_of(cluster, corners)
    vertices = simplex_vertices(corners, SETTINGS.simplex_scale) @ found.back.T + found.back_offset
    # The corners lead the extrema; the mixtures are uniform, so few rows are near a corner.
    edge = np.linalg.norm(cluster.extrema[0] - cluster.extrema[1])
    assert np.linalg.norm(vertices - cluster.extrema[:corners], axis=1).max() < 0.25 * edge


def test_where_rows_have_too_few_dimensions_they_fill_a_face() -> None:
    flat = planted_cluster(corners=3, rank=5, n_train=2_000)
    # Without noise three corners span two dimensions, and five archetypes four.
    mixed = np.random.default_rng(0).dirichlet(np.ones(3), 2_000) @ flat.extrema[:3]
    flat = dataclasses.replace(flat, train=mixed.astype(np.float32))
    found = found_of(flat, 5)
    network = network_of(found, 5, (64, 32), 0)
    coordinates = network.barycentric(torch.from_numpy(mixed)).detach().numpy()
    used = np.abs(coordinates).max(axis=0) > 0.01
    assert used.sum() == 3
    # The penalty of the way back shrinks by a hundredth or so.
    error = network(torch.from_numpy(mixed)).detach().numpy() - mixed
    assert np.square(error).sum() < 0.01 * np.square(mixed - mixed.mean(axis=0)).sum()


def on_a_point(rows: np.ndarray) -> np.ndarray:
    return np.repeat(rows[:1], len(rows), axis=0)


def with_one_giant(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows[:-1], 1e4 * rows[-1:]])


@pytest.mark.parametrize(
    ("change", "k", "said"),
    [
        (on_a_point, 3, "the rows do not vary"),
        (with_one_giant, 3, "one row holds 100% of the rows' variance"),
        (lambda rows: rows[:5], 3, "5 rows are too few for 3 vertices"),
        (lambda rows: rows, 18, "17 dimensions need 34 units in every layer"),
    ],
)
def test_where_there_is_no_such_map_training_starts_at_random_and_the_row_says_why(
    change, k: int, said: str
) -> None:
    cluster = planted_cluster(corners=4, rank=6)
    cluster = dataclasses.replace(cluster, train=change(cluster.train))
    quick = AANetSettings(max_steps=15, min_rows=2)
    model = train_clusters([cluster], k, quick, [1])[0]
    assert model.start == f"random: {said}"
    assert model.status == "ok"
    # It is what the setting gives, apart from the word.
    as_set = quick.model_copy(update={"start": "random"})
    expected = train_clusters([cluster], k, as_set, [1])[0]
    assert expected.start == "random: as set"
    for name, weight in model.weights.items():
        np.testing.assert_array_equal(weight, expected.weights[name])


def test_a_line_has_a_start_at_any_k() -> None:
    cluster = planted_cluster(corners=2, rank=4)
    line = np.linspace(0, 1, 400)[:, None] * np.ones((1, 4)) + 1
    cluster = dataclasses.replace(cluster, train=line.astype(np.float32))
    for k in (2, 3, 8):
        assert isinstance(start_of(Task(cluster, k, 0), SETTINGS), AffineMap)


def test_a_simplex_that_is_not_found_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aanet_assets.science.aanet.enclosing.MAX_ITERATIONS", 1)
    said = start_of(Task(planted_cluster(corners=4), 4, 0), SETTINGS)
    assert said == "the smallest simplex around the rows was not found"


def test_training_from_it_is_no_worse_than_from_a_random_one() -> None:
    clusters = [planted_cluster(i, 3 + i, 8, 1_500, 300, seed=i) for i in range(3)]
    for k, cluster in enumerate(clusters, start=3):
        linear, random = (
            train_clusters([cluster], k, AANetSettings(start=start), [1])[0]
            for start in ("linear", "random")
        )
        assert heldout_of(linear)["recon_loss"] < 1.2 * heldout_of(random)["recon_loss"]
        # Outside by less than 3% of the simplex.
        assert heldout_of(linear)["archetypal_loss"] < 0.03**2
