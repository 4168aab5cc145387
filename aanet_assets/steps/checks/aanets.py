"""Checks of the AANets of all clusters at one k."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from aanet_assets.science.aanet.data import TrainedAANet
from aanet_assets.science.aanet.export import load_aanet, load_stack
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding

STATUSES = ("ok", "insufficient_samples", "empty", "failed")
_LOADED = 4


def check_models(stack: Path, n: int, k: int) -> list[Finding]:
    """Check the stack of one (n, k)."""
    models = load_stack(stack)
    return [
        _complete(models, n, k),
        _weights(models),
        _some_trained(models),
        _beats_the_mean(models),
    ]


def _ok(models: Sequence[TrainedAANet]) -> list[TrainedAANet]:
    return [model for model in models if model.status == "ok"]


def _counts(models: Sequence[TrainedAANet]) -> str:
    found = [model.status for model in models]
    return ", ".join(f"{found.count(status)} {status}" for status in sorted(set(found)))


def _complete(models: Sequence[TrainedAANet], n: int, k: int) -> Finding:
    whole = [(model.cluster_id, model.k) for model in models] == [(i, k) for i in range(n)]
    strange = [model.cluster_id for model in models if model.status not in STATUSES]
    return Finding(
        "complete",
        whole and not strange,
        f"{len(models)} clusters have a status ({_counts(models)}); each of {n} must have one at "
        f"k {k}, out of {', '.join(STATUSES)}",
    )


def _weights(models: Sequence[TrainedAANet]) -> Finding:
    def whole(model: TrainedAANet) -> bool:
        if model.status != "ok":
            return not model.weights and bool(model.reason)
        arrays = model.weights.values()
        return bool(model.weights) and all(np.isfinite(array).all() for array in arrays)

    wrong = [model.cluster_id for model in models if not whole(model)]
    named = f" (clusters {listed(wrong)})" if wrong else ""
    return Finding(
        "weights_finite",
        not wrong,
        f"{len(wrong)} of {len(models)} models have weights that are not finite, or neither "
        f"weights nor a reason{named}; none may",
    )


def check_exports(stack: Path, files: Sequence[Path], export_pt: bool) -> Finding:
    """Check the full-width files of one (n, k): with `export_pt` those of its trained models."""
    models = load_stack(stack) if export_pt else []
    expected = {model.cluster_id for model in _ok(models)}
    there = {i for i, file in enumerate(files) if file.is_file()}
    problems = [f"cluster {i}: there must be no file" for i in sorted(there - expected)]
    problems += [f"cluster {i}: there is no file" for i in sorted(expected - there)]
    both = sorted(expected & there)
    # A look at a few: reading all of a large study takes longer than its metrics.
    for cluster_id in both[:: max(1, len(both) // _LOADED)]:
        try:
            state = load_aanet(files[cluster_id]).state_dict()
        except ValueError as error:
            problems.append(str(error))
            continue
        if not all(bool(torch.isfinite(weight).all()) for weight in state.values()):
            problems.append(f"cluster {cluster_id}: weights are not finite")
    named = f" ({listed(problems, 3)})" if problems else ""
    return Finding(
        "exported",
        not problems,
        f"{len(there)} models are exported as .pt files, {len(expected)} must be, and "
        f"{len(problems)} problems were found{named}",
    )


def _some_trained(models: Sequence[TrainedAANet]) -> Finding:
    failed = [model for model in models if model.status == "failed"]
    trainable = len(_ok(models)) + len(failed)
    reason = f", for example because {failed[0].reason}" if failed else ""
    return Finding(
        "some_trained",
        not trainable or len(failed) < trainable,
        f"training failed for {len(failed)} of {trainable} trainable clusters{reason}; it must "
        "succeed for at least one",
    )


def _beats_the_mean(models: Sequence[TrainedAANet]) -> Finding:
    explained = {
        model.cluster_id: model.heldout["explained_variance"]
        for model in _ok(models)
        if model.heldout is not None
    }
    worse = sorted((value, i) for i, value in explained.items() if value < 0)
    named = (
        f" (clusters {listed(i for _, i in worse)}; at worst {worse[0][0]:.3g})" if worse else ""
    )
    return Finding(
        "beats_the_mean",
        not worse,
        f"{len(worse)} of {len(explained)} models have an explained variance below 0 on held-out "
        f"rows, and so predict worse than the mean of the training rows{named}; none should",
        blocking=False,
    )
