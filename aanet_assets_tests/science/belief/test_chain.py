"""Every statistic on chains whose answer is known, and on processes that are none."""

import numpy as np
import pytest
from jaxtyping import Float, Int
from scipy.optimize import minimize, nnls

from aanet_assets.science.belief.edits import Edited, mixture_under_edits, steering
from aanet_assets.science.belief.measures import (
    all_divergences,
    divergence,
    interval,
    r_squared,
    summed_by,
)
from aanet_assets.science.belief.mixture import (
    fit_mixture,
    latent_scores,
    prediction_scores,
    sufficiency,
)
from aanet_assets.science.belief.simplices import (
    agreement,
    barycentric,
    clipped,
    enclosing_vertices,
    matched,
    projected_vertices,
)
from aanet_assets.science.belief.update import (
    chain_of,
    frequent,
    operators,
    resampled_chains,
    steps_of,
    update_scores,
)
from aanet_assets.science.toy.components import Component, mess, tom_quantum
from aanet_assets.study.settings import ControlSettings

DOCUMENTS, LENGTH = 1_500, 16


class Seen:
    """Documents of one component, with exact beliefs and predictions, token by token."""

    def __init__(self, component: Component, seed: int = 0):
        rng = np.random.default_rng(seed)
        emits = np.einsum("vij,j->vi", component.transitions, component.readout)
        belief = np.tile(component.stationary, (DOCUMENTS, 1))
        letters, beliefs = [], []
        for _ in range(LENGTH):
            p = belief @ emits.T
            letter = (p.cumsum(1) < rng.random((DOCUMENTS, 1))).sum(1).clip(max=len(emits) - 1)
            belief = np.einsum("di,dij->dj", belief, component.transitions[letter])
            belief /= (belief @ component.readout)[:, None]
            letters.append(letter)
            beliefs.append(belief)
        self.letters: Int[np.ndarray, " tokens"] = np.stack(letters, 1).ravel()
        self.beliefs: Float[np.ndarray, "tokens states"] = np.stack(beliefs, 1).reshape(
            DOCUMENTS * LENGTH, -1
        )
        self.p: Float[np.ndarray, "tokens letters"] = self.beliefs @ emits.T
        self.documents = np.repeat(np.arange(DOCUMENTS), LENGTH)
        self.tokens = np.arange(len(self.letters))

    def steps(self, coordinates: Float[np.ndarray, "tokens k"]):
        return steps_of(coordinates, self.tokens, self.letters, self.documents, self.documents)


CHAIN = mess(3, 0.03, 0.75)


@pytest.fixture(scope="module")
def chain() -> Seen:
    return Seen(CHAIN)


@pytest.fixture(scope="module")
def disk() -> Seen:
    return Seen(tom_quantum(1.0, 3.0))


def in_triangle(disk: Seen) -> Float[np.ndarray, "tokens k"]:
    """Coordinates of a disk's beliefs in the triangle around them."""
    points = disk.beliefs[:, 1:]
    return clipped(barycentric(points, enclosing_vertices(points, 3, ControlSettings())))


def test_a_mixture_is_found_and_explains_a_chain_and_no_softmax(chain: Seen) -> None:
    vertices = fit_mixture(chain.beliefs, chain.p)
    emits = np.einsum("vij->iv", CHAIN.transitions)
    np.testing.assert_allclose(vertices, emits, atol=2e-3)
    own = prediction_scores(chain.beliefs, chain.p, chain.letters, chain.documents, 0, 100)
    assert own.kl_explained > 0.999
    assert own.mixture_r2 > 0.999
    assert own.kl_explained_low <= own.kl_explained <= own.kl_explained_high
    # The last letter says something of the belief, and not all.
    assert 0.3 < own.token_kl_explained < 0.9
    assert own.permuted_kl_explained < own.token_kl_explained
    raised = np.exp(8 * chain.beliefs)
    softmax = raised / raised.sum(1, keepdims=True)
    other = prediction_scores(chain.beliefs, softmax, chain.letters, chain.documents, 0, 100)
    assert other.kl_explained < 0.95


