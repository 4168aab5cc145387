"""Processes of files: the benchmarks have their known properties; what is none is refused."""

import json
import re
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from aanet_assets.science.toy.process import PROCESSES, UnionProcess
from aanet_assets.science.toy.process_file import process_of, read_process
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.obeyed import settings_values
from aanet_assets.study.settings import TruthSettings
from aanet_assets_tests.conftest import PROJECT
from aanet_assets_tests.small import small_study

BENCHMARKS = PROJECT / "data/inputs/processes/benchmarks.json"
COIN = {"kind": "coin", "transitions": [[[0.5]], [[0.5]]]}


def written(folder: Path, content: object) -> Path:
    path = folder / "own.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def alone(kind: str) -> UnionProcess:
    """One benchmark, which speaks all the time."""
    (chain,) = [c for c in read_process(BENCHMARKS).components if c.kind == kind]
    return UnionProcess([chain], 0.0)


def bits(kind: str) -> np.ndarray:
    return alone(kind).sample(200, 60, seed=0)


def test_golden_mean_has_no_two_zeros_in_a_row():
    found = bits("golden_mean")
    assert not ((found[:, 1:] == 0) & (found[:, :-1] == 0)).any()
    assert (found == 0).mean() == pytest.approx(1 / 3, abs=0.02)


def test_even_has_even_runs_of_ones_between_zeros():
    for document in bits("even"):
        zeros = np.flatnonzero(document == 0)
        assert all((after - before - 1) % 2 == 0 for before, after in pairwise(zeros))


def test_nemo_forgets_its_phase_only_at_a_run_of_ones():
    text = ["".join(map(str, document)) for document in bits("nemo")]
    # State B, which a first zero leads to, is followed by a zero: never 1 0 1.
    assert not any("101" in document for document in text)


def test_zero_one_random_repeats_zero_one_and_a_coin():
    for document in bits("zero_one_random"):
        phases = [document[phase:] for phase in range(3)]
        assert any(
            (own[: len(own) // 3 * 3].reshape(-1, 3)[:, :2] == [0, 1]).all() for own in phases
        )


def test_random_random_xor_adds_up_in_one_of_three_phases():
    for document in bits("random_random_xor"):
        triples = [document[phase:][: (60 - phase) // 3 * 3].reshape(-1, 3) for phase in range(3)]
        assert any((own[:, 2] == own[:, 0] ^ own[:, 1]).all() for own in triples)


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        ("golden_mean", 2 / 3),
        ("even", 2 / 3),
        ("zero_one_random", 1 / 3),
        ("random_random_xor", 2 / 3),
    ],
)
def test_entropy_rates_are_the_known_ones(kind: str, rate: float):
    """In bits; once the state is known, as it all but is after 60 letters."""
    process = alone(kind)
    p = process.predictive(process.sample(2_000, 60, seed=1))[:, -1]
    entropy = -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1).mean()
    assert entropy == pytest.approx(rate, abs=0.03)


def test_beliefs_are_those_of_all_paths_of_hidden_states(tmp_path: Path):
    rng = np.random.default_rng(0)
    transitions = rng.dirichlet(np.ones(6), 3).reshape(3, 2, 3).transpose(1, 0, 2)
    chain = {"kind": "own", "transitions": transitions.tolist()}
    process = read_process(written(tmp_path, {"components": [chain]}))
    (component,) = process.components
    np.testing.assert_allclose(
        component.stationary @ transitions.sum(axis=0), component.stationary, atol=1e-12
    )
    letters = process.sample(3, 4, seed=2)
    beliefs = process.beliefs(letters).belief
    for document, belief in zip(letters, beliefs, strict=True):
        weights = np.zeros(3)
        for path in product(range(3), repeat=5):
            steps = zip(document, pairwise(path), strict=True)
            weights[path[-1]] += component.stationary[path[0]] * np.prod(
                [transitions[letter][move] for letter, move in steps]
            )
        np.testing.assert_allclose(belief[-1], weights / weights.sum(), atol=1e-12)


def test_a_single_component_never_switches(tmp_path: Path):
    process = read_process(written(tmp_path, {"components": [COIN]}))
    np.testing.assert_allclose(process.predictive(process.sample(2, 5, seed=0)), 0.5)


def test_shipped_processes_have_their_names():
    assert process_of("union7") is PROCESSES["union7"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "(it is [])"),
        ({"components": []}, "1 to 26 components, not 0"),
        ({"components": [COIN], "switch_rate": 0.1}, "a single component has none to switch to"),
        ({"components": [COIN, COIN], "switch_rate": 1}, "switch_rate is 1"),
        ({"components": [COIN], "letters": 2}, "letters: Extra inputs are not permitted"),
        ({"components": [COIN | {"kind": "A b"}]}, "components.0.kind"),
        ({"components": [COIN | {"transitions": []}]}, "one matrix per letter"),
        ({"components": [COIN | {"transitions": [[[0.5, 0.5]]]}]}, "one matrix per letter"),
        ({"components": [COIN | {"transitions": [[[0.5]], [[0.4]]]}]}, "sum to 0.9; they must"),
        ({"components": [COIN | {"transitions": [[[1.5]], [[-0.5]]]}]}, "[1, 0, 0] is -0.5"),
        ({"components": [COIN | {"transitions": [[[float("nan")]]]}]}, "is nan"),
        (
            {"components": [COIN | {"transitions": [[[1, 0], [0, 1]]]}]},
            "groups that never reach each other",
        ),
    ],
)  # fmt: skip
def test_what_is_no_process_is_refused_in_a_sentence(tmp_path: Path, content: object, said: str):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        read_process(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there():
    with pytest.raises(ValueError, match=r"nothing\.json is not there: .* union7, union22"):
        process_of("nothing.json")
    with pytest.raises(ValueError, match="process"):
        TruthSettings(process="mine")


def test_another_content_under_the_same_name_is_another_corpus(home: Path, tmp_path: Path):
    path = written(tmp_path, {"components": [COIN]})
    study = small_study(truth=TruthSettings(process=str(path)))
    before = settings_values(study, corpus)
    written(tmp_path, {"components": [COIN | {"kind": "other"}]})
    assert settings_values(study, corpus) != before
