"""The quality filters of stage 2: which clusters fail which, and in what words."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from aanet_assets.selection.elbows import FEWEST_KS, STRONGEST_FALL, is_falling
from aanet_assets.selection.wording import compared, exactly
from aanet_assets.study.settings import SelectionSettings

ELBOW_COLUMNS = {
    "aanet_recon_loss_elbow_k": int,
    "aanet_recon_loss_elbow_strength": float,
    "recon_pct_decrease": float,
    "recon_is_monotonic": bool,
    "aanet_archetypal_loss_elbow_k": int,
    "aanet_archetypal_loss_elbow_strength": float,
    "arch_pct_decrease": float,
    "arch_is_monotonic": bool,
    "k_differential": int,
}


class Elbows(NamedTuple):
    """The elbow metrics of a cluster, in the order of `ELBOW_COLUMNS`."""

    recon_k: int
    recon_strength: float
    recon_pct_decrease: float
    recon_is_monotonic: bool
    arch_k: int
    arch_strength: float
    arch_pct_decrease: float
    arch_is_monotonic: bool
    k_differential: int


class Cluster(NamedTuple):
    """What of a cluster does not depend on k."""

    cluster_id: int
    n_latents: int
    elbows: Elbows | None
    """None where any of them is missing."""
    no_elbow: str
    """Why there is none, as far as the statuses tell."""


class Filter(NamedTuple):
    """One quality filter."""

    name: str
    """What a cluster must be, in words."""
    setting: str
    """The setting behind it; empty where there is none."""
    failure: Callable[[Cluster], str | None]
    """Why a cluster fails; None where it does not."""


def clusters_of(table: pd.DataFrame) -> list[Cluster]:
    """The clusters of a consolidated table, by ascending id."""
    found = []
    for cluster_id, rows in table.sort_values("aanet_k").groupby("cluster_id"):
        values = [rows[column].iloc[0] for column in ELBOW_COLUMNS]
        elbows = None
        if not any(pd.isna(v) for v in values):
            kinds = ELBOW_COLUMNS.values()
            elbows = Elbows(*(kind(v) for kind, v in zip(kinds, values, strict=True)))
        n_latents = int(rows["n_latents"].iloc[0])
        found.append(Cluster(int(str(cluster_id)), n_latents, elbows, _why_no_elbow(rows)))
    return found


def quality_filters(settings: SelectionSettings) -> list[Filter]:
    """The filters in use, in order.

    A cluster without elbow metrics fails "has elbow metrics" and none of the filters after it.
    """
    few, far = settings.min_latents, settings.max_k_differential
    least_recon, least_arch = settings.min_recon_pct_decrease, settings.min_arch_pct_decrease
    filters = [
        Filter(
            f"n_latents >= {few}",
            "min_latents",
            lambda c: f"n_latents {c.n_latents} < {few}" if c.n_latents < few else None,
        ),
        Filter(
            "has elbow metrics",
            "",
            lambda c: None if c.elbows else f"elbow metrics missing: {c.no_elbow}",
        ),
    ]
    if settings.recon_monotonic:
        filters.append(
            _on_elbows(
                "recon loss does not rise before its elbow",
                "recon_monotonic",
                lambda e: None if e.recon_is_monotonic else "recon loss rises before its elbow",
            )
        )
    if settings.arch_monotonic:
        filters.append(
            _on_elbows(
                "archetypal loss does not rise before its elbow",
                "arch_monotonic",
                lambda e: None if e.arch_is_monotonic else "archetypal loss rises before its elbow",
            )
        )
    return [
        *filters,
        _on_elbows(
            f"recon loss falls by >= {exactly(least_recon)}%",
            "min_recon_pct_decrease",
            lambda e: _falls_short("recon", e.recon_pct_decrease, least_recon),
        ),
        _on_elbows(
            f"archetypal loss falls by >= {exactly(least_arch)}%",
            "min_arch_pct_decrease",
            lambda e: _falls_short("archetypal", e.arch_pct_decrease, least_arch),
        ),
        _on_elbows(
            f"k_differential <= {far}",
            "max_k_differential",
            lambda e: (
                f"k_differential {e.k_differential} > {far}" if e.k_differential > far else None
            ),
        ),
    ]


def failures_of(cluster: Cluster, filters: list[Filter]) -> dict[str, str]:
    """Name of each filter that the cluster fails -> why; empty for a cluster that passes."""
    reasons = {f.name: f.failure(cluster) for f in filters}
    return {name: reason for name, reason in reasons.items() if reason}


def counted(elbows: Elbows, settings: SelectionSettings) -> tuple[Elbows, str]:
    """The elbows as the categories take them, and in words which strength counts for nothing.

    Where a loss is not asked to fall up to its elbow, noise can have any strength. One that no
    falling loss has is then NaN here: it is in no mean or deviation, and reaches no category.
    """
    strengths = {
        "recon_strength": ("recon", settings.recon_monotonic),
        "arch_strength": ("archetypal", settings.arch_monotonic),
    }
    notes = []
    for name, (loss, monotonic) in strengths.items():
        strength = getattr(elbows, name)
        if not monotonic and not is_falling(strength):
            elbows = elbows._replace(**{name: math.nan})
            short, limit = compared(strength, STRONGEST_FALL)
            notes.append(
                f"the {loss} strength {short} counts for nothing: that of a falling loss is at "
                f"most {limit}"
            )
    return elbows, "; ".join(notes)


def _on_elbows(name: str, setting: str, failure: Callable[[Elbows], str | None]) -> Filter:
    return Filter(name, setting, lambda c: failure(c.elbows) if c.elbows else None)


def _falls_short(loss: str, decrease: float, least: float) -> str | None:
    if decrease >= least:
        return None
    short, limit = compared(decrease, least, 4)
    return f"{loss} loss falls by {short}% < {limit}%"


def _why_no_elbow(rows: pd.DataFrame) -> str:
    statuses = list(zip(rows["aanet_k"], rows["aanet_status"], strict=True))
    bad = [(k, status) for k, status in statuses if status != "ok"]
    if not bad:
        few = len(statuses) < FEWEST_KS
        return "fewer than three ks" if few else "a loss is missing or not finite"
    if len(bad) == len(statuses) and len({status for _, status in bad}) == 1:
        return bad[0][1]
    return ", ".join(f"{status} at k = {k}" for k, status in bad)
