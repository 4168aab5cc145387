"""What speaks for a cluster being a simplex, side by side: a row per cluster, real or null."""

from collections import Counter

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from aanet_assets.science.selection.elbows import elbow, is_falling
from aanet_assets.science.selection.rules import STRONGEST_FALL

NEIGHBOURS = 100
"""Null clusters, those nearest in size, that say what a statistic is like at a size."""

TYPES = {
    "cluster_id": "Int64",
    "null_cluster": "bool",
    "n_latents": "Int64",
    "coactivity": "float64",
    "coactivity_p": "float64",
    "coactivity_q": "float64",
    "coactivity_low_p": "float64",
    "coactivity_low_q": "float64",
    "interior": "float64",
    "simplex_k": "Int64",
    "simplex_fit": "float64",
    "simplex_fit_p": "float64",
    "simplex_fit_q": "float64",
    "replicates": "Int64",
    "elbow_k": "Int64",
    "elbow_k_share": "float64",
    "elbow_ks": "object",
    "elbow_strength": "float64",
    "elbow_strength_sd": "float64",
    "elbow_strength_p": "float64",
    "elbow_strength_q": "float64",
    "unavailable": "string",
}
"""Columns of `gather_evidence` and their types."""


def empirical_p(
    values: Float[np.ndarray, " clusters"],
    sizes: Float[np.ndarray, " clusters"],
    null_values: Float[np.ndarray, " nulls"],
    null_sizes: Float[np.ndarray, " nulls"],
) -> Float[np.ndarray, " clusters"]:
    """How often chance reaches a value: (1 + nulls that stand out as much) / (1 + nulls).

    What stands out is told given the size: a value less the mean of the 100 null clusters nearest
    in size (ratio of sizes), over their standard deviation. For a null cluster these are others
    than itself. NaN where a value is, or where there is no null with one.
    """
    known = np.isfinite(null_values)
    null_values, null_sizes = null_values[known], null_sizes[known]
    p = np.full(len(values), np.nan)
    there = np.isfinite(values)
    if not len(null_values) or not there.any():
        return p
    nulls = _standing_out(null_values, null_sizes, null_values, null_sizes, itself=True)
    own = _standing_out(values[there], sizes[there], null_values, null_sizes, itself=False)
    p[there] = (1 + (nulls >= own[:, None]).sum(axis=1)) / (1 + len(nulls))
    return p


def _standing_out(
    values: Float[np.ndarray, " clusters"],
    sizes: Float[np.ndarray, " clusters"],
    null_values: Float[np.ndarray, " nulls"],
    null_sizes: Float[np.ndarray, " nulls"],
    itself: bool,
) -> Float[np.ndarray, " clusters"]:
    """Standard deviations from the nulls of like size; with `itself`, the values are the nulls."""
    if len(null_values) < 3:
        return values
    found = np.empty(len(values))
    for i, (value, size) in enumerate(zip(values, sizes, strict=True)):
        apart = np.abs(np.log(null_sizes) - np.log(size))
        if itself:
            apart[i] = np.inf
        nearest = np.argsort(apart, kind="stable")[: min(NEIGHBOURS, len(apart) - itself)]
        # Nulls may all be equal, as where no two latents of any are ever active together.
        spread = max(float(null_values[nearest].std()), 1e-9 * (1 + abs(value)))
        found[i] = (value - null_values[nearest].mean()) / spread
    return found


def q_values(p: Float[np.ndarray, " clusters"]) -> Float[np.ndarray, " clusters"]:
    """Benjamini and Hochberg's q-values; NaN where p is."""
    # Slow to load, and the names of the columns above are needed by everything.
    from scipy.stats import false_discovery_control

    q, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q


def elbow_spread(losses: pd.DataFrame) -> pd.DataFrame:
    """Elbows of the reconstruction loss over replicates; one row per (cluster_id, null_cluster).

    `losses` has one row per cluster_id, null_cluster, k and replicate, with `aanet_recon_loss`.
    Where it is the same at the last k as at the first there is no elbow.

    Columns:
    - replicates: those that have an elbow
    - elbow_k: the elbow that most of them have, the smallest of several
    - elbow_k_share: the share of those; None with one replicate
    - elbow_ks: the elbows of all of them, in the order of k
    - elbow_strength, elbow_strength_sd: mean and standard deviation (ddof 1) of the strengths that
      a falling loss can have
    - too_strong: replicates whose strength no falling loss can have
    """
    found = []
    for key, own in losses.groupby(["cluster_id", "null_cluster"]):
        by_k = own.pivot(index="replicate", columns="k", values="aanet_recon_loss")
        ks = [int(k) for k in by_k.columns]
        # The strength is in units of the fall from the first k to the last.
        falls = [row for row in by_k.to_numpy(dtype=np.float64) if row[0] != row[-1]]
        elbows = [elbow(ks, row) for row in falls]
        at = [e.k for e in elbows if e.k is not None]
        known = [e.strength for e in elbows if e.strength is not None]
        strengths = [strength for strength in known if is_falling(strength)]
        counts = Counter(sorted(at))
        mode, times = counts.most_common(1)[0] if at else (None, 0)
        found.append(
            (
                *key,
                len(at),
                mode,
                times / len(at) if len(at) > 1 else None,
                sorted(at) or None,
                np.mean(strengths) if strengths else None,
                np.std(strengths, ddof=1) if len(strengths) > 1 else None,
                len(known) - len(strengths),
            )
        )
    columns = ["cluster_id", "null_cluster", "replicates", "elbow_k", "elbow_k_share", "elbow_ks",
               "elbow_strength", "elbow_strength_sd", "too_strong"]  # fmt: skip
    return pd.DataFrame(found, columns=columns)


