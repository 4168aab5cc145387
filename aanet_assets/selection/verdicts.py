"""Selection by geometry, of clusters whose latents fire together and fill a simplex; both modes."""

import pandas as pd

from aanet_assets.selection.categories import category_of
from aanet_assets.selection.elbows import too_few_ks
from aanet_assets.selection.filters import (
    SELECTED,
    VERDICTS,
    Selection,
    explain_none,
    frame,
    funnel_of,
    select_clusters,
    steps_of,
)
from aanet_assets.selection.quality import failures_of, rules_in_use
from aanet_assets.selection.rules import ELBOW, GEOMETRIC
from aanet_assets.study.settings import (
    SelectionSettings,
    TrustSettings,
    parse_manual_clusters,
    parse_manual_k,
)


def select_geometric(
    evidence: pd.DataFrame, settings: SelectionSettings, trust: TrustSettings, n_clusters: int
) -> Selection:
    """Select clusters by the evidence of one n_clusters; null clusters are looked past.

    A cluster is selected (category S) if it has `min_latents` latents, if these fire together more
    than those of null clusters do (`coactivity_q` at most `max_q`), and if a simplex fits
    (`simplex_fit` at least `min_fit`); its k is that of the best fit. Manual picks are taken
    whatever the evidence (category M), unless their k is not known.
    """
    values = {**dict(settings), **dict(trust)}
    rules = rules_in_use(GEOMETRIC, values)
    picks = parse_manual_clusters(settings.manual_clusters).get(n_clusters, ())
    manual_ks = parse_manual_k(settings.manual_k)
    selected, verdicts, all_failures = [], [], []
    for row in evidence[~evidence["is_null"]].sort_values("cluster_id").to_dict("records"):
        cluster_id, failures = int(row["cluster_id"]), failures_of(row, rules, values)
        all_failures.append(failures)
        held = None if failures else category_of(GEOMETRIC, row, {}, {})
        category = held.name if held else None
        reason = held.words.format_map(row) if held else "; ".join(failures.values())
        best = None if pd.isna(row["simplex_k"]) else int(row["simplex_k"])
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
        frame(selected, SELECTED),
        frame(verdicts, VERDICTS),
        funnel_of(steps_of(rules), all_failures, n_clusters),
        {"n_passing": sum(not failures for failures in all_failures)},
    )


def select_both(
    metrics: pd.DataFrame,
    evidence: pd.DataFrame,
    settings: SelectionSettings,
    trust: TrustSettings,
    n_clusters: int,
) -> dict[str, Selection]:
    """The selection of each mode, by its name, from the consolidated metrics and the evidence."""
    return {
        ELBOW: select_clusters(metrics, settings, n_clusters),
        GEOMETRIC: select_geometric(evidence, settings, trust, n_clusters),
    }


def outcome_of(both: dict[str, Selection], mode: str, ks: tuple[int, ...]) -> str:
    """What the mode in use selected, in words."""
    used = both[mode]
    if not len(used.selected):
        return explain_none_of(both, mode, ks)
    return f"{len(used.selected)} of {len(used.verdicts)} clusters selected"


def explain_none_of(both: dict[str, Selection], mode: str, ks: tuple[int, ...]) -> str:
    """A paragraph for a mode in use that selects nothing: why, what to try, and the other mode."""
    text = explain_none(both[mode])
    if mode == ELBOW and (warning := too_few_ks(ks, mode)):
        text += f" {warning[0].upper()}{warning[1:]}"
    (other,) = both.keys() - {mode}
    would = len(both[other].selected)
    return f"{text} The other mode, selection.mode = '{other}', would select {would or 'none'}."


def verdict_tables(both: dict[str, Selection], mode: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `selected_clusters` and `selection_funnel`, given the selection of each mode."""
    used = both[mode]
    ks = used.selected[["cluster_id", "k", "k_source"]]
    verdicts = used.verdicts.merge(ks, on="cluster_id", how="left")
    for name, other in both.items():
        renamed = {column: f"{name}_{column}" for column in ("category", "reason")}
        theirs = other.verdicts[["cluster_id", *renamed]].rename(columns=renamed)
        verdicts = verdicts.merge(theirs, on="cluster_id")
    ks = both[GEOMETRIC].selected[["cluster_id", "k"]].rename(columns={"k": "geometric_k"})
    funnel = pd.concat(
        other.funnel.assign(mode=name, position=range(1, len(other.funnel) + 1))
        for name, other in both.items()
    )
    return verdicts.merge(ks, on="cluster_id", how="left"), funnel
