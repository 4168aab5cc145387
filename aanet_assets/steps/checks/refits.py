"""Checks of the models of the selected clusters."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from aanet_assets.science.aanet.export import load_aanet
from aanet_assets.science.vertices.selected import Chosen
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding


def check_refits(
    folder: Path, chosen: Sequence[Chosen], files: Sequence[tuple[Path, Path]]
) -> list[Finding]:
    """Check the models in a folder, given each selected cluster's files of model and metadata."""
    problems = [
        f"cluster {one.cluster_id}: {problem}"
        for one, own in zip(chosen, files, strict=True)
        if (problem := _problem(one, *own))
    ]
    known = {model for model, _ in files}
    strays = sorted(path.name for path in set(folder.glob("*.pt")) - known)
    named = f" ({listed([*problems, *strays], 3)})" if problems or strays else ""
    return [
        Finding(
            "models",
            not problems and not strays,
            f"{len(chosen) - len(problems)} of {len(chosen)} selected clusters have a model with "
            f"finite weights or a reason why not, and {len(strays)} models belong to no selected "
            f"cluster{named}; all must, and none may",
        ),
        _all_trained(chosen, files),
    ]


def _problem(chosen: Chosen, model: Path, metadata: Path) -> str | None:
    if not metadata.is_file():
        return f"{metadata.name} is not there"
    described = json.loads(metadata.read_text(encoding="utf-8"))
    if described["status"] != "ok":
        if model.exists():
            return f"status {described['status']}, and yet a model"
        return None if described["reason"] else f"status {described['status']} without a reason"
    try:
        network = load_aanet(model)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    if len(network.vertices) != chosen.k:
        return f"the model has {len(network.vertices)} vertices, k is {chosen.k}"
    finite = all(bool(torch.isfinite(weight).all()) for weight in network.state_dict().values())
    return None if finite else "the model's weights are not finite"


def _all_trained(chosen: Sequence[Chosen], files: Sequence[tuple[Path, Path]]) -> Finding:
    pairs = zip(chosen, files, strict=True)
    without = [one.cluster_id for one, (model, _) in pairs if not model.is_file()]
    named = f" (clusters {listed(without)}; their _metadata.json says why)" if without else ""
    return Finding(
        "all_trained",
        not without,
        f"{len(without)} of {len(chosen)} selected clusters have no model{named}, and so get no "
        "vertex samples; none should",
        blocking=False,
    )
