"""Simplices fit at their own k; disks, balls and single rays do not pass for what they are not."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from aanet_assets.science.selection.shapes import active_together, coactivity, interior, shapes_of
from aanet_assets.steps.evidence import cluster_shapes, replicates
from aanet_assets.study.settings import ControlSettings

KS = range(2, 9)
CONTROLS = ControlSettings()
LIMIT = CONTROLS.min_fit


def in_space(points: np.ndarray, rank: int, noise: float, seed: int) -> np.ndarray:
    """Points placed in a larger space, with noise along every axis."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((rank, points.shape[1])))[0]
    return points @ basis.T + noise * rng.standard_normal((len(points), rank))


def ball(d: int, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((n, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * rng.uniform(size=(n, 1)) ** (1 / d)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_simplex_fits_at_its_own_k(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.dirichlet(np.full(k, 0.4), 3_000) @ np.eye(k)
    shapes = shapes_of(in_space(points, 10, 0.02, seed), KS, seed, CONTROLS)
    best = max(shapes, key=lambda shape: shape.fit)
    assert best.k == k
    assert best.fit > LIMIT


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_no_simplex_fits_a_ball(d: int, seed: int) -> None:
    shapes = shapes_of(in_space(ball(d, 3_000, seed), 8, 0.02, seed), KS, seed, CONTROLS)
    assert max(shape.fit for shape in shapes) < LIMIT


HEXAGON = np.stack([np.cos(np.pi * np.arange(6) / 3), np.sin(np.pi * np.arange(6) / 3)], axis=1)


@pytest.mark.parametrize(
    "polytope",
    [
        lambda rng, a: rng.beta(a, a, (3_000, 2)),
        lambda rng, a: rng.beta(a, a, (3_000, 3)),
        lambda rng, a: np.c_[rng.dirichlet([a] * 3, 3_000), rng.beta(a, a, 3_000)],
        lambda rng, a: rng.dirichlet([a] * 6, 3_000) @ HEXAGON,
    ],
    ids=["square", "cube", "prism", "hexagon"],
)
@pytest.mark.parametrize("concentration", [0.1, 0.4])
def test_no_simplex_fits_a_polytope_with_more_vertices(polytope, concentration: float) -> None:
    points = polytope(np.random.default_rng(0), concentration)
    shapes = shapes_of(in_space(points, 8, 0.02, 0), KS, 0, CONTROLS)
    assert max(shape.fit for shape in shapes) < LIMIT


def test_what_explains_all_variance_is_pca() -> None:
    rows = in_space(np.random.default_rng(0).standard_normal((500, 3)), 6, 0.3, 0)
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    for shape in shapes_of(rows, KS, 0, CONTROLS):
        expected = values[: shape.k - 1].sum() / values.sum()
        assert shape.pca_explained == pytest.approx(expected)


def test_a_k_that_cannot_be_is_left_out() -> None:
    rng = np.random.default_rng(0)
    plane = rng.standard_normal((200, 2)) @ rng.standard_normal((2, 5))
    assert [shape.k for shape in shapes_of(plane, KS, 0, CONTROLS)] == [2, 3]
    assert shapes_of(np.ones((200, 5)), KS, 0, CONTROLS) == []
    assert shapes_of(np.zeros((0, 5)), KS, 0, CONTROLS) == []
    assert [shape.k for shape in shapes_of(rng.standard_normal((7, 6)), KS, 0, CONTROLS)] == [2, 3]


def test_the_middle_of_a_gaussian_is_as_full_as_that_of_a_gaussian() -> None:
    rng = np.random.default_rng(0)
    gaussian = rng.standard_normal((20_000, 3)) @ rng.standard_normal((3, 3))
    assert interior(gaussian) == pytest.approx(1, abs=0.1)
    shell = (
        gaussian / np.linalg.norm(gaussian @ np.linalg.pinv(np.cov(gaussian.T)), axis=1)[:, None]
    )
    assert interior(shell) < 0.5  # pyright: ignore[reportOptionalOperand]
    assert interior(np.ones((5, 3))) is None


def test_coactivity_is_the_effective_number_of_latents() -> None:
    ones, alone = np.ones(3), csr_matrix(np.diag([1.0, 2.0, 5.0]))
    assert coactivity(active_together(alone, ones)) == pytest.approx(1)
    assert coactivity(active_together(csr_matrix(np.full((4, 3), 2.0)), ones)) == pytest.approx(3)
    mixed = csr_matrix([[1.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    assert coactivity(active_together(mixed, ones)) == pytest.approx(1.5)
    # (2 + 1)^2 / (4 + 1) with the first decoder row twice as long.
    assert coactivity(active_together(mixed, np.array([2.0, 1, 1]))) == pytest.approx(
        (9 / 5 + 1) / 2
    )
    assert coactivity(active_together(csr_matrix((0, 3)), ones)) is None
    # A decoder row of zeros writes nothing, whatever its latent does.
    assert coactivity(active_together(alone, np.array([1.0, 1, 0]))) == pytest.approx(1)
    assert coactivity(active_together(alone, np.zeros(3))) is None


def test_what_decides_the_fit_are_settings() -> None:
    points = np.random.default_rng(0).dirichlet(np.full(3, 0.4), 3_000)
    usual = shapes_of(points, [3], 0, CONTROLS)[0].fit
    for name, value in {
        "near_share": 0.3, "shape_rows": 100, "hinge_weight": 5.0, "hinge_smoothing": 0.5,
    }.items():  # fmt: skip
        other = shapes_of(points, [3], 0, CONTROLS.model_copy(update={name: value}))[0].fit
        assert other != usual, name
        assert f"controls.{name}" in cluster_shapes.settings
    assert "controls.near_share" in replicates.settings
