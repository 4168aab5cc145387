"""Checks of the models of the selected clusters."""

import json

import torch

from aanet_assets.archetypes.network import load_aanet
from aanet_assets.checks.finding import Finding, listed
from aanet_assets.checks.selection import Chosen, selected
from aanet_assets.paths import StudyPaths


def check_refits(paths: StudyPaths, n: int) -> list[Finding]:
    """Check the models of one n."""
    chosen = selected(paths, n)
    problems = [
        f"cluster {one.cluster_id}: {problem}"
        for one in chosen
        if (problem := _problem(paths, n, one))
    ]
    known = {one.file(paths, n, ".pt") for one in chosen}
    strays = sorted(path.name for path in set(paths.stage3(n).glob("*.pt")) - known)
    named = f" ({listed([*problems, *strays], 3)})" if problems or strays else ""
    return [
        Finding(
            "models",
            not problems and not strays,
            f"{len(chosen) - len(problems)} of {len(chosen)} selected clusters have a model with "
            f"finite weights or a reason why not, and {len(strays)} models belong to no selected "
            f"cluster{named}; all must, and none may",
        ),
        _all_trained(paths, n, chosen),
    ]


def _problem(paths: StudyPaths, n: int, chosen: Chosen) -> str | None:
    metadata, model = (chosen.file(paths, n, ending) for ending in ("_metadata.json", ".pt"))
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


def _all_trained(paths: StudyPaths, n: int, chosen: list[Chosen]) -> Finding:
    without = [one.cluster_id for one in chosen if not one.file(paths, n, ".pt").is_file()]
    named = f" (clusters {listed(without)}; their _metadata.json says why)" if without else ""
    return Finding(
        "all_trained",
        not without,
        f"{len(without)} of {len(chosen)} selected clusters have no model{named}, and so get no "
        "vertex samples; none should",
        blocking=False,
    )
