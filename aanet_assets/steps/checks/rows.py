"""Checks of the cluster-major rows of one clustering, and of their table."""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.science.activations.rows import load_rows
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding
from aanet_assets.study.settings import RowSettings

_ARRAYS = ("train", "heldout", "extrema")


def check_rows(
    table: pd.DataFrame, rows_file: Path, clustering: Path, n: int, settings: RowSettings
) -> list[Finding]:
    """Check rows and table of one clustering; where a cluster does not fit, nothing else is said.

    Rows are looked at one cluster at a time, mapped into memory.
    """
    complete = _complete(rows_file, n, table)
    if not complete.passed:
        return [complete]
    widths = _widths(rows_file, clustering, n)
    if not widths.passed:
        return [complete, widths]
    active = table.set_index("cluster_id")["active_tokens"]
    infinite, miscounted, total = [], [], 0
    for cluster_id in range(n):
        (rows,) = load_rows(rows_file, clustering, [cluster_id])
        total += len(rows.train) + len(rows.heldout)
        if not all(np.isfinite(getattr(rows, name)).all() for name in _ARRAYS):
            infinite.append(cluster_id)
        if not _counts_agree(rows, int(active[cluster_id]), settings):
            miscounted.append(cluster_id)
    asked = (
        f"min(active tokens, {settings.max_rows:,}), {settings.heldout_share:g} of them held out"
    )
    return [
        complete,
        widths,
        Finding(
            "rows_finite",
            not infinite,
            f"of {n} clusters with {total:,} rows, {len(infinite)} have rows that are not "
            f"finite{_named(infinite)}; none may",
        ),
        Finding(
            "row_counts",
            not miscounted,
            f"of {n} clusters with {total:,} rows, {len(miscounted)} have not the number that the "
            f"settings ask for ({asked}){_named(miscounted)}; all must",
        ),
    ]


def _named(clusters: list[int]) -> str:
    return f" (clusters {listed(clusters)})" if clusters else ""


def _complete(rows_file: Path, n: int, table: pd.DataFrame) -> Finding:
    with safe_open(rows_file, "numpy") as file:
        stored = set(file.keys())
    lacking = [c for c in range(n) if not {f"{c}.{name}" for name in _ARRAYS} <= stored]
    said = f"{n - len(lacking)} of {n} clusters have rows"
    if sorted(table["cluster_id"]) == list(range(n)):
        said += f", and all {n} have their row in the table clusters; all must"
        return Finding("complete", not lacking, said)
    said += f"; the table clusters has {len(table)} rows and must have one for each cluster"
    return Finding("complete", False, said)


def _widths(rows_file: Path, clustering: Path, n: int) -> Finding:
    with safe_open(rows_file, "numpy") as rows, safe_open(clustering, "numpy") as file:

        def fits(cluster_id: int) -> bool:
            rank = file.get_slice(f"{cluster_id}.columns").get_shape()[1]
            shapes = [rows.get_slice(f"{cluster_id}.{name}").get_shape() for name in _ARRAYS]
            return all(shape[1:] == [rank] for shape in shapes)

        wrong = [cluster_id for cluster_id in range(n) if not fits(cluster_id)]
    return Finding(
        "row_widths",
        not wrong,
        f"{len(wrong)} of {n} clusters have rows that are not as wide as the rank of their "
        f"basis{_named(wrong)}; none may",
    )


def _counts_agree(rows: ClusterRows, active: int, settings: RowSettings) -> bool:
    expected = min(active, settings.max_rows)
    heldout = int(expected * settings.heldout_share)
    return (len(rows.train), len(rows.heldout)) == (expected - heldout, heldout)
