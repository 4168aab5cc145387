"""Co-occurrence against a restatement from two-by-two tables, one pair of latents at a time."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from aanet_assets.science.clustering import cooccurrence as module
from aanet_assets.science.clustering.cooccurrence import cooccurrence

KINDS = ["jaccard", "dice", "overlap", "phi", "mutual_information"]


def entropy(shares: list[float]) -> float:
    return -sum(p * math.log(p) for p in shares if p > 0)


def from_table(kind: str, a: int, b: int, c: int, d: int) -> float:
    """Affinity of two latents: a both active, b only the first, c only the second, d neither."""
    n = a + b + c + d
    if kind == "jaccard":
        return a / (a + b + c) if a + b + c else 0
    if kind == "dice":
        return 2 * a / (2 * a + b + c) if a + b + c else 0
    if kind == "overlap":
        return a / min(a + b, a + c) if min(a + b, a + c) else 0
    if kind == "phi":
        spread = (a + b) * (c + d) * (a + c) * (b + d)
        return abs(a * d - b * c) / math.sqrt(spread) if spread else 0
    first, second = entropy([(a + b) / n, (c + d) / n]), entropy([(a + c) / n, (b + d) / n])
    joint = entropy([a / n, b / n, c / n, d / n])
    return (first + second - joint) / ((first + second) / 2) if first + second else 0


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    tokens=st.integers(1, 30),
    latents=st.integers(1, 7),
    density=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    seed=st.integers(0, 100_000),
    block=st.integers(1, 50),
)
def test_every_kind_equals_its_two_by_two_table(
    kind: str, tokens: int, latents: int, density: float, seed: int, block: int
) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.uniform(0, 1, (tokens, latents)) * (rng.uniform(size=(tokens, latents)) < density)
    codes = csr_matrix(dense.astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_PAIRS", block)
        # As if of several shards, of which some have no tokens.
        ends = sorted(rng.integers(0, tokens + 1, 3))
        parts = [codes[a:b] for a, b in pairwise([0, *ends, tokens])]
        affinity = cooccurrence(parts, 0.3, kind).toarray()
    active = codes.toarray() > 0.3
    for i in range(latents):
        for j in range(latents):
            x, y = active[:, i], active[:, j]
            table = [int((p & q).sum()) for p, q in ((x, y), (x, ~y), (~x, y), (~x, ~y))]
            assert affinity[i, j] == pytest.approx(from_table(kind, *table), abs=1e-6)
    assert affinity.min() >= -1e-7
    assert affinity.max() <= 1 + 1e-7
    np.testing.assert_array_equal(affinity, affinity.T)


def test_the_codes_are_left_alone() -> None:
    codes = csr_matrix(np.array([[0.5, 0.1, 0], [0, 0.2, 0.9]], dtype=np.float32))
    before = codes.toarray()
    cooccurrence([codes], 0.3, "jaccard")
    np.testing.assert_array_equal(codes.toarray(), before)


def test_avoidance_counts_for_phi_and_not_for_jaccard() -> None:
    codes = csr_matrix(np.array([[1.0, 0], [0, 1.0]] * 5, dtype=np.float32))
    assert cooccurrence([codes], 0.0, "phi").toarray()[0, 1] == pytest.approx(1)
    assert cooccurrence([codes], 0.0, "mutual_information").toarray()[0, 1] == pytest.approx(1)
    assert cooccurrence([codes], 0.0, "jaccard").toarray()[0, 1] == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'cosine' is unknown; it must be one of"):
        cooccurrence([csr_matrix(np.zeros((2, 2), dtype=np.float32))], 0.0, "cosine")
    with pytest.raises(ValueError, match="no tokens"):
        cooccurrence([csr_matrix(np.zeros((0, 2), dtype=np.float32))], 0.0, "phi")
