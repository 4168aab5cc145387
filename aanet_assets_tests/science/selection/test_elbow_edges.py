"""Elbows where the formula is touchy: equal ends, small differences, rises, what is no curve."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aanet_assets.science.selection.elbows import (
    NO_ELBOW,
    elbow,
    elbow_columns,
    is_falling,
    too_few_ks,
)
from aanet_assets.science.selection.rules import STRONGEST_FALL

ROOT2 = math.sqrt(2)


@pytest.mark.parametrize(
    ("losses", "k", "strength", "pct", "monotonic"),
    [
        # y' is 1, .4, .2, .1, 0 over x' 0, .25, .5, .75, 1.
        ([10, 4, 2, 1, 0], 3, 0.35 / ROOT2, 100, True),
        # Above the chord: y' is 1, .9, .8, .7, 0.
        ([1, 0.9, 0.8, 0.7, 0], 5, 0.45 / ROOT2, 100, True),
        # Rises at k = 3, before the elbow at 4: y' is 1, 1.25, -.25, .25, 0.
        ([5, 6, 0, 2, 1], 4, 0.75 / ROOT2, 100, False),
        # The elbow is the top of a rise: y' is 1, 1, 3, .5, 0.
        ([1, 1, 3, 0.5, 0], 4, 2.5 / ROOT2, 100, False),
        # Rises after the elbow only: y' is 1, .1, .2, .3, 0.
        ([10, 1, 2, 3, 0], 3, 0.65 / ROOT2, 100, True),
        # A small difference of the ends magnifies a dip: y' is 1, -8, 0, 0, 0.
        ([1, 0.1, 0.9, 0.9, 0.9], 3, 8.75 / ROOT2, 90, True),
        # Equal ends: y' is all zeros, whatever lies between.
        ([2, 1, 1, 1, 2], 2, 1 / ROOT2, 50, True),
        ([0.5] * 5, 2, 1 / ROOT2, 0, True),
        ([0.0] * 5, 2, 1 / ROOT2, 0, True),
    ],
)
def test_hand_worked(
    losses: list[float], k: int, strength: float, pct: float, monotonic: bool
) -> None:
    found = elbow([2, 3, 4, 5, 6], losses)
    assert found.k == k
    assert found.strength == pytest.approx(strength)
    assert found.pct_decrease == pytest.approx(pct)
    assert found.is_monotonic is monotonic


@given(
    losses=st.lists(st.floats(0.001, 1000), min_size=3, max_size=9),
    scale=st.sampled_from([0.25, 2.0, 1024.0]),
)
def test_the_unit_of_the_loss_does_not_matter(losses: list[float], scale: float) -> None:
    ks = range(2, 2 + len(losses))
    assert elbow(ks, losses) == elbow(ks, [scale * loss for loss in losses])


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 2, 4])
def test_a_missing_or_non_finite_loss_gives_no_elbow(bad: float | None, where: int) -> None:
    losses: list[float | None] = [5, 3, 2, 1.5, 1]
    losses[where] = bad
    assert elbow([2, 3, 4, 5, 6], losses) == NO_ELBOW


def test_too_few_points_and_overflow_give_no_elbow() -> None:
    assert elbow([2, 3], [2.0, 1.0]) == NO_ELBOW
    assert elbow([], []) == NO_ELBOW
    assert elbow([2, 3, 4], [5e-324, 1.0, 0.0]) == NO_ELBOW


def test_malformed_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="every k once"):
        elbow([2, 2, 3], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="equally long"):
        elbow([2, 3, 4], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"a loss is -0\.5; losses are means of squares"):
        elbow([2, 3, 4], [1.0, -0.5, 0.2])


def test_a_row_twice_is_refused() -> None:
    metrics = pd.DataFrame({"cluster_id": [3, 3], "aanet_k": [2, 2]})
    with pytest.raises(ValueError, match="cluster 3 has more than one row at k = 2"):
        elbow_columns(metrics)


NOISE = [2.001e-5, 1.849e-5, 4.23e-5, 2.003e-5]
"""Archetypal losses of a simplex that fits: no fall, and two ends that are nearly equal."""


def test_a_strength_that_no_falling_loss_has_is_said_beside_it() -> None:
    metrics = pd.DataFrame(
        {
            "cluster_id": [0] * 4 + [1] * 4 + [2] * 4,
            "aanet_k": [2, 3, 4, 5] * 3,
            "aanet_recon_loss": [11.0, 3, 2, 1] * 3,
            "aanet_archetypal_loss": [*NOISE, 0.5, 0.5, 0.5, 0.5, 1.0, math.nan, 0.5, 0.1],
        }
    )
    table = elbow_columns(metrics)
    assert table["recon_elbow_is_falling"].tolist() == [True, True, True]
    assert table["arch_elbow_is_falling"].tolist()[:2] == [False, True]
    assert pd.isna(table["arch_elbow_is_falling"].iloc[2])
    # The guide's own columns stay what the formula gives.
    assert table["aanet_archetypal_loss_elbow_k"].iloc[0] == 4
    assert table["aanet_archetypal_loss_elbow_strength"].iloc[0] == pytest.approx(787.6, abs=0.1)


@given(losses=st.lists(st.floats(0, 1e9), min_size=3, max_size=9))
def test_no_loss_that_never_rises_is_taken_for_noise(losses: list[float]) -> None:
    found = elbow(range(len(losses)), sorted(losses, reverse=True))
    if found.strength is not None:
        assert is_falling(found.strength)


def test_the_largest_strength_of_a_fall_is_one_over_root_two() -> None:
    assert is_falling(STRONGEST_FALL)
    assert not is_falling(math.nextafter(STRONGEST_FALL, 1))


def test_too_few_ks_are_said_for_either_mode() -> None:
    assert too_few_ks((2, 3, 4), "elbow") is None
    elbow_text, geometric = (too_few_ks((2, 3), mode) for mode in ("elbow", "geometric"))
    assert elbow_text is not None
    assert elbow_text.startswith(
        "ks has the 2 values 2, 3, and an elbow needs 3: every elbow will be"
    )
    assert "nothing is then selected but manual picks that have a manual_k" in elbow_text
    assert geometric is not None
    assert "The geometric mode, which is in use, needs none" in geometric
    assert str(too_few_ks((4,), "elbow")).startswith("ks has 4 alone, and")
