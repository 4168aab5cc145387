"""Stage 2: which clusters go on to stage 3, at which k, and why the others do not."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from aanet_assets.science.selection.categories import asked, categorise, limits_of
from aanet_assets.science.selection.quality import (
    CARRIED,
    ClusterMetrics,
    clusters_of,
    counted,
    failures_of,
    rules_in_use,
)
from aanet_assets.science.selection.rules import ELBOW, MODES, Rule
from aanet_assets.science.selection.wording import said
from aanet_assets.study.picks import parse_manual_clusters, parse_manual_k
from aanet_assets.study.settings import SelectionSettings

SELECTED = {
    "n_clusters_total": "Int64",
    "cluster_id": "Int64",
    "category": "string",
    "k": "Int64",
    "k_source": "string",
    "n_latents": "Int64",
    "aanet_recon_loss_elbow_k": "Int64",
    "aanet_recon_loss_elbow_strength": "float64",
    "aanet_archetypal_loss_elbow_k": "Int64",
    "aanet_archetypal_loss_elbow_strength": "float64",
    "k_differential": "Int64",
}
VERDICTS = {
    "n_clusters_total": "Int64",
    "cluster_id": "Int64",
    "selected": "bool",
    "category": "string",
    "reason": "string",
}
FUNNEL = {
    "n_clusters_total": "Int64",
    "filter": "string",
    "setting": "string",
    "failed_here": "Int64",
    "failed_cumulative": "Int64",
    "remaining": "Int64",
}


class Selection(NamedTuple):
    """The selected clusters and how they came to be; columns and types as in the tables above."""

    mode: str
    selected: pd.DataFrame
    """One row per selected cluster. category is one of the mode's, or M for a manual pick; k_source
    is "manual", "archetypal elbow", "reconstruction elbow" or "best fit"."""
    verdicts: pd.DataFrame
    """One row per cluster; the reason is never empty."""
    funnel: pd.DataFrame
    """One row per filter, in order: failed_here clusters fail it of those that the earlier filters
    let through; failed_cumulative fail it or an earlier one; remaining are left. In the last row,
    those that reach no category fail, in the elbow mode. Manual picks are not counted."""
    threshold: dict[str, float | int | None]
    """`Limits`, of the elbow mode: None for a strength that fewer than two clusters have; and
    n_passing alone of the others."""


def select_clusters(table: pd.DataFrame, settings: SelectionSettings, n_clusters: int) -> Selection:
    """Select clusters of a consolidated table that holds one n_clusters, by their elbows.

    The clusters that pass the quality filters set the limits of the categories (`categories.py`),
    each with the strengths that count (`quality.counted`).
    Manual picks are taken whatever the filters say, as category M, unless their k is not known.
    The k of stage 3 is the one in `manual_k`, else the elbow that `k_from` names.

    Raises:
        ValueError: the table holds another n_clusters, or lacks a manually picked cluster.
    """
    others = sorted(set(table["n_clusters_total"]) - {n_clusters})
    if others:
        raise ValueError(f"the table holds n_clusters {others}; it must hold {n_clusters} alone")
    clusters = clusters_of(table)
    picks = parse_manual_clusters(settings.manual_clusters).get(n_clusters, ())
    absent = sorted(set(picks) - {c.cluster_id for c in clusters})
    if absent:
        raise ValueError(
            f"manual_clusters picks cluster {absent[0]} of n_clusters {n_clusters}; the table "
            f"holds {len(clusters)} clusters and not that one"
        )
    values = dict(settings)
    in_use = rules_in_use(ELBOW, values)
    failures = {c.cluster_id: failures_of(c.values, in_use, values) for c in clusters}
    passed = {
        c.cluster_id: counted(c.values, values) for c in clusters if not failures[c.cluster_id]
    }
    limits = limits_of([strengths for strengths, _ in passed.values()], values)

    selected, verdicts = [], []
    for c in clusters:
        if c.cluster_id in passed:
            strengths, note = passed[c.cluster_id]
            category, reason = categorise(c.values, strengths, limits)
            reason = f"{reason}; {note}" if note else reason
        else:
            category, reason = None, "; ".join(failures[c.cluster_id].values())
        if c.cluster_id in passed and category is None:
            failures[c.cluster_id] = {"reaches a category": reason}
        k, k_source = _chosen_k(c, settings, n_clusters)
        if c.cluster_id in picks:
            rules = f"by the rules: {f'category {category}, ' if category else ''}{reason}"
            category, reason = "M", f"manual pick; {rules}"
            if k is None:
                category = None
                reason = f"manual pick without a k: no elbow, and none in manual_k; {rules}"
        verdicts.append((n_clusters, c.cluster_id, category is not None, category, reason))
        if category is not None:
            carried = (c.values[name] for name in CARRIED)
            selected.append((n_clusters, c.cluster_id, category, k, k_source, *carried))
    steps = [*steps_of(in_use), ("reaches a category", ", ".join(MODES[ELBOW].deviations))]
    return Selection(
        ELBOW,
        frame(selected, SELECTED),
        frame(verdicts, VERDICTS),
        funnel_of(steps, list(failures.values()), n_clusters),
        {name: None if math.isnan(limit) else limit for name, limit in limits.items()},
    )


def _chosen_k(
    cluster: ClusterMetrics, settings: SelectionSettings, n_clusters: int
) -> tuple[int | None, str]:
    manual = parse_manual_k(settings.manual_k).get((n_clusters, cluster.cluster_id))
    if manual is not None:
        return manual, "manual"
    loss = "recon" if settings.k_from == "reconstruction" else "archetypal"
    return cluster.values[f"aanet_{loss}_loss_elbow_k"], f"{settings.k_from} elbow"


def steps_of(rules: Mapping[str, Rule]) -> list[tuple[str, str]]:
    """Name and setting of each rule in use, as `funnel_of` takes them."""
    return [(name, rule.setting or rule.switch) for name, rule in rules.items()]


def funnel_of(
    steps: list[tuple[str, str]], failures: list[dict[str, str]], n_clusters: int
) -> pd.DataFrame:
    """The funnel of `Selection`, from name and setting of each step and each cluster's failures."""
    rows, remaining = [], failures
    for name, setting in steps:
        left = [f for f in remaining if name not in f]
        here, gone = len(remaining) - len(left), len(failures) - len(left)
        rows.append((n_clusters, name, setting, here, gone, len(left)))
        remaining = left
    return frame(rows, FUNNEL)


