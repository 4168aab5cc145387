"""The quality filters: which rules of a mode a cluster fails, and in what words."""

import math
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from aanet_assets.science.selection.consolidate import TYPES
from aanet_assets.science.selection.elbows import FEWEST_KS
from aanet_assets.science.selection.rules import ELBOW, MODES, Rule
from aanet_assets.science.selection.wording import compared, exactly

CARRIED = (
    "n_latents",
    "aanet_recon_loss_elbow_k",
    "aanet_recon_loss_elbow_strength",
    "aanet_archetypal_loss_elbow_k",
    "aanet_archetypal_loss_elbow_strength",
    "k_differential",
)
"""Columns that the table of the selected has of every cluster."""
_HOLDS = {
    ">=": operator.ge,
    "<=": operator.le,
    "true": lambda value, _: value,
    "known": lambda *_: True,
}


class ClusterMetrics(NamedTuple):
    """What of a cluster does not depend on k."""

    cluster_id: int
    values: dict[str, Any]
    """`CARRIED`, what the rules name, None for what is missing; and `no_elbow`, why there is none
    as far as the statuses tell."""


def clusters_of(table: pd.DataFrame) -> list[ClusterMetrics]:
    """The clusters of a consolidated table, by ascending id."""
    columns = dict.fromkeys([*CARRIED, *MODES[ELBOW].columns])
    typed = table.astype({name: TYPES.get(name, "float64") for name in columns})
    found = []
    for cluster_id, rows in typed.sort_values("aanet_k").groupby("cluster_id"):
        values = {name: _plain(rows[name].iloc[0]) for name in columns}
        found.append(
            ClusterMetrics(int(str(cluster_id)), {**values, "no_elbow": _why_no_elbow(rows)})
        )
    return found


def rules_in_use(mode: str, settings: Mapping[str, Any]) -> dict[str, Rule]:
    """The rules of a mode that are switched on, in order, by what a cluster must be in words."""
    return {
        rule.name.format(limit=exactly(settings[rule.setting]) if rule.setting else ""): rule
        for rule in MODES[mode].rules
        if not rule.switch or settings[rule.switch]
    }


def failures_of(
    values: Mapping[Any, Any], rules: Mapping[str, Rule], settings: Mapping[str, Any]
) -> dict[str, str]:
    """Name of each rule that a cluster fails -> why; empty for a cluster that passes.

    Args:
        values: of the cluster, by column.
        rules: as `rules_in_use` names them.
        settings: by name.
    """
    found = {}
    for name, rule in rules.items():
        value = values[rule.column]
        if pd.isna(value):
            found[name] = rule.missing.format_map({**values, "column": rule.column})
            if rule.comparison == "known":
                break
        elif not _HOLDS[rule.comparison](value, settings.get(rule.setting)):
            words = dict(values)
            if rule.setting:
                words["value"], words["limit"] = compared(
                    value, settings[rule.setting], rule.digits
                )
            found[name] = rule.failure.format_map(words)
    return found


def counted(values: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    """The strengths as the categories take them, and in words which of them counts for nothing.

    Where a loss is not asked to fall up to its elbow, noise can have any strength. One that no
    falling loss has is then NaN here: it is in no mean or deviation, and reaches no category.
    """
    found, notes = {}, []
    for name, (column, loss, switch, most) in MODES[ELBOW].strengths.items():
        value = math.nan if values[column] is None else values[column]
        found[name] = value
        if not settings[switch] and value > most:
            short, limit = compared(value, most)
            notes.append(
                f"the {loss} strength {short} counts for nothing: that of a falling loss is at "
                f"most {limit}"
            )
            found[name] = math.nan
    return found, "; ".join(notes)


def _plain(value: Any) -> Any:
    """A value of a table as Python's own; None for what is missing."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _why_no_elbow(rows: pd.DataFrame) -> str:
    statuses = list(zip(rows["aanet_k"], rows["aanet_status"], strict=True))
    bad = [(k, status) for k, status in statuses if status != "ok"]
    if not bad:
        few = len(statuses) < FEWEST_KS
        return "fewer than three ks" if few else "a loss is missing or not finite"
    if len(bad) == len(statuses) and len({status for _, status in bad}) == 1:
        return bad[0][1]
    return ", ".join(f"{status} at k = {k}" for k, status in bad)
