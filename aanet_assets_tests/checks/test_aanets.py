"""Damaged stacks of AANets."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet.data import TrainedAANet
from aanet_assets.steps.aanets import EXPORT, STACK, aanet_exports, aanet_models
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, edit_stack
from aanet_assets_tests.outputs import findings

N, K = 7, 3
MODELS, EXPORTS = aanet_models.at(n=N, k=K), aanet_exports.at(n=N, k=K)


def edit(study: Study, change: Callable[[TrainedAANet], TrainedAANet | None], *ids: int) -> None:
    edit_stack(STACK.under(study.paths.root, n=N, k=K), change, *ids)


def spoiled(model: TrainedAANet) -> TrainedAANet:
    weights = {name: np.array(array) for name, array in model.weights.items()}
    weights["decoder_layers.1.bias"][2] = np.nan
    return replace(model, weights=weights)


def failed(model: TrainedAANet) -> TrainedAANet:
    reason = "the loss was not finite at step 4"
    return replace(
        model, status="failed", reason=reason, weights={}, losses=None, heldout=None
    )  # fmt: skip


def checked(study: Study) -> dict[str, str]:
    return complaints(study, MODELS)


def problems_of_exports(study: Study, export_pt: bool = True) -> str:
    aanet = study.aanet.model_copy(update={"export_pt": export_pt})
    other = study.model_copy(update={"aanet": aanet})
    return complaints(other, EXPORTS).get("exported", "")


def test_good_models_pass(study: Study) -> None:
    assert checked(study) == {}
    said = findings(study, MODELS)["complete"].said
    assert said.startswith("7 clusters have a status (7 ok); each of 7 must")


def test_a_cluster_is_missing(study: Study) -> None:
    edit(study, lambda model: None, 6)
    assert list(checked(study)) == ["complete"]


def test_models_of_another_k(study: Study) -> None:
    edit(study, lambda model: replace(model, k=4), 2)
    assert list(checked(study)) == ["complete"]


def test_a_status_that_does_not_exist(study: Study) -> None:
    edit(study, lambda model: replace(model, status="fine", weights={}, reason="why not"), 2)
    assert "1 fine, 6 ok" in checked(study)["complete"]


@pytest.mark.parametrize(
    "change",
    [spoiled, lambda model: replace(model, weights={})],
    ids=["not finite", "none"],
)
def test_weights_of_a_model_that_is_ok(study: Study, change) -> None:
    edit(study, change, 2)
    assert "1 of 7 models" in checked(study)["weights_finite"]


def test_a_model_that_failed_without_a_reason(study: Study) -> None:
    edit(study, lambda model: replace(failed(model), reason=""), 2)
    assert list(checked(study)) == ["weights_finite"]


def test_a_failed_model_is_no_problem(study: Study) -> None:
    edit(study, failed, 2, 3)
    assert checked(study) == {}
    assert "2 failed, 5 ok" in findings(study, MODELS)["complete"].said


def test_good_exports_pass(study: Study) -> None:
    assert problems_of_exports(study) == ""


def test_no_export_of_a_model_that_failed_is_as_it_must_be(study: Study) -> None:
    edit(study, failed, 2)
    EXPORT.under(study.paths.root, n=N, cluster_id=2, k=K).unlink()
    assert problems_of_exports(study) == ""


def test_an_export_is_missing(study: Study) -> None:
    EXPORT.under(study.paths.root, n=N, cluster_id=5, k=K).unlink()
    assert "cluster 5: there is no file" in problems_of_exports(study)


def test_an_export_of_a_model_that_failed(study: Study) -> None:
    edit(study, failed, 5)
    assert "cluster 5: there must be no file" in problems_of_exports(study)


def test_exports_where_none_were_asked_for(study: Study) -> None:
    assert "7 models are exported as .pt files, 0 must be" in problems_of_exports(study, False)


def test_an_export_that_is_no_model(study: Study) -> None:
    EXPORT.under(study.paths.root, n=N, cluster_id=0, k=K).write_bytes(b"nothing")
    assert "is not an AANet's state dict" in problems_of_exports(study)


def test_an_export_that_is_not_finite(study: Study) -> None:
    path = EXPORT.under(study.paths.root, n=N, cluster_id=0, k=K)
    state = torch.load(path, weights_only=True)
    state["encoder_layers.0.bias"][0] = torch.inf
    torch.save(state, path)
    assert "cluster 0: weights are not finite" in problems_of_exports(study)


def test_all_failed(study: Study) -> None:
    edit(study, failed, *range(N))
    said = checked(study)
    assert said == {
        "some_trained": "training failed for 7 of 7 trainable clusters, for example because the "
        "loss was not finite at step 4; it must succeed for at least one"
    }


def test_clusters_without_rows_enough_are_not_trainable(study: Study) -> None:
    edit(study, failed, 0)
    edit(study, lambda model: replace(failed(model), status="insufficient_samples"), *range(1, N))
    assert "1 of 1 trainable" in checked(study)["some_trained"]
    edit(study, lambda model: replace(model, status="empty"), 0)
    assert checked(study) == {}


@pytest.mark.parametrize(("explained", "passes"), [(-0.25, False), (0.0, True), (np.nan, True)])
def test_worse_than_the_mean_only_warns(study: Study, explained: float, passes: bool) -> None:
    def worse(model: TrainedAANet) -> TrainedAANet:
        return replace(model, heldout={**(model.heldout or {}), "explained_variance": explained})

    edit(study, worse, 1, 4)
    edit(study, lambda model: replace(model, heldout=None), 5)
    found = [finding for finding in findings(study, MODELS).values() if not finding.passed]
    if passes:
        assert not found
    else:
        assert [(finding.name, finding.blocking) for finding in found] == [
            ("beats_the_mean", False)
        ]
        assert "2 of 6 models" in found[0].said
        assert "(clusters 1, 4; at worst -0.25)" in found[0].said
