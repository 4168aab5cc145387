"""Elbows against hand-worked numbers and a slow restatement."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aanet_assets.science.selection.elbows import NO_ELBOW, elbow, elbow_columns

losses = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=3, max_size=7)


def test_a_hand_worked_elbow() -> None:
    # x' = 0, 1/3, 2/3, 1; y' = 1, 0.2, 0.1, 0; x' + y' - 1 = 0, -7/15, -7/30, 0.
    found = elbow([2, 3, 4, 5], [11.0, 3.0, 2.0, 1.0])
    assert found.k == 3
    assert found.strength == pytest.approx(7 / 15 / math.sqrt(2))
    assert found.pct_decrease == pytest.approx(100 * 10 / 11)
    assert found.is_monotonic is True


def test_a_rise_before_the_elbow_is_seen_and_one_after_it_is_not() -> None:
    assert elbow([2, 3, 4, 5], [10.0, 12.0, 1.0, 0.5]).is_monotonic is False
    later = elbow([2, 3, 4, 5], [10.0, 1.0, 2.0, 0.5])
    assert (later.k, later.is_monotonic) == (3, True)


@given(losses)
def test_elbows_are_those_of_a_slow_walk(values: list[float]) -> None:
    ks = list(range(2, 2 + len(values)))
    first, last = values[0], values[-1]
    distances = []
    for k, y in zip(ks, values, strict=True):
        across = (k - ks[0]) / (ks[-1] - ks[0])
        height = (y - last) / (first - last) if first != last else 0.0
        distances.append(abs(across + height - 1) / math.sqrt(2))
    found = elbow(ks, values)
    if not all(map(math.isfinite, distances)):
        assert found == NO_ELBOW
        return
    assert found.strength == pytest.approx(max(distances))
    assert found.k == ks[distances.index(max(distances))]
    until = values[: distances.index(max(distances)) + 1]
    assert found.is_monotonic == all(b <= a for a, b in pairwise(until))
    most = max(values)
    expected = 100 * (most - min(values)) / most if most else 0.0
    assert found.pct_decrease == pytest.approx(expected)


@given(losses)
def test_a_loss_that_never_rises_has_a_strength_of_at_most_0_707(values: list[float]) -> None:
    found = elbow(range(len(values)), sorted(values, reverse=True))
    if found != NO_ELBOW:
        assert found.strength is not None
        assert found.strength <= 1 / math.sqrt(2) + 1e-9


@given(losses, st.randoms())
def test_the_order_of_ks_does_not_matter(values: list[float], random) -> None:
    pairs = list(enumerate(values, start=2))
    shuffled = random.sample(pairs, len(pairs))
    assert elbow(*map(list, zip(*shuffled, strict=True))) == elbow(
        *map(list, zip(*pairs, strict=True))
    )


@pytest.mark.parametrize(
    ("ks", "values"),
    [
        ([2, 3], [2.0, 1.0]),
        ([2, 3, 4], [2.0, None, 1.0]),
        ([2, 3, 4], [2.0, float("nan"), 1.0]),
        ([2, 3, 4], [2.0, float("inf"), 1.0]),
    ],
)
def test_missing_losses_give_nothing_and_never_a_number(ks: list[int], values: list) -> None:
    assert elbow(ks, values) == NO_ELBOW


def test_constant_losses_do_not_decrease() -> None:
    found = elbow([2, 3, 4], [1.0, 1.0, 1.0])
    assert found.pct_decrease == 0
    assert found.is_monotonic is True


def test_columns_hold_the_elbows_of_both_losses() -> None:
    metrics = pd.DataFrame(
        {
            "cluster_id": np.repeat([0, 1], 4),
            "aanet_k": [2, 3, 4, 5] * 2,
            "aanet_recon_loss": [11.0, 3.0, 2.0, 1.0, 11.0, 9.0, 2.0, 1.0],
            "aanet_archetypal_loss": [8.0, 7.0, 1.0, 0.5, 1.0, np.nan, 0.5, 0.1],
        }
    )
    table = elbow_columns(metrics).set_index("cluster_id")
    assert table.loc[0, "aanet_recon_loss_elbow_k"] == 3
    assert table.loc[0, "aanet_archetypal_loss_elbow_k"] == 4
    assert table.loc[0, "k_differential"] == 1
    assert table.loc[1, "aanet_recon_loss_elbow_k"] == 4
    nothing = ["aanet_archetypal_loss_elbow_k", "aanet_archetypal_loss_elbow_strength",
               "arch_pct_decrease", "arch_is_monotonic", "k_differential"]  # fmt: skip
    assert table.loc[[1], nothing].isna().all(axis=None)


def test_a_cluster_that_lacks_a_k_has_no_elbow() -> None:
    metrics = pd.DataFrame(
        {
            "cluster_id": [0, 0, 0, 0, 1, 1, 1],
            "aanet_k": [2, 3, 4, 5, 2, 3, 4],
            "aanet_recon_loss": [4.0, 3.0, 2.0, 1.0, 4.0, 3.0, 2.0],
            "aanet_archetypal_loss": [4.0, 3.0, 2.0, 1.0, 4.0, 3.0, 2.0],
        }
    )
    table = elbow_columns(metrics).set_index("cluster_id")
    assert table.loc[[0]].notna().all(axis=None)
    assert table.loc[[1]].isna().all(axis=None)
