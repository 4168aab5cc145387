"""Checks of predictions find damage, and models that do not predict."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aanet_assets.steps.predictions import (
    PREDICTION_FIT,
    PREDICTIONS,
    TOKEN_GROUPS,
    predictions,
    token_groups,
)
from aanet_assets.study.study import Study
from aanet_assets_tests.outputs import change, findings

PARTITION = predictions.at(shard=2)


def test_sound_predictions_pass(study: Study) -> None:
    found = findings(study, PARTITION)
    assert all(each.passed for each in found.values())
    assert found.keys() == {*predictions.blocking, *predictions.warning}
    assert findings(study, token_groups.at())["groups"].passed


def test_a_file_that_is_none(study: Study) -> None:
    PREDICTIONS.under(study.paths.root, shard=2).write_bytes(b"nothing")
    found = findings(study, PARTITION)
    assert found.keys() == {"structure"}
    assert not found["structure"].passed


@pytest.mark.parametrize("name", ["probabilities", "losses"])
def test_rows_that_are_missing(study: Study, name: str) -> None:
    path = PREDICTIONS.under(study.paths.root, shard=2)
    arrays = load_file(path)
    save_file({**arrays, name: arrays[name][:-1].copy()}, path)
    found = findings(study, PARTITION)
    assert found.keys() == {"structure"}
    assert not found["structure"].passed


@pytest.mark.parametrize("wrong", [np.nan, -0.5, 0.5])
def test_rows_that_are_no_distributions(study: Study, wrong: float) -> None:
    path = PREDICTIONS.under(study.paths.root, shard=2)
    arrays = load_file(path)
    arrays["probabilities"][3, :2] += np.array([wrong, max(-wrong, 0)], np.float16)
    save_file(arrays, path)
    found = findings(study, PARTITION)["distributions"]
    assert not found.passed
    assert found.said.startswith("1 of ")


def test_a_model_that_predicts_no_better_than_frequency_warns(study: Study) -> None:
    change(study, PARTITION, PREDICTION_FIT, lambda table: table.assign(cross_entropy=9.0))
    found = findings(study, PARTITION)["predicts"]
    assert not found.passed
    assert not found.blocking
    assert "cross-entropy is 9.000 nats" in found.said


def test_groups_with_a_gap(study: Study) -> None:
    change(study, token_groups.at(), TOKEN_GROUPS, lambda table: table.assign(group_id=1))
    assert "are in 1 groups" in findings(study, token_groups.at())["groups"].said
