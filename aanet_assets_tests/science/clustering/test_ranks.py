"""Ranks and bases against hand-worked cases and a slow independent version."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aanet_assets.science.clustering.ranks import (
    activation_pca_rank,
    cluster_geometry,
    decoder_rank,
    orthonormal,
    span_basis,
)
from aanet_assets.study.settings import ClusteringSettings

DEFAULTS = ClusteringSettings()


def rows_with(singular_values: list[float], d_model: int = 12, seed: int = 0) -> np.ndarray:
    """Rows that have exactly these singular values."""
    rng = np.random.default_rng(seed)
    m = len(singular_values)
    left = np.linalg.qr(rng.normal(size=(m, m)))[0]
    right = np.linalg.qr(rng.normal(size=(d_model, m)))[0]
    return left @ np.diag(singular_values) @ right.T


@pytest.mark.parametrize(
    ("singular_values", "rank", "why"),
    [
        ([1.0], 1, "one row"),
        ([4.0, 1.0, 0.9], 1, "gap 4 at once"),
        ([4.0, 3.0, 1.0, 0.9], 2, "gap 3 after two; variance would need 3"),
        ([5.0, 3.0, 1.6, 1.0], 3, "no gap of 2; 25 + 9 + 2.56 is 97% of 37.56, 25 + 9 is 91%"),
        ([1.0, 1.0, 1.0, 1.0], 4, "equal: no gap, and 95% needs all"),
        ([2.0, 1.0], 1, "a ratio of exactly 2 is a gap"),
        ([3.0, 2.9, 0.0], 2, "nothing after two"),
    ],
)
def test_rank_of_hand_worked_cases(singular_values: list[float], rank: int, why: str) -> None:
    assert decoder_rank(np.diag(singular_values), DEFAULTS) == rank, why


def test_variance_share_and_gap_ratio_are_settings() -> None:
    rows = rows_with([5.0, 3.0, 1.6, 1.0])
    assert decoder_rank(rows, ClusteringSettings(variance_share=0.9)) == 2
    assert decoder_rank(rows, ClusteringSettings(gap_ratio=1.5)) == 1


def test_zero_rows_and_no_rows_have_rank_zero() -> None:
    assert decoder_rank(np.zeros((3, 5)), DEFAULTS) == 0
    assert decoder_rank(np.zeros((0, 5)), DEFAULTS) == 0
    geometry = cluster_geometry(np.zeros((0, 5)), DEFAULTS)
    assert geometry.rank == 0
    assert np.isnan(geometry.recon_error)


def slow_geometry(rows: np.ndarray, share: float, gap: float) -> tuple[int, float]:
    """Rank and residual from the eigenvectors of the Gram matrix, projecting row by row."""
    values, vectors = np.linalg.eigh(rows.T @ rows)
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    count = min(rows.shape)
    s = [float(v) ** 0.5 for v in values[:count]]
    variance_rank = next(
        r for r in range(1, count + 1) if sum(v * v for v in s[:r]) >= share * sum(values)
    )
    gap_rank = next((r for r in range(1, count) if s[r - 1] / s[r] >= gap), count)
    rank = min(variance_rank, gap_rank)
    residuals = []
    for row in rows:
        for basis_vector in vectors[:, :rank].T:
            row = row - (row @ basis_vector) * basis_vector
        residuals.append(float(row @ row))
    return rank, sum(residuals) / len(residuals)


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 9),
    d_model=st.integers(10, 16),
    decay=st.floats(0.3, 1.0),
    seed=st.integers(0, 10_000),
    share=st.floats(0.5, 0.99),
    gap=st.floats(1.1, 4.0),
)
def test_geometry_equals_the_slow_version(
    m: int, d_model: int, decay: float, seed: int, share: float, gap: float
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(m, d_model)) * decay ** np.arange(d_model)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rank, error = cluster_geometry(rows, ClusteringSettings(variance_share=share, gap_ratio=gap))
    slow_rank, slow_error = slow_geometry(rows, share, gap)
    assert rank == slow_rank
    assert error == pytest.approx(slow_error, abs=1e-9)


def test_pca_rank_of_known_variances() -> None:
    # Plus and minus each axis: variances 90, 6, 4 per cent along orthogonal directions.
    directions = np.diag(np.sqrt([90.0, 6.0, 4.0]))
    rows = np.concatenate([directions, -directions]) + 100.0
    assert activation_pca_rank(rows) == 2
    assert activation_pca_rank(rows, variance_share=0.89) == 1
    assert activation_pca_rank(rows, variance_share=0.97) == 3


def test_pca_rank_does_not_depend_on_the_basis() -> None:
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(200, 6)) * [5, 4, 3, 1, 0.5, 0.1]).astype(np.float32)
    embedding = np.linalg.qr(rng.normal(size=(40, 6)))[0].astype(np.float32)
    assert activation_pca_rank(rows @ embedding.T) == activation_pca_rank(rows) == 3


def test_pca_rank_without_variance_is_zero() -> None:
    assert activation_pca_rank(np.zeros((0, 3), dtype=np.float32)) == 0
    assert activation_pca_rank(np.array([[0.1, 0.7]])) == 0
    assert activation_pca_rank(np.full((7, 3), 0.1, dtype=np.float32)) == 0
    assert activation_pca_rank(np.zeros((5, 0))) == 0


@settings(max_examples=30, deadline=None)
@given(m=st.integers(1, 8), rank=st.integers(1, 8), seed=st.integers(0, 10_000))
@example(m=8, rank=6, seed=1923)
def test_span_basis_is_an_orthonormal_basis_of_the_rows(m: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = min(m, rank)
    rows = rng.normal(size=(m, rank)) @ rng.normal(size=(rank, 20))
    columns = span_basis(rows)
    assert columns.dtype == np.float16
    assert columns.shape == (20, rank)
    np.testing.assert_allclose(columns.T @ columns, np.eye(rank), atol=2e-3)
    basis = orthonormal(columns)
    assert basis.dtype == np.float32
    np.testing.assert_allclose(basis, columns, atol=1e-3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-6)
    np.testing.assert_allclose(rows @ basis @ basis.T, rows, atol=1e-3 * np.abs(rows).max())
    # Of the rounded columns: what turns them after that may change places between near equals.
    assert (columns.max(axis=0) >= -columns.min(axis=0)).all()


def test_span_basis_tolerance_and_sign() -> None:
    rows = np.array([[-2.0, 0, 0], [0, 1e-5, 0], [0, 0, 1e-7]])
    np.testing.assert_allclose(span_basis(rows), [[1, 0], [0, 1], [0, 0]], atol=1e-4)
    np.testing.assert_array_equal(span_basis(rows), span_basis(-rows))
    assert span_basis(np.zeros((2, 3))).shape == (3, 0)
    assert span_basis(np.zeros((0, 3))).shape == (3, 0)
