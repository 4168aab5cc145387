"""The model of a selected cluster: trained afresh at its k, or the one stage 1 left."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from aanet_assets.archetypes.data import Task
from aanet_assets.archetypes.extrema import laplacian_extrema
from aanet_assets.archetypes.network import load_aanet
from aanet_assets.files import replacing
from aanet_assets.settings import ExtremaSettings


def with_own_extrema(task: Task, settings: ExtremaSettings) -> Task:
    """The task with extrema of its rows, as many as its k."""
    train = task.rows.train
    try:
        found = laplacian_extrema(train, task.k, settings, task.seed)
    except ValueError:
        # Training goes on without the extrema term, as in stage 1, and its loss stays empty.
        found = np.zeros(0, dtype=np.int64)
    return replace(task, rows=replace(task.rows, extrema=train[found]))


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
