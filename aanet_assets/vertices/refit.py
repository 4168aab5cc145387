"""The model of a selected cluster: trained afresh at its k, or the one stage 1 left."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aanet_assets.archetypes.data import ClusterRows, TrainedAANet
from aanet_assets.archetypes.extrema import laplacian_extrema
from aanet_assets.archetypes.network import load_aanet
from aanet_assets.archetypes.train import train_stack
from aanet_assets.files import replacing
from aanet_assets.settings import AANetSettings, ExtremaSettings


class Refit(NamedTuple):
    """What to train."""

    rows: ClusterRows
    k: int
    seed: int


def retrain(
    refits: Sequence[Refit], extrema: ExtremaSettings, settings: AANetSettings, device: str
) -> list[TrainedAANet]:
    """Train each cluster at its k, with extrema of its own; those of one k train as a stack."""
    trained: dict[int, TrainedAANet] = {}
    for k in sorted({refit.k for refit in refits}):
        places = [place for place, refit in enumerate(refits) if refit.k == k]
        rows = [_with_own_extrema(refits[place], extrema) for place in places]
        models = train_stack(rows, k, settings, [refits[place].seed for place in places], device)
        trained.update(zip(places, models, strict=True))
    return [trained[place] for place in range(len(refits))]


def _with_own_extrema(refit: Refit, extrema: ExtremaSettings) -> ClusterRows:
    train = refit.rows.train
    try:
        found = laplacian_extrema(train, refit.k, extrema, refit.seed)
    except ValueError:
        # Training goes on without the extrema term, as in stage 1, and its loss stays empty.
        found = np.zeros(0, dtype=np.int64)
    return replace(refit.rows, extrema=train[found])


def copy_stage1_model(source: Path, target: Path) -> None:
    """Take over a stage 1 model, having made sure that it is one.

    Raises:
        FileNotFoundError: stage 1 left no such model; says what to do.
    """
    if not source.is_file():
        raise FileNotFoundError(
            f"refit.mode is 'stage1' and {source} is not there: materialise aanet_models with "
            "aanet.export_pt on, or set refit.mode to 'retrain'"
        )
    load_aanet(source)
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
