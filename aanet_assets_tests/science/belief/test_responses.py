"""Next tokens that vary most, and responses along an edge of models whose answer is known."""

import numpy as np
import pytest
from jaxtyping import Float, Int

from aanet_assets.science.belief.edits import Edited, dose_responses
from aanet_assets.science.belief.responses import varying

V = np.array([[0.7, 0.1, 0.2], [0.2, 0.2, 0.6], [0.1, 0.5, 0.4]])
"""What three vertices predict, of three groups."""
VERTICES = np.eye(3)


def mixtures(
    tokens: Int[np.ndarray, " tokens"], streams: Float[np.ndarray, "tokens edits d_model"]
) -> Float[np.ndarray, "tokens edits groups"]:
    """A model whose predictions are mixtures, each token with an offset of its own."""
    return streams @ V + 0.01 * tokens[:, None, None]


def powers(
    tokens: Int[np.ndarray, " tokens"], streams: Float[np.ndarray, "tokens edits d_model"]
) -> Float[np.ndarray, "tokens edits groups"]:
    """One whose predictions are geometric mixtures."""
    logs = streams @ np.log(V)
    return np.exp(logs) / np.exp(logs).sum(axis=-1, keepdims=True)


EDITED = Edited(np.array([0, 2]), np.zeros((2, 3)))


def test_a_mixture_responds_in_a_straight_line_along_the_edge_that_changes_most() -> None:
    edges = {1: (0, 2), 0: (2, 0), 2: (0, 1)}
    found = dose_responses(mixtures, EDITED, VERTICES, np.array(list(edges)), 5)
    for (group, (start, end)), dose in zip(edges.items(), found, strict=True):
        assert (dose.from_vertex, dose.to_vertex) == (start, end)
        assert dose.coordinates.tolist() == [0, 0.25, 0.5, 0.75, 1]
        own = V[start, group] + dose.coordinates * (V[end, group] - V[start, group])
        np.testing.assert_allclose(dose.probabilities, [own, own + 0.02])


def test_what_is_no_mixture_leaves_the_line_between_its_ends() -> None:
    (found,) = dose_responses(powers, EDITED, VERTICES, np.array([0]), 3)
    low, middle, high = found.probabilities[0]
    assert (low, high) == pytest.approx((0.1, 0.7))
    expected = np.sqrt(V[0] * V[2])
    assert middle == pytest.approx(expected[0] / expected.sum())
    assert abs(middle - 0.4) > 0.05


def test_equal_vertices_still_have_an_edge() -> None:
    (found,) = dose_responses(mixtures, EDITED, np.ones((2, 3)), np.array([0]), 3)
    assert {found.from_vertex, found.to_vertex} == {0, 1}
    assert np.ptp(found.probabilities, axis=1).max() == 0


def test_groups_that_vary_most_come_first_and_those_that_hardly_do_not_at_all() -> None:
    rng = np.random.default_rng(0)
    p = rng.normal(0.1, [0.001, 0.05, 0.0, 0.03, 0.02, 0.01], (4_000, 6))
    assert varying(p, 3).tolist() == [1, 3, 4]
    assert varying(p, 6).tolist() == [1, 3, 4, 5]
    assert varying(np.full((10, 4), 0.25), 3).tolist() == []