def test_the_mixture_is_the_best_one() -> None:
    rng = np.random.default_rng(0)
    b, p = rng.dirichlet(np.ones(2), 40), rng.dirichlet(np.ones(3), 40)

    def total(flat: np.ndarray) -> float:
        v = np.exp(flat.reshape(2, 3))
        return float(divergence(p, b @ (v / v.sum(1, keepdims=True))).sum())

    slow = min(minimize(total, rng.standard_normal(6), tol=1e-10).fun for _ in range(5))
    assert divergence(p, b @ fit_mixture(b, p)).sum() == pytest.approx(slow, rel=1e-3)


def test_all_latents_bound_what_one_of_them_explains(chain: Seen) -> None:
    logs = np.log(chain.beliefs + 1e-3)
    scores = latent_scores(logs[:4_000], chain.p[:4_000], chain.documents[:4_000])
    assert 0.95 < scores.latents_kl_explained <= 1
    assert scores.best_latent_kl_explained < scores.latents_kl_explained


def test_a_share_of_nothing_is_not_a_number(chain: Seen) -> None:
    few = slice(0, 400)
    p, documents, letters = chain.p[few], chain.documents[few], chain.letters[few]
    said = prediction_scores(chain.beliefs[few], p, letters, documents, 0, 0)
    known = latent_scores(np.log(chain.beliefs[few] + 1e-3), p, documents)
    assert sufficiency(said, known) == pytest.approx(1, abs=0.1)
    noise = latent_scores(np.random.default_rng(0).random((400, 60)), p, documents)
    assert noise.latents_kl_explained < 0
    assert np.isnan(sufficiency(said, noise))


def test_operators_are_the_chains_own(chain: Seen) -> None:
    steps = chain.steps(chain.beliefs)
    groups = frequent(steps, np.ones(3, dtype=bool), 200)
    t = operators(steps, groups)
    error = np.linalg.norm(t - CHAIN.transitions) / np.linalg.norm(CHAIN.transitions)
    assert error < 0.05
    found = chain_of(t)
    np.testing.assert_allclose(found.transitions, CHAIN.transitions.sum(0), atol=0.02)
    np.testing.assert_allclose(found.stationary, CHAIN.stationary, atol=0.05)
    np.testing.assert_allclose(found.stays, 1, atol=0.02)
    again = np.stack([c.transitions for c in resampled_chains(steps, groups, 0)])
    low, high = np.percentile(again, [1, 99], axis=0)
    truth = CHAIN.transitions.sum(0)
    assert ((low - 0.01 < truth) & (truth < high + 0.01)).all()


def test_operators_equal_plain_non_negative_least_squares() -> None:
    rng = np.random.default_rng(1)
    b, letters = rng.dirichlet(np.ones(3), 60), rng.integers(0, 2, 60)
    documents = np.repeat(np.arange(12), 5)
    steps = steps_of(b, np.arange(60), letters, documents, documents)
    within = steps.next_token >= 0
    t = operators(steps, [0, 1])
    for group in (0, 1):
        wanted = steps.next[within] * (steps.next_token[within] == group)[:, None]
        slow = np.stack([nnls(steps.now[within], column)[0] for column in wanted.T], axis=1)
        np.testing.assert_allclose(t[group], slow, atol=1e-8)
    with pytest.raises(ValueError, match="do not vary"):
        operators(steps._replace(now=np.full_like(b, 1 / 3)), [0])


def test_steps_stay_within_their_chunk_and_silence_is_zeros() -> None:
    b = np.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]])
    steps = steps_of(b, np.array([0, 1, 4]), np.arange(5), np.array([7, 7, 7, 8, 8]), np.arange(5))
    assert steps.next_token.tolist() == [1, 2, -1]
    assert steps.second_token.tolist() == [2, -1, -1]
    np.testing.assert_array_equal(steps.next, [[0.25, 0.75], [0, 0], [0, 0]])
    np.testing.assert_array_equal(steps.second, np.zeros((3, 2)))


def test_a_chains_coordinates_predict_and_compose_and_a_disks_do_not(
    chain: Seen, disk: Seen
) -> None:
    steps = chain.steps(chain.beliefs)
    groups = frequent(steps, np.ones(3, dtype=bool), 200)
    own = update_scores(steps, chain.p[:, groups], groups)
    assert own.prediction_r2 > 0.99
    # What is left is that b'' is a product of two steps, and their mean is fitted one by one.
    assert own.two_step_r2 > 0.97
    assert own.beyond_tokens > 0.5
    assert own.covered == 1
    around = in_triangle(disk)
    steps = disk.steps(around)
    groups = frequent(steps, np.ones(4, dtype=bool), 200)
    other = update_scores(steps, disk.p[:, groups], groups)
    assert other.prediction_r2 < 0.95
    assert other.two_step_r2 < 0.9
    with pytest.raises(ValueError, match="often enough"):
        update_scores(steps, disk.p[:, []], [])


