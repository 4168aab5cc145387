"""Extrema against dense matrices, on planted simplices, and on samples that are awkward."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from aanet_assets.science.aanet.extrema import DENSE_ROWS, N_EXTREMA, laplacian_extrema
from aanet_assets.study.settings import ExtremaSettings


def slow_extrema(rows: np.ndarray, n_extrema: int, knn: int) -> list[int]:
    """The definition, by dense matrices: connected kNN graph, D - W, eigh, argmax."""
    n = len(rows)
    distances = cdist(rows, rows)
    np.fill_diagonal(distances, np.inf)
    near = np.zeros((n, n))
    for i in range(n):
        near[i, np.argsort(distances[i])[:knn]] = 1
    weights = (near + near.T) / 2
    reached = {0}
    while len(reached) < n:
        grown = reached | {j for i in reached for j in np.flatnonzero(weights[i]).tolist()}
        if grown == reached:  # a component of its own: join it to the rest by the closest pair
            apart = [j for j in range(n) if j not in reached]
            i, j = min(itertools.product(reached, apart), key=lambda pair: distances[pair])
            weights[i, j] = weights[j, i] = 1
        reached = grown
    laplacian = np.diag(weights.sum(axis=1)) - weights
    found = [int(np.abs(np.linalg.eigh(laplacian)[1][:, 1]).argmax())]
    while len(found) < n_extrema:
        rest = np.array([i for i in range(n) if i not in found])
        lowest = np.linalg.eigh(laplacian[rest][:, rest])[1][:, 0]
        found.append(int(rest[np.abs(lowest).argmax()]))
    return found


@pytest.mark.parametrize("n", [60, DENSE_ROWS + 1, 400])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_dense_definition(n, seed):
    rows = np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)
    chosen = ExtremaSettings(knn=15, variance_share=1.0)
    found = laplacian_extrema(rows, 6, chosen, seed=7)
    assert found.tolist() == slow_extrema(rows.astype(np.float64), 6, 15)


@pytest.mark.parametrize("corners", [3, 4])
def test_corners_of_a_planted_simplex_come_first(corners):
    rng = np.random.default_rng(5)
    vertices = np.eye(corners)[:, : corners - 1] * 4
    rows = (rng.dirichlet(np.full(corners, 0.8), 1500) @ vertices).astype(np.float32)
    found = rows[laplacian_extrema(rows, corners, ExtremaSettings(knn=50), seed=0)]
    distances = cdist(vertices, found)
    assert sorted(distances.argmin(axis=1).tolist()) == list(range(corners))
    assert distances.min(axis=1).max() < 0.2 * 4 * np.sqrt(2)


def test_same_seed_same_extrema_and_the_sample_follows_the_seed():
    rows = np.random.default_rng(0).standard_normal((3000, 5)).astype(np.float32)
    chosen = ExtremaSettings(max_rows=300, knn=30)
    first, again = (laplacian_extrema(rows, 8, chosen, seed=3) for _ in range(2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != laplacian_extrema(rows, 8, chosen, seed=4).tolist()
    sample = np.sort(np.random.default_rng(3).choice(3000, 300, replace=False))
    assert set(first.tolist()) <= set(sample.tolist())


def test_low_variance_directions_do_not_count():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((300, 3)) * [10, 10, 0.1]
    flat = rows * [1, 1, 0]
    chosen = ExtremaSettings(knn=20)
    a, b = (laplacian_extrema(r.astype(np.float32), 5, chosen, seed=0) for r in (rows, flat))
    assert a.tolist() == b.tolist()


def test_the_first_extrema_do_not_depend_on_how_many_are_found():
    rows = np.random.default_rng(9).standard_normal((200, 4)).astype(np.float32)
    chosen = ExtremaSettings(knn=15, variance_share=1.0)
    slow = slow_extrema(rows.astype(np.float64), 12, 15)
    for number in range(1, 13):
        assert laplacian_extrema(rows, number, chosen, seed=7).tolist() == slow[:number]


@given(distinct=st.integers(2, 14), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_nor_do_they_where_few_rows_are_distinct(distinct, seed):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((distinct, 3)).astype(np.float32)
    rows = np.concatenate([common[rng.integers(distinct, size=300)], common + 1])
    chosen = ExtremaSettings(max_rows=20)
    most = laplacian_extrema(rows, 14, chosen, seed).tolist()
    for number in (2, N_EXTREMA, N_EXTREMA + 1, 11):
        assert laplacian_extrema(rows, number, chosen, seed).tolist() == most[:number]


@given(n=st.integers(2, 12), n_extrema=st.integers(1, 10), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_tiny_samples_give_distinct_rows(n, n_extrema, seed):
    rows = np.random.default_rng(seed).standard_normal((n, 3)).astype(np.float32)
    found = laplacian_extrema(rows, n_extrema, ExtremaSettings(), seed)
    assert len(found) == min(n, n_extrema) == len(set(found.tolist()))
    assert set(found.tolist()) <= set(range(n))


def test_duplicates_are_one_row():
    distinct = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    rows = np.repeat(distinct, 80, axis=0)
    found = laplacian_extrema(rows, 8, ExtremaSettings(max_rows=100), seed=0)
    assert len(found) == 5
    assert len(np.unique(rows[found], axis=0)) == 5


def test_rare_distinct_rows_outside_the_sample_are_found():
    rows = np.zeros((5000, 2), dtype=np.float32)
    rows[:4] = [[1, 0], [0, 1], [1, 1], [2, 0]]
    found = laplacian_extrema(rows, 5, ExtremaSettings(max_rows=20), seed=0)
    assert len(np.unique(rows[found], axis=0)) == 5


@pytest.mark.parametrize("size", [30, 70])
def test_separate_clumps_are_joined_by_their_closest_points(size):
    rng = np.random.default_rng(size)
    clumps = [rng.standard_normal((size, 3)) + 40 * centre for centre in np.eye(3)]
    rows = np.concatenate(clumps).astype(np.float32)
    chosen = ExtremaSettings(knn=10, variance_share=1.0)
    found = laplacian_extrema(rows, 3, chosen, seed=0)
    assert found.tolist() == slow_extrema(rows.astype(np.float64), 3, 10)
    assert len(set((found // size).tolist())) > 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((50, 3), dtype=np.float32), "50 rows, 1 of them distinct"),
        (np.ones((0, 3), dtype=np.float32), "0 rows"),
        (np.ones((50, 0), dtype=np.float32), "two distinct rows"),
        (np.full((50, 3), np.nan, dtype=np.float32), "finite"),
    ],
)
def test_what_cannot_have_extrema_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        laplacian_extrema(rows, 3, ExtremaSettings(), seed=0)
