"""The simplex around points: found where there is one, tight, and the same for turned points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from aanet_assets.science.aanet.enclosing import enclosing_simplex, extreme_points
from aanet_assets.study.settings import ControlSettings

CONTROLS = ControlSettings()
HINGE = (CONTROLS.hinge_weight, CONTROLS.hinge_smoothing)


def whitened(points: np.ndarray) -> np.ndarray:
    points = points - points.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(points.T, bias=True).reshape(2 * points.shape[1:]))
    return points @ axes / np.sqrt(values)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_barycentric_coordinates_of_a_sampled_simplex_come_back(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.full(k, 0.5), 3_000)
    vertices = rng.standard_normal((k, k - 1))
    found = enclosing_simplex(whitened(truth @ vertices), *HINGE)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    # Up to the order of the vertices, and to the corners that no point reaches.
    match = np.corrcoef(truth.T, found.T)[:k, k:]
    assert (match.max(axis=0) > 0.98).all()
    assert sorted(match.argmax(axis=0)) == list(range(k))
    assert found.min() > -0.1


def test_of_a_square_the_triangle_has_the_least_possible_area() -> None:
    rng = np.random.default_rng(0)
    square = whitened(rng.uniform(size=(4_000, 2)))
    # With so large a weight no point may stick out.
    inside = enclosing_simplex(square, 1e4, CONTROLS.hinge_smoothing)
    # A map from points to coordinates gives the triangle, and so its area.
    design = np.column_stack([square, np.ones(len(square))])
    q = np.linalg.lstsq(design, inside, rcond=None)[0].T
    corners = np.linalg.inv(q)[:2].T
    area, least = ConvexHull(corners).volume, 2 * ConvexHull(square).volume
    assert 0.9 * least < area < 1.05 * least


def test_turned_points_have_the_same_coordinates() -> None:
    rng = np.random.default_rng(1)
    points = whitened(rng.dirichlet([0.6, 0.6, 0.6], 1_000) @ rng.standard_normal((3, 2)))
    turn = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    here, there = (enclosing_simplex(own, *HINGE) for own in (points, points @ turn))
    order = [int(np.abs(there - column[:, None]).sum(axis=0).argmin()) for column in here.T]
    np.testing.assert_allclose(here, there[:, order], atol=0.02)


def test_points_in_fewer_dimensions_are_refused() -> None:
    flat = np.column_stack([np.arange(9.0), np.zeros(9)])
    with pytest.raises(ValueError, match="9 points do not span 2 dimensions"):
        enclosing_simplex(flat, *HINGE)


def test_extreme_points_are_the_corners_where_there_are_corners() -> None:
    rng = np.random.default_rng(0)
    inside = rng.dirichlet([1, 1, 1], 50) @ np.eye(3)
    rows = np.vstack([inside, np.eye(3)])
    assert sorted(extreme_points(rows, 3)) == [50, 51, 52]
