"""Simplex and barycentric coordinates against a least-squares solve of their definition."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aanet_assets.science.aanet.reference import barycentric, simplex_vertices


@given(k=st.integers(2, 8), scale=st.floats(0.1, 10))
def test_simplex_is_regular_and_centred(k, scale):
    vertices = simplex_vertices(k, scale)
    assert vertices.shape == (k, k - 1)
    np.testing.assert_allclose(vertices.mean(axis=0), 0, atol=1e-12)
    edges = [np.linalg.norm(a - b) for i, a in enumerate(vertices) for b in vertices[:i]]
    np.testing.assert_allclose(edges, scale * np.sqrt(2), rtol=1e-12)


@given(k=st.integers(2, 8), scale=st.floats(0.1, 10), seed=st.integers(0, 2**32 - 1))
def test_barycentric_solves_the_defining_equations(k, scale, seed):
    vertices = simplex_vertices(k, scale)
    points = np.random.default_rng(seed).standard_normal((7, k - 1)) * 3
    b = barycentric(torch.from_numpy(points), torch.from_numpy(vertices)).numpy()
    np.testing.assert_allclose(b.sum(axis=1), 1, atol=1e-10)
    np.testing.assert_allclose(b @ vertices, points, atol=1e-9)
    system = np.vstack([vertices.T, np.ones(k)])
    for point, coordinates in zip(points, b, strict=True):
        slow = np.linalg.lstsq(system, np.append(point, 1.0), rcond=None)[0]
        np.testing.assert_allclose(coordinates, slow, atol=1e-9)


def test_barycentric_of_any_simplex_not_only_symmetric_ones():
    vertices = torch.tensor([[0.0, 0.0], [4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    weights = torch.tensor([[0.2, 0.5, 0.3], [1.2, -0.4, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(barycentric(weights @ vertices, vertices), weights)


def test_vertices_have_unit_coordinates_in_float32():
    vertices = torch.from_numpy(simplex_vertices(8)).float()
    torch.testing.assert_close(barycentric(vertices, vertices), torch.eye(8), atol=1e-5, rtol=0)


def test_one_vertex_is_refused():
    with pytest.raises(ValueError, match="k must be 2 or more"):
        simplex_vertices(1)
