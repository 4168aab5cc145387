"""What speaks for a cluster being a simplex, side by side: a row per cluster, real or null."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from aanet_assets.analysis.elbows import elbow

REFERENCES = 100
"""Null clusters that a real one is compared with, at most: those nearest in size."""

TYPES = {
    "cluster_id": "Int64",
    "is_null": "bool",
    "n_latents": "Int64",
    "coactivity": "float64",
    "coactivity_p": "float64",
    "coactivity_q": "float64",
    "interior": "float64",
    "simplex_k": "Int64",
    "simplex_fit": "float64",
    "simplex_fit_p": "float64",
    "simplex_fit_q": "float64",
    "replicates": "Int64",
    "elbow_k": "Int64",
    "elbow_k_share": "float64",
    "elbow_strength": "float64",
    "elbow_strength_sd": "float64",
    "elbow_strength_p": "float64",
    "elbow_strength_q": "float64",
    "unavailable": "string",
}
"""Columns of `gather_evidence` and their types."""


def empirical_p(
    values: Float[np.ndarray, "clusters"],
    sizes: Float[np.ndarray, "clusters"],
    null_values: Float[np.ndarray, "nulls"],
    null_sizes: Float[np.ndarray, "nulls"],
) -> Float[np.ndarray, "clusters"]:
    """How often chance reaches a value: (1 + nulls at least as large) / (1 + nulls).

    Each value is compared with the 100 null clusters nearest to its own in size (ratio of sizes;
    all of them where there are fewer). NaN where a value is, or where there is no null with one.
    """
    known = np.isfinite(null_values)
    null_values, null_sizes = null_values[known], null_sizes[known]
    p = np.full(len(values), np.nan)
    for i in np.flatnonzero(np.isfinite(values)) if len(null_values) else ():
        apart = np.abs(np.log(null_sizes) - np.log(sizes[i]))
        nearest = np.argsort(apart, kind="stable")[:REFERENCES]
        p[i] = (1 + (null_values[nearest] >= values[i]).sum()) / (1 + len(nearest))
    return p


def q_values(p: Float[np.ndarray, "clusters"]) -> Float[np.ndarray, "clusters"]:
    """Benjamini and Hochberg's q-values; NaN where p is."""
    # Slow to load, and the names of the columns above are needed by everything.
    from scipy.stats import false_discovery_control

    q, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q


def elbow_spread(losses: pd.DataFrame) -> pd.DataFrame:
    """Elbows of the reconstruction loss over replicates; one row per (cluster_id, is_null).

    `losses` has one row per cluster_id, is_null, k and replicate, with `aanet_recon_loss`.

    Columns:
    - replicates: those that have an elbow
    - elbow_k: the elbow that most of them have, the smallest of several
    - elbow_k_share: the share of those
    - elbow_strength, elbow_strength_sd: mean and standard deviation (ddof 1) of the strengths
    """
    found = []
    for key, own in losses.groupby(["cluster_id", "is_null"]):
        by_k = own.pivot(index="replicate", columns="k", values="aanet_recon_loss")
        ks = [int(k) for k in by_k.columns]
        elbows = [elbow(ks, row) for row in by_k.to_numpy(dtype=np.float64)]
        at = [e.k for e in elbows if e.k is not None]
        strengths = [e.strength for e in elbows if e.strength is not None]
        counts = Counter(sorted(at))
        mode, times = counts.most_common(1)[0] if at else (None, 0)
        found.append(
            (
                *key,
                len(at),
                mode,
                times / len(at) if at else None,
                np.mean(strengths) if at else None,
                np.std(strengths, ddof=1) if len(at) > 1 else None,
            )
        )
    columns = ["cluster_id", "is_null", "replicates", "elbow_k", "elbow_k_share",
               "elbow_strength", "elbow_strength_sd"]  # fmt: skip
    return pd.DataFrame(found, columns=columns)


def gather_evidence(shapes: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """One row per cluster, real ones first, with the columns of `TYPES`.

    Args:
        shapes: one row per cluster_id, is_null and k, with n_latents, coactivity, interior, fit;
            one row with a null k where no simplex could be fitted.
        losses: as `elbow_spread` takes them; may lack the null clusters.

    simplex_k is the k of the best fit, simplex_fit that fit. The p- and q-values, given the
    cluster's size, are those of real clusters against null ones; null clusters have none.
    `unavailable` says why else something is null.
    """
    keys = ["cluster_id", "is_null"]
    best = shapes.sort_values([*keys, "fit", "k"], ascending=[True, True, False, True])
    best = best.drop_duplicates(keys).rename(columns={"k": "simplex_k", "fit": "simplex_fit"})
    table = best.merge(elbow_spread(losses), on=keys, how="left")
    table = table.sort_values(["is_null", "cluster_id"]).reset_index(drop=True)
    real = ~table["is_null"].to_numpy(dtype=bool)
    for name in ("coactivity", "simplex_fit", "elbow_strength"):
        _compare(table, name, real)
    table["unavailable"] = [_unavailable(row) for row in table.to_dict("records")]
    return table[list(TYPES)].astype(TYPES)


def _unavailable(row: dict) -> str:
    """Which statistics a cluster has not, and why; empty where it has all."""
    reasons = []
    if pd.isna(row["coactivity"]):
        reasons.append("coactivity: the cluster is active at no token")
    if pd.isna(row["simplex_fit"]):
        reasons.append("simplex_fit: its rows do not vary, or are too few")
    if pd.isna(row["replicates"]):
        reasons.append("elbow: no AANets were trained on it (trust.replicates is 1)")
    elif pd.isna(row["elbow_strength"]):
        reasons.append("elbow: no replicate has finite losses at three ks or more")
    elif row["replicates"] == 1:
        reasons.append("elbow_strength_sd: one replicate has no spread")
    for name in ("coactivity", "simplex_fit", "elbow_strength"):
        if not row["is_null"] and pd.notna(row[name]) and pd.isna(row[f"{name}_p"]):
            reasons.append(f"{name}_p: no null cluster has a {name}")
    return "; ".join(reasons)


def _compare(table: pd.DataFrame, name: str, real: Sequence[bool] | np.ndarray) -> None:
    """Add the p- and q-values of one column, in place."""
    values = table[name].to_numpy(dtype=np.float64, na_value=np.nan)
    sizes = table["n_latents"].to_numpy(dtype=np.float64)
    table[f"{name}_p"] = np.nan
    p = empirical_p(values[real], sizes[real], values[~np.asarray(real)], sizes[~np.asarray(real)])
    table.loc[real, f"{name}_p"] = p
    table[f"{name}_q"] = np.nan
    table.loc[real, f"{name}_q"] = q_values(p)
