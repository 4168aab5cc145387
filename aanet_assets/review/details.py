"""Points, vertices and texts of each cluster's simplex, as the review page shows them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aanet_assets.review import contents
from aanet_assets.review.simplex import latents_near, thousandths
from aanet_assets.science.aanet.evaluation import subspace_network
from aanet_assets.science.aanet.export import load_aanet, load_stack
from aanet_assets.science.activations.rows import load_cluster, load_rows
from aanet_assets.study.settings import AANetSettings

POINTS, POINTS_OF_OTHERS = 400, 100
"""Held-out rows that are drawn in the simplex of a selected cluster, and of another one."""


class ClusterFiles(NamedTuple):
    """Where the clusters of one n_clusters, their models and their samples are."""

    rows: Path
    clustering: Path
    stack_of: Callable[[int], Path]
    """File of the models of stage 1 at one k."""
    curves_of: Callable[[int], pd.DataFrame]
    """Training curves of one k."""
    samples: pd.DataFrame
    """The table `vertex_samples`."""
    refits: Mapping[int, Path]
    """File of each selected cluster's model, by cluster; it may be missing."""


def details(
    files: ClusterFiles,
    chosen: Mapping[int, int],
    ks_shown: Mapping[int, int],
    settings: AANetSettings,
) -> dict[int, dict[str, Any]]:
    """Of each cluster with a model of its k: points, vertices, training curve.

    Of `chosen` ones the model is that of stage 3, and there are texts; of the others, and where
    stage 3 has none, it is that of stage 1.
    """
    entries = {}
    for k in sorted(set(ks_shown.values())):
        stack = load_stack(files.stack_of(k))
        curves = files.curves_of(k).set_index("cluster_id")["loss_history"]
        for cluster_id in (i for i, own in ks_shown.items() if own == k):
            (rows,) = load_rows(files.rows, files.clustering, [cluster_id])
            file, model = files.refits.get(cluster_id), stack[cluster_id]
            if file is not None and file.exists():
                network, basis = load_aanet(file, settings.simplex_scale), rows.basis
            elif model.status == "ok":
                network = subspace_network(model.weights, k, settings)
                basis = np.eye(rows.basis.shape[1], dtype=np.float32)
            else:
                continue
            own = files.samples[files.samples["cluster_id"] == cluster_id]
            drawn = POINTS if cluster_id in chosen else POINTS_OF_OTHERS
            near = latents_near(network, basis, load_cluster(files.clustering, cluster_id))
            entries[cluster_id] = {
                "k": k,
                "curve": contents.thinned(curves[cluster_id]),
                "points": thousandths(network, basis, rows.heldout[:drawn]),
                "vertices": [
                    {"latents": latents}
                    | (contents.vertex_texts(own, i) if cluster_id in chosen else {})
                    for i, latents in enumerate(near)
                ],
            }
    return dict(sorted(entries.items()))


def shapes_by_cluster(shapes: pd.DataFrame) -> dict[int, list[Sequence[Any]]]:
    """k, explained variance, occupancy and fit of each real cluster's simplices."""
    real = shapes[~shapes["null_cluster"]].dropna(subset="k")
    columns = ("pca_explained", "occupancy", "fit")
    return {
        int(str(cluster_id)): [
            [int(row["k"]), *contents.numbers(row[c] for c in columns)]
            for row in own.to_dict("records")
        ]
        for cluster_id, own in real.groupby("cluster_id")
    }
