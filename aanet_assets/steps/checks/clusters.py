"""Checks of a clustering."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors import safe_open

from aanet_assets.science.clustering.decoder import rows_at_once, unit_rows
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding
from aanet_assets.study.settings import ClusteringSettings

TOLERANCE = 1e-4
# Half precision leaves 1e-4 in a space of a few dimensions, and less in a larger one.
SKEW = 1e-3


def check_clustering(
    path: Path,
    n: int,
    decoder: Float[np.ndarray, "latents d_model"],
    activity: Float[np.ndarray, " latents"],
    settings: ClusteringSettings,
) -> list[Finding]:
    """Check the clustering in `path`; where labels are no labels, nothing else is said.

    Args:
        n: number of clusters.
        decoder: decoder rows of the SAE.
        activity: share of training tokens at which each latent is active.
    """
    with safe_open(path, framework="numpy") as file:
        labels = file.get_tensor("labels")
        valid = _labels(labels, n, len(decoder))
        if not valid.passed:
            return [valid]
        sizes = np.bincount(labels[labels >= 0], minlength=n)
        return [
            valid,
            _left_out(labels, decoder, activity, settings),
            *_subspaces(file, sizes, decoder.shape[1]),
            _empty(sizes),
        ]


def _labels(labels: np.ndarray, n: int, n_latents: int) -> Finding:
    if labels.shape != (n_latents,) or not np.issubdtype(labels.dtype, np.integer):
        said = f"labels are {labels.dtype} of shape {labels.shape}; the SAE has {n_latents} latents"
        return Finding("labels", False, said + ", and each needs one whole number")
    outside = (labels < -1) | (labels >= n)
    return Finding(
        "labels",
        not outside.any(),
        f"{int(outside.sum()):,} of {n_latents:,} latents have a label that is neither -1 nor 0 to "
        f"{n - 1}; none may",
    )


def _left_out(
    labels: Int[np.ndarray, " latents"],
    decoder: Float[np.ndarray, "latents d_model"],
    activity: Float[np.ndarray, " latents"],
    settings: ClusteringSettings,
) -> Finding:
    name = "usable_latents_only"
    if settings.method == "labels":
        said = (
            f"the labels file decides which latents are left out; {int((labels < 0).sum()):,} are"
        )
        return Finding(name, True, said)
    rows = unit_rows(decoder)
    fires = (activity > 0) & (activity >= settings.min_activity_rate) & rows.any(axis=1)
    silent = np.flatnonzero((labels >= 0) & ~fires)
    missed = np.flatnonzero((labels < 0) & fires)
    missed = missed[~_repeats(rows[missed], rows[labels >= 0], settings.duplicate_cosine)]
    named = f" (latents {listed([*silent, *missed])})" if len(silent) + len(missed) else ""
    return Finding(
        name,
        not len(silent) and not len(missed),
        f"{len(silent):,} latents of a cluster never fire or fire too rarely, and {len(missed):,} "
        f"without a cluster fire and repeat no other{named}; both must be 0",
    )


def _repeats(
    rows: Float[np.ndarray, "rows d_model"],
    others: Float[np.ndarray, "others d_model"],
    cosine: float,
) -> Bool[np.ndarray, " rows"]:
    """Rows with an |cosine| above the limit with any of the others; in blocks, to bound memory."""
    found = np.zeros(len(rows), dtype=bool)
    step = rows_at_once(len(others))
    for start in range(0, len(rows), step):
        block = np.abs(rows[start : start + step] @ others.T)
        found[start : start + step] = (block > cosine - TOLERANCE).any(axis=1)
    return found


def _subspaces(file: safe_open, sizes: Int[np.ndarray, " clusters"], d_model: int) -> list[Finding]:
    """Sizes and bases of all clusters, read one after the other."""
    stored, wrong, skew, worst = set(file.keys()), [], [], 0.0
    for cluster_id, size in enumerate(sizes):
        names = (f"{cluster_id}.columns", f"{cluster_id}.coordinates")
        if not stored.issuperset(names):
            wrong.append(cluster_id)
            continue
        columns, coordinates = (file.get_tensor(name).astype(np.float64) for name in names)
        if coordinates.shape != (size, columns.shape[1]) or len(columns) != d_model:
            wrong.append(cluster_id)
        deviation = float(np.abs(columns.T @ columns - np.eye(columns.shape[1])).max(initial=0))
        # Written so that a NaN fails, too.
        if not (deviation <= SKEW and np.isfinite(coordinates).all()):
            skew.append(cluster_id)
        worst = float(np.fmax(worst, deviation))
    named = [f" (clusters {listed(ids)})" if ids else "" for ids in (wrong, skew)]
    return [
        Finding(
            "sizes",
            not wrong,
            f"{len(sizes) - len(wrong)} of {len(sizes)} clusters have a basis, and a row of "
            f"coordinates for each of their {int(sizes.sum()):,} latents{named[0]}; all must",
        ),
        Finding(
            "bases",
            not skew,
            f"{len(skew)} of {len(sizes)} clusters have a basis that is not orthonormal or "
            f"coordinates that are not finite{named[1]}; the largest deviation is {worst:.1e}, "
            f"{SKEW:g} is allowed",
        ),
    ]


def _empty(sizes: Int[np.ndarray, " clusters"]) -> Finding:
    empty = np.flatnonzero(sizes == 0)
    named = f" (clusters {listed(empty)})" if len(empty) else ""
    return Finding(
        "no_empty_cluster",
        not len(empty),
        f"{len(empty)} of {len(sizes)} clusters are empty{named}; none should be",
        blocking=False,
    )
