"""Where a loss stops falling: elbows of losses over k, and how far such an elbow can be used."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from aanet_assets.science.selection.rules import STRONGEST_FALL

FEWEST_KS = 3
"""An elbow lies between a first k and a last one."""


def too_few_ks(ks: Sequence[int], mode: str) -> str | None:
    """What a study should know whose ks have no elbow; None where they can have one.

    `mode` is its `selection.mode`.
    """
    if len(ks) >= FEWEST_KS:
        return None
    values = f"the {len(ks)} values {', '.join(map(str, ks))}" if len(ks) > 1 else f"{ks[0]} alone"
    text = f"ks has {values}, and an elbow needs {FEWEST_KS}: every elbow will be null. "
    if mode == "elbow":
        return text + (
            "By the elbow mode nothing is then selected but manual picks that have a manual_k. "
            "Give ks more values, or set selection.mode = 'geometric', which needs no elbow."
        )
    return text + (
        "The geometric mode, which is in use, needs none; the elbow mode's verdicts beside it will "
        "turn every cluster down."
    )


def is_falling(strength: float) -> bool:
    """Whether a loss that never rises can have an elbow of this strength.

    A stronger one is noise, magnified where the two ends of the curve differ by next to nothing.
    """
    return strength <= STRONGEST_FALL


class Elbow(NamedTuple):
    """Elbow of one loss over k; every field is None where it cannot be computed."""

    k: int | None
    """k farthest from the straight line between the two ends."""
    strength: float | None
    """That distance, with both axes scaled to [0, 1]; at most `STRONGEST_FALL` where the loss
    never rises."""
    pct_decrease: float | None
    """100 (max - min) / max."""
    is_monotonic: bool | None
    """The loss never rises from the first k up to the elbow."""


NO_ELBOW = Elbow(None, None, None, None)
FALLING_COLUMNS = ("recon_elbow_is_falling", "arch_elbow_is_falling")
"""Whether the strength of an elbow is that of a falling loss; null without an elbow."""


def elbow(ks: Sequence[int], losses: Sequence[float | None] | Float[np.ndarray, " ks"]) -> Elbow:
    """Elbow of `losses` over `ks`, in any order; None and NaN stand for a missing loss.

    With x = (k - k_first) / (k_last - k_first) and y = (loss - loss_last) / (loss_first -
    loss_last), all zeros where the two ends are equal, the distance of a point is
    |x + y - 1| / sqrt(2); the elbow is the first point with the largest one. `NO_ELBOW` for fewer
    than three points, for a loss that is missing or not finite, and where the two ends are so
    close that the distance overflows.

    Raises:
        ValueError: a k occurs twice, the lengths differ, or a loss is negative.
    """
    if len(ks) != len(losses) or len(set(ks)) != len(ks):
        raise ValueError(
            f"ks {list(ks)} and losses {list(losses)} must be equally long, every k once"
        )
    order = np.argsort(ks)
    x = np.array(ks, dtype=np.float64)[order]
    y = np.array(losses, dtype=np.float64)[order]
    if len(y) < FEWEST_KS or not np.isfinite(y).all():
        return NO_ELBOW
    if y.min() < 0:
        raise ValueError(f"a loss is {y.min()}; losses are means of squares and cannot be negative")
    with np.errstate(over="ignore", invalid="ignore"):
        height = (y - y[-1]) / (y[0] - y[-1]) if y[0] != y[-1] else np.zeros_like(y)
        distance = np.abs((x - x[0]) / (x[-1] - x[0]) + height - 1) / math.sqrt(2)
    if not np.isfinite(distance).all():
        return NO_ELBOW
    at = int(distance.argmax())
    return Elbow(
        k=int(x[at]),
        strength=float(distance[at]),
        # Losses that are all zero do not decrease.
        pct_decrease=float(100 * (y.max() - y.min()) / y.max()) if y.max() > 0 else 0.0,
        is_monotonic=bool((np.diff(y[: at + 1]) <= 0).all()),
    )


def elbow_columns(metrics: pd.DataFrame) -> pd.DataFrame:
    """The guide's nine elbow columns, and `FALLING_COLUMNS`; one row per cluster_id, ascending.

    `metrics` has one row per (cluster_id, aanet_k) with `aanet_recon_loss` and
    `aanet_archetypal_loss`. A cluster without a row at some k that other clusters have, or without
    a finite loss there, has no elbow of that loss.

    Raises:
        ValueError: a (cluster_id, aanet_k) occurs twice.
    """
    twice = metrics.duplicated(["cluster_id", "aanet_k"])
    if twice.any():
        row = metrics[twice].iloc[0]
        raise ValueError(
            f"cluster {row.cluster_id} has more than one row at k = {row.aanet_k}; the table must "
            "have one row per cluster and k"
        )
    recon = _elbows(metrics, "aanet_recon_loss")
    arch = _elbows(metrics, "aanet_archetypal_loss")
    columns = {
        "aanet_recon_loss_elbow_k": recon["k"].astype("Int64"),
        "aanet_recon_loss_elbow_strength": recon["strength"].astype("float64"),
        "recon_pct_decrease": recon["pct_decrease"].astype("float64"),
        "recon_is_monotonic": recon["is_monotonic"].astype("boolean"),
        "aanet_archetypal_loss_elbow_k": arch["k"].astype("Int64"),
        "aanet_archetypal_loss_elbow_strength": arch["strength"].astype("float64"),
        "arch_pct_decrease": arch["pct_decrease"].astype("float64"),
        "arch_is_monotonic": arch["is_monotonic"].astype("boolean"),
    }
    table = pd.DataFrame(columns)
    table["k_differential"] = (
        table["aanet_recon_loss_elbow_k"] - table["aanet_archetypal_loss_elbow_k"]
    ).abs()
    for column, elbows in zip(FALLING_COLUMNS, (recon, arch), strict=True):
        table[column] = elbows["strength"].map(is_falling, na_action="ignore").astype("boolean")
    return table.reset_index()


def _elbows(metrics: pd.DataFrame, loss: str) -> pd.DataFrame:
    by_k = metrics.pivot(index="cluster_id", columns="aanet_k", values=loss).astype("float64")
    ks = [int(k) for k in by_k.columns]
    found = [elbow(ks, losses) for losses in by_k.to_numpy()]
    return pd.DataFrame(found, index=by_k.index, columns=list(Elbow._fields), dtype=object)
