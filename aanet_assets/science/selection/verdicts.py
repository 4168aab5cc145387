"""Selection by the statistics of a table, as the geometric and functional modes do; all modes."""

import pandas as pd

from aanet_assets.science.selection.categories import category_of
from aanet_assets.science.selection.elbows import too_few_ks
from aanet_assets.science.selection.filters import (
    SELECTED,
    VERDICTS,
    Selection,
    explain_none,
    frame,
    funnel_of,
    select_clusters,
    steps_of,
)
from aanet_assets.science.selection.quality import failures_of, rules_in_use
from aanet_assets.science.selection.rules import ELBOW, FUNCTIONAL, GEOMETRIC, MODES
from aanet_assets.study.picks import parse_manual_clusters, parse_manual_k
from aanet_assets.study.settings import (
    BeliefSettings,
    ControlSettings,
    SelectionSettings,
)


def select_by_table(
    mode: str,
    table: pd.DataFrame,
    settings: SelectionSettings,
    limits: ControlSettings | BeliefSettings,
    n_clusters: int,
) -> Selection:
    """Select clusters by the rules of a mode that has no elbows; null clusters are looked past.

    A cluster that no rule turns down is in the mode's first category, at the k of the simplex that
    fits best. Manual picks are taken whatever the rules say (category M), unless their k is not
    known.

    Args:
        table: what `MODES[mode].table` holds of one n_clusters.
        limits: the group of settings that the mode names.
    """
    values = {**dict(settings), **dict(limits)}
    rules = rules_in_use(mode, values)
    picks = parse_manual_clusters(settings.manual_clusters).get(n_clusters, ())
    manual_ks = parse_manual_k(settings.manual_k)
    selected, verdicts, all_failures = [], [], []
    for row in table[~table["null_cluster"]].sort_values("cluster_id").to_dict("records"):
        cluster_id, failures = int(row["cluster_id"]), failures_of(row, rules, values)
        all_failures.append(failures)
        held = None if failures else category_of(mode, row, {}, {})
        category = held.name if held else None
        reason = held.words.format_map(row) if held else "; ".join(failures.values())
        best = None if pd.isna(row[MODES[mode].k]) else int(row[MODES[mode].k])
        k = manual_ks.get((n_clusters, cluster_id), best)
        if cluster_id in picks:
            category = None if k is None else "M"
            reason = f"manual pick{' without a k' if k is None else ''}; by the evidence: {reason}"
        verdicts.append((n_clusters, cluster_id, category is not None, category, reason))
        if category is not None:
            source = "manual" if (n_clusters, cluster_id) in manual_ks else "best fit"
            elbows = (None,) * 5
            row_of = (n_clusters, cluster_id, category, k, source, row["n_latents"], *elbows)
            selected.append(row_of)
    return Selection(
        mode,
        frame(selected, SELECTED),
        frame(verdicts, VERDICTS),
        funnel_of(steps_of(rules), all_failures, n_clusters),
        {"n_passing": sum(not failures for failures in all_failures)},
    )


def select_all(
    metrics: pd.DataFrame,
    evidence: pd.DataFrame,
    settings: SelectionSettings,
    controls: ControlSettings,
    n_clusters: int,
    functional: tuple[pd.DataFrame, BeliefSettings] | None = None,
) -> dict[str, Selection]:
    """The selection of each mode, by its name, from the tables of one n_clusters.

    Args:
        functional: the functional evidence and its limits, of studies that have it; without it
            there is no functional mode.
    """
    found = {
        ELBOW: select_clusters(metrics, settings, n_clusters),
        GEOMETRIC: select_by_table(GEOMETRIC, evidence, settings, controls, n_clusters),
    }
    if functional is not None:
        table, belief = functional
        found[FUNCTIONAL] = select_by_table(FUNCTIONAL, table, settings, belief, n_clusters)
    return found


def outcome_of(by_mode: dict[str, Selection], mode: str, ks: tuple[int, ...]) -> str:
    """What the mode in use selected, in words."""
    used = by_mode[mode]
    if not len(used.selected):
        return explain_none_of(by_mode, mode, ks)
    return f"{len(used.selected)} of {len(used.verdicts)} clusters selected"


def explain_none_of(by_mode: dict[str, Selection], mode: str, ks: tuple[int, ...]) -> str:
    """A paragraph for a mode in use that selects nothing: why, what to try, and other modes."""
    text = explain_none(by_mode[mode])
    if mode == ELBOW and (warning := too_few_ks(ks, mode)):
        text += f" {warning[0].upper()}{warning[1:]}"
    others = ", ".join(
        f"selection.mode = {name!r} would select {len(other.selected) or 'none'}"
        for name, other in by_mode.items()
        if name != mode
    )
    return f"{text} Of the other modes, {others}."


def verdict_tables(by_mode: dict[str, Selection], mode: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `selected_clusters` and `selection_funnel`, given the selection of each mode.

    Columns of a mode that is not among them are null.
    """
    used = by_mode[mode]
    ks = used.selected[["cluster_id", "k", "k_source"]]
    verdicts = used.verdicts.merge(ks, on="cluster_id", how="left")
    for name, declared in MODES.items():
        columns = ["category", "reason", *(["k"] if declared.k else [])]
        if name in by_mode:
            other = by_mode[name]
            theirs = other.verdicts.merge(other.selected[["cluster_id", "k"]], how="left")
            theirs = theirs.set_index("cluster_id")[columns].add_prefix(f"{name}_")
            verdicts = verdicts.merge(theirs, left_on="cluster_id", right_index=True)
        else:
            verdicts = verdicts.assign(**{f"{name}_{column}": None for column in columns})
    funnel = pd.concat(
        other.funnel.assign(mode=name, position=range(1, len(other.funnel) + 1))
        for name, other in by_mode.items()
    )
    return verdicts, funnel
