"""The review page of one n_clusters, and what it needs to know of each selected cluster."""

from typing import Any

import dagster as dg

from aanet_assets.defs.materialise import Outcome
from aanet_assets.lineage import Partition
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table

POINTS = 400
"""Held-out rows of a selected cluster that are drawn in its simplex."""
LATENTS_PER_VERTEX = 4


def review_page(study: Study, partition: Partition) -> Outcome:
    """One HTML page to look at all clusters and at thresholds; opens without server and network.

    Interactive plots, each cluster's evidence and both verdicts, and for selected clusters their
    simplex and the text near its vertices.
    """
    from aanet_assets.review import contents
    from aanet_assets.review.page import write_page

    n, paths, ks = partition.n, study.paths, list(study.ks)
    assert n is not None
    metrics = read_table(paths, "consolidated_metrics", Partition("consolidated_metrics", n=n))
    evidence = read_table(paths, "evidence", Partition("evidence", n=n))
    verdicts = read_table(paths, "selected_clusters", Partition("selected_clusters", n=n))
    shapes = read_table(paths, "cluster_shapes", Partition("cluster_shapes", n=n))
    replicates = None
    if study.trust.replicates > 1:
        grid = [Partition("replicates", n=n, k=k) for k in ks]
        replicates = read_table(paths, "replicates", *grid)
    real = shapes[~shapes["is_null"]].dropna(subset="k")
    selected = verdicts[verdicts["selected"]]
    chosen = {int(row["cluster_id"]): int(row["k"]) for row in selected.to_dict("records")}
    title = f"{study.name}, {n} clusters"
    page = {
        "summary": (
            f"SAE {study.sae.name}; {len(chosen)} of {n} clusters selected "
            f"({study.selection.mode} mode), compared with {int(evidence['is_null'].sum())} null "
            "clusters"
        ),
        "mode": study.selection.mode,
        "ks": ks,
        "limits": contents.limits(study.selection, study.trust),
        "guide": contents.guide_limits(metrics, study.selection),
        "clusters": contents.cluster_rows(metrics, evidence, verdicts),
        "shapes": {
            int(str(cluster_id)): [
                [
                    int(row["k"]),
                    *contents.numbers(row[c] for c in ("pca_explained", "occupancy", "fit")),
                ]
                for row in own.to_dict("records")
            ]
            for cluster_id, own in real.groupby("cluster_id")
        },
        "bands": contents.bands(replicates, ks),
        "details": _details(study, n, chosen),
    }
    path = paths.review(n)
    write_page(path, title, page)
    return Outcome(
        [path],
        {
            "dagster/row_count": n,
            "page": dg.MetadataValue.url(path.as_uri()),
            "to open it": f"aanet review {study.name} --n-clusters {n}",
        },
    )


def _details(study: Study, n: int, chosen: dict[int, int]) -> dict[int, dict[str, Any]]:
    """Of each selected cluster that has a model: points, vertices, texts, training curve."""
    from aanet_assets.checks.selection import selected
    from aanet_assets.review import contents

    if not chosen:
        return {}
    paths = study.paths
    samples = read_table(paths, "vertex_samples", Partition("vertex_samples", n=n))
    curves = read_table(
        paths,
        "training_curves",
        *(Partition("aanet_models", n=n, k=k) for k in set(chosen.values())),
    ).set_index(["cluster_id", "aanet_k"])["loss_history"]
    found = {}
    for cluster in selected(paths, n):
        model_file = cluster.file(paths, n, ".pt")
        if not model_file.exists():
            continue
        points, latents = _simplex(study, n, cluster.cluster_id, model_file)
        own = samples[samples["cluster_id"] == cluster.cluster_id]
        found[cluster.cluster_id] = {
            "k": cluster.k,
            "curve": contents.thinned(curves[cluster.cluster_id, cluster.k]),
            "points": [contents.numbers(point) for point in points],
            "vertices": [
                {**contents.vertex_texts(own, i), "latents": near} for i, near in enumerate(latents)
            ],
        }
    return found


def _simplex(study: Study, n: int, cluster_id: int, model_file):
    """Barycentric coordinates of held-out rows, and the latents nearest each vertex by cosine."""
    import numpy as np
    import torch

    from aanet_assets.archetypes.network import load_aanet
    from aanet_assets.cache.rows import load_cluster, load_rows
    from aanet_assets.vertices.collect import barycentric_rows

    (rows,) = load_rows(study.paths.rows(n), study.paths.clustering(n), [cluster_id])
    cluster = load_cluster(study.paths.clustering(n), cluster_id)
    network = load_aanet(model_file, study.aanet.simplex_scale)
    points = barycentric_rows(network, rows.heldout[:POINTS], cluster.basis)
    with torch.no_grad():
        archetypes = network.decode(network.vertices.float()).numpy() @ cluster.basis
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)
            for x in (archetypes, cluster.coordinates)]  # fmt: skip
    nearest = []
    for cosines in unit[0] @ unit[1].T:
        best = np.argsort(-cosines, kind="stable")[:LATENTS_PER_VERTEX]
        nearest.append([[int(cluster.latents[i]), round(float(cosines[i]), 3)] for i in best])
    return points, nearest