def frame(rows: list[tuple], types: dict[str, str]) -> pd.DataFrame:
    """A table of these columns and types."""
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def explain_none(selection: Selection) -> str:
    """A paragraph for a selection that came out empty: why, and what to change."""
    total, limits = len(selection.verdicts), selection.threshold
    if total == 0:
        return "No cluster is selected: the table holds none. Materialise stage 1 first."
    n_clusters = selection.verdicts["n_clusters_total"].iloc[0]
    by_hand = f"Or pick by hand: selection.manual_clusters = '{n_clusters}:0,1'."
    steps = selection.funnel.to_dict("records")
    if selection.mode != ELBOW:
        counts = ", ".join(f"{step['failed_here']} fail '{step['filter']}'" for step in steps)
        return (
            f"No cluster of n_clusters {n_clusters} is selected by the evidence: of {total}, "
            f"{counts}. The table {MODES[selection.mode].table} has the numbers. "
            f"{_relax(selection.mode, steps)}{by_hand}"
        )
    filters = steps[:-1]
    n_passing = filters[-1]["remaining"]
    counts = ", ".join(
        f"{step['failed_here']} of '{step['filter']}'" for step in filters if step["failed_here"]
    )
    text = f"No cluster of n_clusters {n_clusters} is selected. {n_passing} of {total} pass the "
    text += "quality filters" + (f"; failures: {counts}. " if counts else ". ")
    if n_passing >= 2:
        recon, arch = (
            f"{said(limits[f'{name}_max'])} ({asked(name, limits, even_of_equal_elbows=False)})"
            for name in ("recon", "arch")
        )
        *others, last = MODES[ELBOW].deviations
        text += (
            f"None of them reaches a category: the largest recon strength is {recon}, the largest "
            f"archetypal strength {arch}. Lower selection.{', '.join(others)} or {last} to select "
            "more. "
        )
    else:
        text += "Categories need a standard deviation, and so 2 clusters that pass. "
        text += _relax(ELBOW, filters)
    return text + by_hand


def _relax(mode: str, steps: list[dict]) -> str:
    """Which setting to change, by the step that turns down the most of what reaches it."""
    worst = max(steps, key=lambda step: step["failed_here"])
    if worst["setting"]:
        of_selection = worst["setting"] in SelectionSettings.model_fields
        group = "selection" if of_selection else MODES[mode].limits
        return f"Relax {group}.{worst['setting']}, which turns down the most. "
    if mode == ELBOW:
        return (
            "Most have no elbow metrics: aanet_status and aanet_reason of the consolidated "
            "metrics say why; clusters with too few rows need more training shards. "
        )
    return "Most have no statistics: the column unavailable says why. "
