"""Checks of the metrics of one k, and of the guide's table."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aanet_assets.science.selection.consolidate import CSV_COLUMNS, read_csv
from aanet_assets.science.selection.elbows import FALLING_COLUMNS
from aanet_assets.science.selection.rules import STRONGEST_FALL
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding

_LOSSES = (
    "aanet_loss", "aanet_recon_loss", "aanet_archetypal_loss", "aanet_extrema_loss",
    "heldout_loss", "heldout_recon_loss", "heldout_archetypal_loss",
)  # fmt: skip
_METRICS_RANGES: Mapping[str, tuple[float, float]] = {
    "heldout_in_simplex": (0, 1),
    "heldout_explained_variance": (-np.inf, 1),
}
_TABLE_RANGES: Mapping[str, tuple[float, float]] = {
    **_METRICS_RANGES,
    "cluster_recon_error": (0, 1),
    "recon_pct_decrease": (0, 100),
    "arch_pct_decrease": (0, 100),
}
_ROUNDING = 1e-9


def check_metrics(table: pd.DataFrame, n: int, k: int) -> list[Finding]:
    """Check the table `aanet_metrics` of one (n, k)."""
    return [_complete(table, n, [k]), _losses(table), _shares(table, _METRICS_RANGES)]


def check_consolidated(
    table: pd.DataFrame, csv: Path, curves: Path, n: int, ks: Sequence[int]
) -> list[Finding]:
    """Check the guide's table of one n, its CSV file, and the training curves beside them."""
    return [
        _complete(table, n, ks),
        _losses(table),
        _elbows(table, ks),
        _shares(table, _TABLE_RANGES),
        _csv(table, csv),
        _curves(curves, n * len(ks)),
    ]


def _complete(table: pd.DataFrame, n: int, ks: Sequence[int]) -> Finding:
    pairs = list(zip(table["cluster_id"], table["aanet_k"], strict=True))
    expected = {(cluster_id, k) for cluster_id in range(n) for k in ks}
    # A set would hide a pair that is there twice.
    whole = len(pairs) == len(expected) and set(pairs) == expected
    whole &= bool((table["n_clusters_total"] == n).all())
    missing = [f"cluster {cluster_id} at k {k}" for cluster_id, k in sorted(expected - set(pairs))]
    named = f" ({listed(missing, 3)} missing)" if missing else ""
    return Finding(
        "complete",
        whole,
        f"{len(table)} rows{named}, {len(expected)} expected: one for each of {n} clusters at k "
        f"{listed(ks, 20)}",
    )


def _losses(table: pd.DataFrame) -> Finding:
    values = table[list(_LOSSES)].to_numpy(dtype=np.float64)
    wrong = int(((values < 0) | np.isinf(values)).sum())
    trained = (table["aanet_status"] == "ok").to_numpy(dtype=bool)
    measured = np.isfinite(values[:, [1, 2]]).all(axis=1)
    odd = int((trained != measured).sum())
    return Finding(
        "losses",
        wrong == odd == 0,
        f"{wrong} losses are negative or infinite, and {odd} of {len(table)} rows are ok without a "
        "reconstruction and an archetypal loss, or have them without being ok; both must be 0",
    )


def _shares(table: pd.DataFrame, ranges: Mapping[str, tuple[float, float]]) -> Finding:
    wrong = []
    for column, (low, high) in ranges.items():
        values = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
        outside = values[(values < low - _ROUNDING) | (values > high + _ROUNDING)]
        if len(outside):
            wrong.append(
                f"{len(outside)} of {column} outside {low} to {high}, the first {outside[0]:.4g}"
            )
    good = f"{listed(ranges)} lie within their ranges, or are null"
    return Finding("shares", not wrong, "; ".join(wrong) or good)


def _elbows(table: pd.DataFrame, ks: Sequence[int]) -> Finding:
    wrong = []
    for loss, column in zip(("recon", "archetypal"), FALLING_COLUMNS, strict=True):
        k, strength = (table[f"aanet_{loss}_loss_elbow_{part}"] for part in ("k", "strength"))
        outside = k.notna() & ~k.isin(ks)
        # The largest distance from a line is a distance: finite, and not negative.
        strengths = strength.to_numpy(dtype=np.float64, na_value=np.nan)
        senseless = (strengths < 0) | np.isinf(strengths) | (np.isnan(strengths) != k.isna())
        falling = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
        expected = np.where(np.isnan(strengths), np.nan, strengths <= STRONGEST_FALL)
        mistaken = ~np.isclose(falling, expected, equal_nan=True)
        named = ((outside, "k"), (senseless, "strength"), (mistaken, "column of falling losses"))
        for rows, what in named:
            if rows.any():
                clusters = sorted(set(table["cluster_id"][rows]))
                wrong.append(f"the {loss} elbow's {what} is wrong for clusters {listed(clusters)}")
    found = int(table.drop_duplicates("cluster_id")["aanet_recon_loss_elbow_k"].notna().sum())
    return Finding(
        "elbows",
        not wrong,
        f"{'; '.join(wrong) or f'{found} clusters have a recon elbow'}: an elbow's k must be one "
        f"of {listed(ks, 20)} and its strength finite and not negative, or both null",
    )


def _csv(table: pd.DataFrame, path: Path) -> Finding:
    try:
        from_file = read_csv(path)
    except ValueError as error:
        return Finding("csv", False, f"the CSV cannot be read back: {error}")
    problems = []
    if tuple(from_file.columns[: len(CSV_COLUMNS)]) != CSV_COLUMNS:
        problems.append(f"does not begin with the guide's {len(CSV_COLUMNS)} columns in order")
    if len(from_file) != len(table):
        problems.append(f"has {len(from_file)} rows, the table {len(table)}")
    elif set(from_file.columns) != set(table.columns):
        problems.append("has other columns than the table")
    elif apart := list(_columns_apart(from_file, table)):
        problems.append(f"differs from the table in {listed(apart)}")
    good = f"begins with the guide's columns and holds the table's {len(table)} rows"
    return Finding("csv", not problems, f"{path.name} {' and '.join(problems) or good}")


def _columns_apart(one: pd.DataFrame, other: pd.DataFrame) -> Iterable[str]:
    for column in one.columns:
        a, b = one[column], other[column]
        if column == "latent_indices":
            equal = list(map(list, a)) == list(map(list, b))
        elif a.dtype == np.float64:
            b = b.to_numpy(dtype=np.float64, na_value=np.nan)
            equal = bool(np.isclose(a, b, rtol=1e-12, atol=0, equal_nan=True).all())
        else:
            equal = a.isna().equals(b.isna()) and bool((a.dropna() == b.dropna()).all())
        if not equal:
            yield column


def _curves(path: Path, expected: int) -> Finding:
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    return Finding(
        "curves",
        lines == expected,
        f"{path.name} has {lines} lines, {expected} expected: one per cluster and k",
    )