def gather_evidence(
    shapes: pd.DataFrame, losses: pd.DataFrame, chance: pd.DataFrame
) -> pd.DataFrame:
    """One row per cluster, real ones first, with the columns of `TYPES`.

    Args:
        shapes: one row per cluster_id, null_cluster and k, with n_latents, coactivity, interior,
            fit; one row with a null k where no simplex could be fitted.
        losses: as `elbow_spread` takes them; may lack the null clusters.
        chance: n_latents and coactivity of chance groups, with which coactivities are compared.

    simplex_k is the k of the best fit, simplex_fit that fit. The p- and q-values, given the
    cluster's size, are those of real clusters against null ones; null clusters have none. Those of
    coactivity_low are of a coactivity as low, by which latents exclude one another.
    `unavailable` says why else something is null, and which replicates a strength leaves out.
    """
    keys = ["cluster_id", "null_cluster"]
    best = shapes.sort_values([*keys, "fit", "k"], ascending=[True, True, False, True])
    best = best.drop_duplicates(keys).rename(columns={"k": "simplex_k", "fit": "simplex_fit"})
    table = best.merge(elbow_spread(losses), on=keys, how="left")
    table = table.sort_values(["null_cluster", "cluster_id"]).reset_index(drop=True)
    real = ~table["null_cluster"].to_numpy(dtype=bool)
    null = table[~real]
    for name in ("coactivity", "simplex_fit", "elbow_strength"):
        _compare(table, name, real, chance if name == "coactivity" else null)
    _compare(table, "coactivity", real, chance, low=True)
    table["unavailable"] = [_unavailable(row) for row in table.to_dict("records")]
    table["elbow_ks"] = table["elbow_ks"].where(table["elbow_ks"].notna(), None)
    return table[list(TYPES)].astype(TYPES)


def losses_of_stage1(metrics: pd.DataFrame) -> pd.DataFrame:
    """The models of stage 1 as the only replicates, given the table `consolidated_metrics`."""
    return metrics.rename(columns={"aanet_k": "k"}).assign(null_cluster=False, replicate=0)


def _unavailable(row: dict) -> str:
    """Which statistics a cluster has not, and why; empty where it has all."""
    reasons = []
    if pd.isna(row["coactivity"]):
        reasons.append("coactivity: the cluster is active at no token")
    if pd.isna(row["simplex_fit"]):
        reasons.append("simplex_fit: its rows do not vary, or are too few")
    if pd.isna(row["replicates"]):
        reasons.append(
            "elbow: no AANets were trained on it; of null clusters the first n_clusters have some, "
            "where controls.replicates is more than 1"
        )
    elif row["replicates"] == 0:
        reasons.append("elbow: no replicate has finite losses, at three ks or more, that change")
    else:
        reasons += _unavailable_of_elbows(row)
    for name in ("coactivity", "simplex_fit", "elbow_strength"):
        if not row["null_cluster"] and pd.notna(row[name]) and pd.isna(row[f"{name}_p"]):
            both = " and coactivity_low_p" if name == "coactivity" else ""
            reasons.append(f"{name}_p{both}: no null cluster has a {name}")
    return "; ".join(reasons)


def _unavailable_of_elbows(row: dict) -> list[str]:
    reasons, counting = [], row["replicates"] - row["too_strong"]
    if row["too_strong"]:
        reasons.append(
            f"elbow_strength: {row['too_strong']} of {row['replicates']} replicates are left out, "
            f"whose strength, above {STRONGEST_FALL:.3f}, is not a falling loss's"
        )
    if row["replicates"] == 1:
        reasons.append("elbow_k_share: one replicate agrees with none but itself")
    if counting == 1:
        reasons.append("elbow_strength_sd: one replicate has no spread")
    return reasons


def _compare(
    table: pd.DataFrame,
    name: str,
    real: Bool[np.ndarray, " clusters"],
    null: pd.DataFrame,
    low: bool = False,
) -> None:
    """Add the p- and q-values of one column, in place; with `low`, those of values as low."""
    side = -1 if low else 1

    def floats(frame: pd.DataFrame, column: str) -> Float[np.ndarray, " clusters"]:
        return frame[column].to_numpy(dtype=np.float64, na_value=np.nan)

    (own, sizes), (others, their_sizes) = (
        (side * floats(frame, name), floats(frame, "n_latents")) for frame in (table[real], null)
    )
    p = empirical_p(own, sizes, others, their_sizes)
    for ending, values in (("p", p), ("q", q_values(p))):
        column = f"{name}_low_{ending}" if low else f"{name}_{ending}"
        table[column] = np.nan
        table.loc[real, column] = values
