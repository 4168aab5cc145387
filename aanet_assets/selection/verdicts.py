"""Selection by calibrated evidence: clusters whose latents fire together and fill a simplex."""

import pandas as pd

from aanet_assets.selection.elbows import too_few_ks
from aanet_assets.selection.filters import (
    SELECTED,
    VERDICTS,
    Selection,
    explain_none,
    frame,
    funnel_of,
    select_clusters,
)
from aanet_assets.selection.wording import compared, exactly
from aanet_assets.study.settings import (
    SelectionSettings,
    TrustSettings,
    parse_manual_clusters,
    parse_manual_k,
)

CATEGORY = "S"
"""Of the clusters that are selected here."""


def select_calibrated(
    evidence: pd.DataFrame, settings: SelectionSettings, trust: TrustSettings, n_clusters: int
) -> Selection:
    """Select clusters by the evidence of one n_clusters; null clusters are looked past.

    A cluster is selected (category S) if it has `min_latents` latents, if these fire together more
    than those of null clusters do (`coactivity_q` at most `max_q`), and if a simplex fits
    (`simplex_fit` at least `min_fit`); its k is that of the best fit. Manual picks are taken
    whatever the evidence (category M), unless their k is not known.
    """
    few, max_q, min_fit = settings.min_latents, trust.max_q, trust.min_fit
    steps = [
        (f"n_latents >= {few}", "min_latents"),
        (f"latents fire together (q <= {exactly(max_q)})", "max_q"),
        (f"a simplex fits (>= {exactly(min_fit)})", "min_fit"),
    ]
    picks = parse_manual_clusters(settings.manual_clusters).get(n_clusters, ())
    manual_ks = parse_manual_k(settings.manual_k)
    selected, verdicts, all_failures = [], [], []
    for row in evidence[~evidence["is_null"]].sort_values("cluster_id").to_dict("records"):
        cluster_id, failures = int(row["cluster_id"]), {}
        if row["n_latents"] < few:
            failures[steps[0][0]] = f"n_latents {row['n_latents']} < {few}"
        if said := _alone(row, max_q):
            failures[steps[1][0]] = said
        if said := _no_simplex(row, min_fit):
            failures[steps[2][0]] = said
        all_failures.append(failures)
        category, k = None if failures else CATEGORY, None
        if pd.notna(row["simplex_k"]):
            k = int(row["simplex_k"])
        reason = "; ".join(failures.values()) or (
            f"a simplex of {k} vertices fits ({row['simplex_fit']:.3g}), and its latents fire "
            f"together (coactivity {row['coactivity']:.3g}, q {row['coactivity_q']:.2g})"
        )
        k = manual_ks.get((n_clusters, cluster_id), k)
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
        funnel_of(steps, all_failures, n_clusters),
        {"n_passing": sum(not failures for failures in all_failures)},
    )


def _alone(row: dict, max_q: float) -> str | None:
    if pd.isna(row["coactivity_q"]):
        return "it is not known whether its latents fire together: it is active at no token"
    if row["coactivity_q"] <= max_q:
        return None
    q, limit = compared(row["coactivity_q"], max_q, 2)
    return (
        f"its latents fire together no more than chance groups do: coactivity "
        f"{row['coactivity']:.3g}, q {q} > {limit}"
    )


def _no_simplex(row: dict, min_fit: float) -> str | None:
    if pd.isna(row["simplex_fit"]):
        return "no simplex can be fitted: its rows do not vary, or are too few"
    if row["simplex_fit"] >= min_fit:
        return None
    fit, limit = compared(row["simplex_fit"], min_fit, 3)
    return f"no simplex fits: the best, of {row['simplex_k']} vertices, has {fit} < {limit}"


def select_both(
    metrics: pd.DataFrame,
    evidence: pd.DataFrame,
    settings: SelectionSettings,
    trust: TrustSettings,
    n_clusters: int,
) -> dict[str, Selection]:
    """The selection of each mode, by its name, from the consolidated metrics and the evidence."""
    return {
        "guide": select_clusters(metrics, settings, n_clusters),
        "calibrated": select_calibrated(evidence, settings, trust, n_clusters),
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
    if mode == "guide" and (warning := too_few_ks(ks, mode)):
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
    ks = both["calibrated"].selected[["cluster_id", "k"]].rename(columns={"k": "calibrated_k"})
    funnel = pd.concat(
        other.funnel.assign(mode=name, position=range(1, len(other.funnel) + 1))
        for name, other in both.items()
    )
    return verdicts.merge(ks, on="cluster_id", how="left"), funnel
