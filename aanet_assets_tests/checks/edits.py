"""How tests damage files, and how they read what the checks say of it."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save_file

from aanet_assets.science.aanet.data import TrainedAANet
from aanet_assets.science.aanet.export import load_stack, save_stack
from aanet_assets.storage.step import Finding, Partition
from aanet_assets.study.study import Study
from aanet_assets_tests.outputs import findings


def edit_arrays(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change the arrays of a safetensors file in place; its metadata stays."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    change(arrays)
    save_file(arrays, path, metadata)


def edit_stack(
    path: Path, change: Callable[[TrainedAANet], TrainedAANet | None], *cluster_ids: int
) -> None:
    """Change the models of some clusters; where the change gives None, a model is left out."""
    models = load_stack(path)
    changed = [change(model) if model.cluster_id in cluster_ids else model for model in models]
    save_stack(path, [model for model in changed if model is not None])


def put(column: str, value: object, row: int = 0) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A change of one cell."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].astype(object)
        values.iloc[row] = value
        return frame.assign(**{column: values})

    return change


def failures(findings: Iterable[Finding]) -> dict[str, str]:
    """What the failed checks said, by name."""
    return {finding.name: finding.said for finding in findings if not finding.passed}


def complaints(study: Study, partition: Partition) -> dict[str, str]:
    """What the failed checks of a partition say, by name."""
    return failures(findings(study, partition).values())