def test_edits_of_a_mixture_are_one_and_of_a_softmax_are_none() -> None:
    rng = np.random.default_rng(2)
    vertices = np.column_stack([np.eye(3), np.zeros((3, 2))])
    v = rng.dirichlet(np.ones(6) / 2, 3)
    edited = Edited(
        np.arange(30), np.column_stack([np.zeros((30, 3)), rng.standard_normal((30, 2))])
    )

    def linear(tokens: np.ndarray, streams: np.ndarray) -> np.ndarray:
        return streams[..., :3] @ v

    def logits(tokens: np.ndarray, streams: np.ndarray) -> np.ndarray:
        raised = np.exp(6 * streams[..., :3] @ np.eye(3, 6) + streams[..., 3:] @ np.ones((2, 6)))
        return raised / raised.sum(-1, keepdims=True)

    own = mixture_under_edits(linear, edited, vertices, 25, 0)
    assert own.int_r2 == pytest.approx(1)
    assert own.context == pytest.approx(0, abs=1e-12)
    assert own.moved > 0.05
    assert mixture_under_edits(logits, edited, vertices, 25, 0).int_r2 < 0.9

    def by_token(tokens: np.ndarray, streams: np.ndarray) -> np.ndarray:
        moved = np.abs(np.sin(tokens))[:, None, None]
        return (1 - moved) * (streams[..., :3] @ v) + moved * np.eye(6)[0]

    assert mixture_under_edits(by_token, edited, vertices, 25, 0).context > 0.3


def test_steering_reaches_the_vertex_and_a_random_direction_does_not() -> None:
    rng = np.random.default_rng(3)
    vertices = np.column_stack([np.eye(3), np.zeros((3, 7))])
    v = rng.dirichlet(np.ones(5), 3)

    def predict(tokens: np.ndarray, streams: np.ndarray) -> np.ndarray:
        positive = np.clip(streams[..., :3], 1e-9, None)
        return positive / positive.sum(-1, keepdims=True) @ v

    written = [np.tile(vertex, (10, 1)) for vertex in vertices]
    near = [Edited(np.arange(10), np.zeros((10, 10))) for _ in range(3)]
    found = steering(predict, near, written, vertices, np.eye(10)[:, :3], v, 0)
    assert found.reached == pytest.approx(1, abs=1e-6)
    assert found.kl_after == pytest.approx(0, abs=1e-6)
    assert found.kl_before > 0.05
    assert max(found.random, found.random_in_span) < 0.8


def test_vertices_are_found_again() -> None:
    rng = np.random.default_rng(4)
    truth = rng.standard_normal((3, 5))
    b = rng.dirichlet(np.full(3, 0.4), 3_000)
    rows = b @ truth
    for vertices in (enclosing_vertices(rows, 3, ControlSettings()), projected_vertices(rows, 3)):
        found = barycentric(rows, vertices)
        np.testing.assert_allclose(found.sum(1), 1)
        assert agreement(b, found) > 0.97
        np.testing.assert_allclose(vertices[matched(b, found)], truth, atol=0.2)
    with pytest.raises(ValueError, match=r"span 2 dimensions, and 4 vertices need 3"):
        enclosing_vertices(rows, 4, ControlSettings())


def test_measures() -> None:
    p = np.array([[0.5, 0.5, 0.0]])
    assert divergence(p, p).tolist() == [0]
    assert divergence(p, np.array([0.25, 0.25, 0.5])) == pytest.approx(np.log(2))
    some = np.random.default_rng(0).dirichlet(np.ones(4) / 4, 5)
    pairs = [divergence(some, other) for other in some]
    np.testing.assert_allclose(all_divergences(some).T, pairs, atol=1e-12)
    assert np.isnan(r_squared(np.ones((3, 1)), np.ones((3, 1))))
    values = np.random.default_rng(0).standard_normal(400)
    low, high = interval(np.column_stack([values, np.ones(400)]), 0, 2_000)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert summed_by(np.array([1.0, 2.0, 4.0]), np.array([5, 9, 5])).tolist() == [5, 2]
