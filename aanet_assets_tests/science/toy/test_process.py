"""Exact beliefs against brute force over hidden paths, and against the qubit's own formulas."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aanet_assets.science.toy.process import (
    PRODUCT5,
    UNION7,
    UNION22,
    ProductProcess,
    UnionProcess,
    bloch,
    mess,
    tom_quantum,
)

CHAINS = ((2, 0.20, 0.75), (3, 0.05, 0.6))  # n, x, a
SWITCH = 0.15
SMALL = UnionProcess([mess(*chain) for chain in CHAINS], SWITCH)
HIDDEN = [(c, s) for c, (n, _, _) in enumerate(CHAINS) for s in range(n)]
LETTER_OF_STATE = {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3, (1, 2): 4}


def emission(state, letter):
    """Probability of a letter in a hidden state, from the definition of the chain."""
    n, _, a = CHAINS[state[0]]
    if LETTER_OF_STATE[state] == letter:
        return a
    belongs_to = 0 if letter < 2 else 1
    return (1 - a) / (n - 1) if belongs_to == state[0] else 0.0


def move(old, new):
    """Probability of a hidden state after another, switches included."""
    n, x, _ = CHAINS[new[0]]
    if old[0] != new[0]:
        return SWITCH / n  # one other component, uniform stationary state
    return (1 - SWITCH) * (1 - (n - 1) * x if old == new else x)


def path_probability(path, letters):
    probability = 0.5 / CHAINS[path[0][0]][0]
    for i, (state, letter) in enumerate(zip(path, letters, strict=True)):
        probability *= (move(path[i - 1], state) if i else 1.0) * emission(state, letter)
    return probability


def brute_force(letters):
    """Probability of the letters together with each last hidden state, over all hidden paths."""
    joint = dict.fromkeys(HIDDEN, 0.0)
    for path in itertools.product(HIDDEN, repeat=len(letters)):
        joint[path[-1]] += path_probability(path, letters)
    return joint


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_beliefs_are_the_posterior_over_hidden_states(letters):
    joint = brute_force(letters)
    total = sum(joint.values())
    found = SMALL.beliefs(np.array([letters]))
    speaker = found.component[0, -1]
    for (component, state), probability in joint.items():
        expected = found.belief[0, -1, state] if component == speaker else 0.0
        assert probability / total == pytest.approx(expected, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_predictive_is_the_brute_force_marginal(letters):
    total = sum(brute_force(letters).values())
    expected = [sum(brute_force([*letters, v]).values()) / total for v in range(5)]
    np.testing.assert_allclose(SMALL.predictive(np.array([letters]))[0, -1], expected, atol=1e-12)


def test_first_letter_is_the_brute_force_marginal():
    expected = [sum(brute_force([v]).values()) for v in range(5)]
    np.testing.assert_allclose(SMALL.first_letter, expected, atol=1e-12)


def test_sampled_documents_have_their_brute_force_probability():
    n = 200_000
    documents = SMALL.sample(n, 3, seed=0)
    counts = np.bincount(documents @ [25, 5, 1], minlength=125)
    expected = np.array(
        [sum(brute_force(letters).values()) for letters in itertools.product(range(5), repeat=3)]
    )
    assert expected.sum() == pytest.approx(1)
    standard_error = np.sqrt(n * expected * (1 - expected))
    assert (np.abs(counts - n * expected) < 5 * standard_error).all()


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.1, 5),
    st.floats(0.1, 5),
    st.lists(st.integers(0, 3), min_size=1, max_size=16),
)
def test_tom_quantum_follows_the_weak_measurements_of_a_qubit(alpha, beta, letters):
    if abs(alpha - beta) < 0.05:  # nearly complete measurements: outcomes of probability zero
        beta = alpha + 0.05
    s = 2 * alpha * beta / (alpha**2 + beta**2)
    c = (alpha**2 - beta**2) / (alpha**2 + beta**2)
    process = UnionProcess([tom_quantum(alpha, beta), mess(2, 0.1, 0.8)], switch_rate=0.0)
    found = process.beliefs(np.array([letters])).belief[0]
    predicted = process.predictive(np.array([letters]))[0]
    x, z = 0.0, 0.0
    for position, letter in enumerate(letters):
        r = s if letter % 2 == 0 else -s
        if letter < 2:
            x, z = c * x / (1 + r * z), (z + r) / (1 + r * z)
        else:
            x, z = (x + r) / (1 + r * x), c * z / (1 + r * x)
        np.testing.assert_allclose(found[position], [1, x, z], atol=1e-6)
        p = np.array([1 + s * z, 1 - s * z, 1 + s * x, 1 - s * x, 0, 0]) / 4
        np.testing.assert_allclose(predicted[position], p, atol=1e-6)


_PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 0.95), st.lists(st.integers(0, 5), min_size=1, max_size=16))
def test_bloch_follows_the_density_matrix_of_a_qubit(strength, letters):
    process = UnionProcess([bloch(strength), mess(2, 0.1, 0.8)], switch_rate=0.0)
    found = process.beliefs(np.array([letters]))
    predicted = process.predictive(np.array([letters]))[0]
    # The measurement operators are square roots of (1 + r sigma) / 2, with r = +-strength.
    high, low = (np.sqrt((1 + r) / 2) for r in (strength, -strength))
    operators = [
        (high + low) / 2 * np.eye(2) + sign * (high - low) / 2 * axis
        for axis in _PAULI
        for sign in (1, -1)
    ]
    state = np.eye(2) / 2
    for position, letter in enumerate(letters):
        state = operators[letter] @ state @ operators[letter].conj().T
        state = state / np.trace(state)
        b = [np.trace(state @ axis).real for axis in _PAULI]
        np.testing.assert_allclose(found.belief[0, position], [1, *b], atol=1e-6)
        p = [np.trace(m @ state @ m.conj().T).real / 3 for m in operators]
        np.testing.assert_allclose(predicted[position], [*p, 0, 0], atol=1e-6)


def test_beliefs_of_tom_quantum_equal_the_matrix_product():
    component = UNION7.components[5]
    first = UNION7.component_of_letter.tolist().index(5)
    symbols = [0, 3, 2, 2, 1, 0]
    product = component.stationary
    for symbol in symbols:
        product = product @ component.transitions[symbol]
    found = UNION7.beliefs(np.array([symbols]) + first).belief[0, -1]
    np.testing.assert_allclose(found[:3], product / (product @ component.readout), atol=1e-12)
    assert found[3] == 0


def test_union7_is_a_process_of_probabilities():
    letters = UNION7.sample(2_000, 16, seed=1)
    assert letters.shape == (2_000, 16)
    predictive = UNION7.predictive(letters)
    assert (predictive >= 0).all()
    np.testing.assert_allclose(predictive.sum(-1), 1, atol=1e-12)
    beliefs = UNION7.beliefs(letters)
    for i, component in enumerate(UNION7.components):
        belief = beliefs.belief[beliefs.component == i]
        n_states = len(component.stationary)
        assert (belief[:, n_states:] == 0).all()
        if component.true_k is None:
            assert (np.linalg.norm(belief[:, 1:3], axis=1) <= 1 + 1e-9).all()
        else:
            np.testing.assert_allclose(belief.sum(1), 1, atol=1e-12)


def test_sampled_letters_come_as_often_as_predicted():
    letters = UNION7.sample(20_000, 8, seed=2)
    predicted = UNION7.predictive(letters)[:, :-1].reshape(-1, 23)
    seen = np.bincount(letters[:, 1:].ravel(), minlength=23)
    spread = np.sqrt((predicted * (1 - predicted)).sum(0))
    assert (np.abs(seen - predicted.sum(0)) < 5 * spread).all()


def test_bayes_loss_is_what_the_exact_prediction_costs_on_samples():
    letters = UNION7.sample(20_000, 8, seed=3)
    predicted = UNION7.predictive(letters[:, :-1])
    cost = -np.log(np.take_along_axis(predicted, letters[:, 1:, None], axis=-1)[..., 0])
    assert cost.mean() == pytest.approx(UNION7.bayes_loss(letters[:, :-1]), abs=0.01)


def test_without_switches_a_document_keeps_its_component():
    process = UnionProcess(UNION7.components, switch_rate=0.0)
    component = process.beliefs(process.sample(500, 12, seed=0)).component
    assert (component == component[:, :1]).all()
    assert len(np.unique(component)) == 7
    assert np.isfinite(process.bayes_loss(process.sample(50, 12, seed=0)))


def test_names_tell_component_and_letter():
    assert UNION7.letters[:5] == ("a1", "a2", "a3", "b1", "b2")
    assert UNION7.names[3:6] == ("mess2_d", "mess4_e", "tom_quantum_f")
    assert [c.true_k for c in UNION7.components] == [3, 3, 3, 2, 4, None, None]
    for letter, component in zip(UNION7.letters, UNION7.component_of_letter, strict=True):
        assert UNION7.names[component].endswith(f"_{letter[0]}")


def test_sampling_depends_on_the_seed_alone():
    np.testing.assert_array_equal(UNION7.sample(50, 16, seed=4), UNION7.sample(50, 16, seed=4))
    assert (UNION7.sample(50, 16, seed=4) != UNION7.sample(50, 16, seed=5)).any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mess(1, 0.1, 0.5), "n is 1; a chain needs at least 2 states"),
        (lambda: mess(3, 0.5, 0.5), "x is 0.5; with 3 states it must lie between 0 and 1/2"),
        (lambda: mess(3, 0.0, 0.5), "x is 0.0"),
        (lambda: mess(3, float("nan"), 0.5), "x is nan"),
        (lambda: mess(3, 0.1, 1.0), "a is 1.0; it must lie between 0 and 1"),
        (lambda: tom_quantum(1.0, 1.0), "alpha is 1.0 and beta is 1.0; both must be positive"),
        (lambda: tom_quantum(-1.0, 2.0), "alpha is -1.0"),
        (lambda: tom_quantum(1.0, float("inf")), "beta is inf"),
        (lambda: bloch(1.0), "strength is 1.0; it must lie between 0 and 1"),
        (lambda: UnionProcess([], 0.1), "has 1 to 26 components, not 0"),
        (lambda: UnionProcess([mess(2, 0.1, 0.8)], 0.1), "switch_rate is 0.1; a single component"),
        (lambda: UnionProcess(UNION7.components, 1.0), "switch_rate is 1.0"),
        (lambda: UNION7.beliefs(np.array([[0, 23]])), "letters 0 to 22"),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_union22_has_sixteen_simplices_and_six_decoys():
    assert [c.true_k for c in UNION22.components] == (
        4 * [2] + 5 * [3] + 4 * [4] + 3 * [5] + 6 * [None]
    )
    assert len(UNION22.letters) == 84
    beliefs = UNION22.beliefs(UNION22.sample(2_000, 16, seed=1))
    for i, component in enumerate(UNION22.components):
        own = beliefs.belief[beliefs.component == i][:, : len(component.stationary)]
        np.testing.assert_allclose(own @ component.readout, 1)
        if component.true_k is None:
            assert (np.square(own[:, 1:]).sum(axis=1) <= 1 + 1e-9).all()
        else:
            assert own.min() >= 0


PRODUCT = ProductProcess([mess(*chain) for chain in CHAINS])
PAIRS = list(itertools.product(range(2), range(3)))  # hidden states, and symbols


def product_joint(letters):
    """Probability of letters of `PRODUCT` with each last pair of hidden states, over all paths."""
    joint = dict.fromkeys(PAIRS, 0.0)
    for path in itertools.product(PAIRS, repeat=len(letters)):
        probability = 1.0
        for part, (n, x, a) in enumerate(CHAINS):
            for i, letter in enumerate(letters):
                state = path[i][part]
                stays = i and path[i - 1][part] == state
                probability *= (1 - (n - 1) * x if stays else x) if i else 1 / n
                probability *= a if PAIRS[letter][part] == state else (1 - a) / (n - 1)
        joint[path[-1]] += probability
    return joint


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_a_product_has_the_beliefs_and_predictions_of_all_its_chains(letters):
    joint = product_joint(letters)
    total = sum(joint.values())
    for part, factor in enumerate(PRODUCT.targets(np.array([letters])).factors):
        marginal = np.zeros(CHAINS[part][0])
        for pair, probability in joint.items():
            marginal[pair[part]] += probability / total
        assert factor.known.all()
        assert (factor.name, factor.true_k) == (PRODUCT.names[part], CHAINS[part][0])
        np.testing.assert_allclose(factor.values[-1], marginal, atol=1e-12)
    expected = [sum(product_joint([*letters, v]).values()) / total for v in range(6)]
    np.testing.assert_allclose(PRODUCT.predictive(np.array([letters]))[0, -1], expected, atol=1e-12)
    first = [sum(product_joint([v]).values()) for v in range(6)]
    np.testing.assert_allclose(PRODUCT.first_letter, first, atol=1e-12)


def test_the_letters_of_a_product_say_each_components_symbol():
    assert PRODUCT.letters == ("a1b1", "a1b2", "a1b3", "a2b1", "a2b2", "a2b3")
    assert PRODUCT.names == ("mess2_a", "mess3_b")
    assert len(PRODUCT5.letters) == 4 * 4 * 3 * 3 * 3
    assert [c.true_k for c in PRODUCT5.components] == [None, None, 3, 3, 3]
    with pytest.raises(ValueError, match="letters 0 to 5"):
        PRODUCT.targets(np.array([[6]]))


def test_letters_of_a_product_come_as_often_as_predicted_and_cost_its_bayes_loss():
    letters = PRODUCT.sample(20_000, 8, seed=2)
    predicted = PRODUCT.predictive(letters[:, :-1])
    seen = np.bincount(letters[:, 1:].ravel(), minlength=6)
    spread = np.sqrt((predicted * (1 - predicted)).sum((0, 1)))
    assert (np.abs(seen - predicted.sum((0, 1))) < 5 * spread).all()
    cost = -np.log(np.take_along_axis(predicted, letters[:, 1:, None], axis=-1))
    assert cost.mean() == pytest.approx(PRODUCT.bayes_loss(letters[:, :-1]), abs=0.01)
    np.testing.assert_array_equal(letters, PRODUCT.sample(20_000, 8, seed=2))
