"""Checks of null clusters, shapes, replicates and evidence."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aanet_assets.science.activations.rows import load_labels, load_rows
from aanet_assets.science.selection.nulls import shuffles_for
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding
from aanet_assets.study.settings import ControlSettings


def check_nulls(
    table: pd.DataFrame,
    clustering: Path,
    null_clustering: Path,
    null_rows: Path,
    n: int,
    nulls: int,
) -> list[Finding]:
    """Check the null clusters of one n against the real ones; their rows if these match."""
    real, shuffles = load_labels(clustering), shuffles_for(nulls, n)
    labels = load_labels(null_clustering)
    sizes = np.bincount(real[real >= 0], minlength=n)
    alike = labels.shape == (shuffles, len(real)) and all(
        np.array_equal(np.bincount(row[row >= 0], minlength=n), sizes) for row in labels
    )
    whole = sorted(table["cluster_id"]) == list(range(shuffles * n))
    matched = Finding(
        "matched",
        alike and whole,
        f"{len(labels)} shuffles with {len(table)} clusters in the table; there must be "
        f"{shuffles} with {n} clusters each, of the real clusters' sizes",
    )
    if not matched.passed:
        return [matched]
    rows = load_rows(null_rows, null_clustering, range(shuffles * n))
    infinite = [own.cluster_id for own in rows if not np.isfinite(own.train).all()]
    return [
        matched,
        Finding(
            "rows",
            not infinite,
            f"{len(infinite)} null clusters have rows that are not finite; none may",
        ),
    ]


def _kinds(nulls: pd.DataFrame, n: int) -> set[tuple[int, bool]]:
    """Every cluster of one n, and whether it is null."""
    return {(i, False) for i in range(n)} | {(int(i), True) for i in nulls["cluster_id"]}


def _clusters_in(table: pd.DataFrame) -> set[tuple[int, bool]]:
    pairs = zip(table["cluster_id"], table["null_cluster"], strict=True)
    return {(int(cluster_id), bool(null_cluster)) for cluster_id, null_cluster in pairs}


def check_shapes(
    table: pd.DataFrame,
    groups: pd.DataFrame,
    nulls: pd.DataFrame,
    n: int,
    ks: Sequence[int],
    chance: int,
) -> list[Finding]:
    """Check the shapes and chance groups of one n, given the table of null clusters."""
    twice = int(table.duplicated(["cluster_id", "null_cluster", "k"]).sum())
    strange = int((~table["k"].dropna().isin(ks)).sum())
    shares = table[["pca_explained", "occupancy", "fit"]].to_numpy(dtype=np.float64)
    out = ~(np.isnan(shares) | ((shares >= 0) & (shares <= 1 + 1e-9)))
    together = table["coactivity"].to_numpy(dtype=np.float64)
    most = table["n_latents"].to_numpy(dtype=np.float64)
    odd = (together < 1 - 1e-6) | (together > most * (1 + 1e-6))
    expected = shuffles_for(chance, n) * n
    return [
        Finding(
            "chance",
            len(groups) == expected,
            f"{len(groups)} chance groups; there must be {expected}",
        ),
        Finding(
            "complete",
            _clusters_in(table) == _kinds(nulls, n) and not twice and not strange,
            f"{len(_clusters_in(table))} of {len(_kinds(nulls, n))} clusters, {twice} rows twice, "
            f"{strange} with a k out of no {listed(ks, 20)}; all must be there, once per k",
        ),
        Finding(
            "ranges",
            not out.any() and not odd.any(),
            f"{int(out.sum())} shares outside 0 to 1 and {int(odd.sum())} coactivities outside 1 "
            "to the number of latents; none may",
        ),
    ]


def check_replicates(
    table: pd.DataFrame, n: int, k: int, controls: ControlSettings
) -> list[Finding]:
    """Check the replicates of one (n, k)."""
    expected = 2 * n * controls.replicates
    once = not table.duplicated(["cluster_id", "null_cluster", "replicate"]).any()
    numbers = sorted(set(table["replicate"]))
    whole = len(table) == expected and once and numbers == list(range(controls.replicates))
    ok = table["aanet_status"] == "ok"
    losses = table["aanet_recon_loss"].to_numpy(dtype=np.float64)
    wrong = int(
        (ok & ~(np.isfinite(losses) & (losses >= 0))).sum() + (~ok & ~np.isnan(losses)).sum()
    )
    return [
        Finding(
            "complete",
            whole,
            f"{len(table)} rows; there must be {expected}, {controls.replicates} for each of {n} "
            f"clusters and of {n} null clusters",
        ),
        Finding(
            "losses",
            not wrong,
            f"{wrong} of {len(table)} replicates have no loss, a negative one, or one without "
            "having been trained; none may",
        ),
    ]


def check_evidence(
    table: pd.DataFrame, shapes: pd.DataFrame, n: int, ks: Sequence[int]
) -> list[Finding]:
    """Check the evidence of one n, given its shapes."""
    kinds = _kinds(shapes[shapes["null_cluster"]], n)
    shares = table.filter(regex="_(p|q|share)$|^simplex_fit$")
    values = shares.to_numpy(dtype=np.float64, na_value=np.nan)
    out = int((~(np.isnan(values) | ((values >= 0) & (values <= 1 + 1e-9)))).sum())
    at = pd.concat([table["simplex_k"], table["elbow_k"]]).dropna()
    strange = int((~at.isin(ks)).sum())
    return [
        Finding(
            "complete",
            _clusters_in(table) == kinds and len(table) == len(kinds),
            f"{len(table)} rows for {len(kinds)} clusters; each must have one",
        ),
        Finding(
            "ranges",
            not out and not strange,
            f"{out} p-values, q-values or shares outside 0 to 1 and {strange} ks that are none of "
            f"{listed(ks, 20)}; none may",
        ),
    ]
