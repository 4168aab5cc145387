"""Which latents are in use: the near-duplicate rule against a slow loop, and what else is out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aanet_assets.science.clustering import decoder as module
from aanet_assets.science.clustering.decoder import unit_rows, usable_latents


def slow_usable(decoder: np.ndarray, rate: np.ndarray, minimum: float, cosine: float) -> list[bool]:
    kept: list[int] = []
    for j, row in enumerate(decoder):
        length = float(np.linalg.norm(row))
        if rate[j] == 0 or rate[j] < minimum or length == 0:
            continue
        cosines = [
            abs(float(row @ decoder[i])) / length / float(np.linalg.norm(decoder[i])) for i in kept
        ]
        if not any(c > cosine for c in cosines):
            kept.append(j)
    return [j in kept for j in range(len(decoder))]


@settings(max_examples=60, deadline=None)
@given(
    latents=st.integers(1, 14),
    spread=st.sampled_from([0.0, 0.05, 0.3]),
    seed=st.integers(0, 100_000),
    minimum=st.sampled_from([0.0, 0.2]),
    block=st.integers(1, 15),
)
def test_usable_equals_a_slow_loop(
    latents: int, spread: float, seed: int, minimum: float, block: int
) -> None:
    rng = np.random.default_rng(seed)
    originals = rng.normal(size=(3, 6))
    decoder = originals[rng.integers(0, 3, latents)] + spread * rng.normal(size=(latents, 6))
    decoder *= rng.choice([-3.0, 0.5, 0.0], p=[0.45, 0.45, 0.1], size=(latents, 1))
    rate = rng.choice([0.0, 0.1, 0.6], size=latents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", block)
        found = usable_latents(decoder, rate, minimum, 0.995)
    assert found.tolist() == slow_usable(decoder, rate, minimum, 0.995)


def test_a_chain_of_near_duplicates_keeps_what_is_far_from_every_kept_latent() -> None:
    angles = np.radians([0, 4, 8, 12])
    decoder = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rate = np.full(4, 0.5)
    # cos 4 degrees is 0.9976, cos 8 degrees 0.9903.
    assert usable_latents(decoder, rate, 0.0, 0.995).tolist() == [True, False, True, False]


def test_a_dead_latent_does_not_shadow_its_live_duplicate() -> None:
    decoder = np.array([[1.0, 0], [2.0, 0], [-1.0, 0]])
    assert usable_latents(decoder, np.array([0.0, 0.1, 0.1]), 0.0, 0.995).tolist() == [
        False,
        True,
        False,
    ]


def test_a_limit_of_one_keeps_exact_copies() -> None:
    decoder = np.random.default_rng(0).normal(size=(1, 50)).repeat(6, axis=0).astype(np.float32)
    assert usable_latents(decoder, np.full(6, 0.1), 0.0, 1.0).all()


def test_unit_rows() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert rows.dtype == np.float32


def test_non_finite_input_is_refused() -> None:
    broken = np.eye(3)
    broken[1, 2] = np.nan
    with pytest.raises(ValueError, match="decoder row 1 holds a NaN or infinite entry"):
        usable_latents(broken, np.ones(3), 0.0, 0.995)
    with pytest.raises(ValueError, match="activity rate of latent 2 is not finite"):
        usable_latents(np.eye(3), np.array([0.1, 0.2, np.inf]), 0.0, 0.995)
