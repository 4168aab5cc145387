"""The review page of one n_clusters, and what it needs to know of each selected cluster."""

from typing import Any

import dagster as dg

from aanet_assets.defs.materialise import Outcome
from aanet_assets.lineage import Partition
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table

POINTS, POINTS_OF_OTHERS = 400, 100
"""Held-out rows that are drawn in the simplex of a selected cluster, and of another one."""


def review_page(study: Study, partition: Partition) -> Outcome:
    """One HTML page to look at all clusters and at thresholds; opens without server and network.

    Interactive plots, each cluster's evidence, both verdicts and the simplex of its best k; for
    selected clusters the text near its vertices.
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
    fits = evidence[~evidence["is_null"]].dropna(subset="simplex_k")
    best = {int(row["cluster_id"]): int(row["simplex_k"]) for row in fits.to_dict("records")}
    ks_shown = dict(sorted({**best, **chosen}.items()))
    title = f"{study.name}, {n} clusters"
    page = {
        "summary": (
            f"SAE {study.sae.name}; {len(chosen)} of {n} clusters selected "
            f"({study.selection.mode} mode), compared with {int(evidence['is_null'].sum())} null "
            "clusters"
        ),
        "ks": ks,
        **contents.settings(study.selection, study.trust),
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
        "details": _details(study, n, chosen, ks_shown),
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


def _details(
    study: Study, n: int, chosen: dict[int, int], ks_shown: dict[int, int]
) -> dict[int, dict[str, Any]]:
    """Of each cluster with a model of its k: points, vertices, training curve.

    Of `chosen` ones the model is that of stage 3, and there are texts; of the others, and where
    stage 3 has none, it is that of stage 1.
    """
    import numpy as np

    from aanet_assets.archetypes.evaluation import subspace_network
    from aanet_assets.archetypes.export import load_stack
    from aanet_assets.archetypes.network import load_aanet
    from aanet_assets.cache.rows import load_cluster, load_rows
    from aanet_assets.checks.selection import selected
    from aanet_assets.review import contents
    from aanet_assets.review.simplex import latents_near, thousandths

    paths = study.paths
    samples = read_table(paths, "vertex_samples", Partition("vertex_samples", n=n))
    refitted = {c.cluster_id: c.file(paths, n, ".pt") for c in selected(paths, n)}
    found = {}
    for k in sorted(set(ks_shown.values())):
        stack = load_stack(paths.stack(n, k))
        curves = read_table(paths, "training_curves", Partition("aanet_models", n=n, k=k))
        curves = curves.set_index("cluster_id")["loss_history"]
        for cluster_id in (i for i, own in ks_shown.items() if own == k):
            (rows,) = load_rows(paths.rows(n), paths.clustering(n), [cluster_id])
            file, model = refitted.get(cluster_id), stack[cluster_id]
            if file is not None and file.exists():
                network, basis = load_aanet(file, study.aanet.simplex_scale), rows.basis
            elif model.status == "ok":
                network = subspace_network(model.weights, k, study.aanet)
                basis = np.eye(rows.basis.shape[1], dtype=np.float32)
            else:
                continue
            own = samples[samples["cluster_id"] == cluster_id]
            drawn = POINTS if cluster_id in chosen else POINTS_OF_OTHERS
            near = latents_near(network, basis, load_cluster(paths.clustering(n), cluster_id))
            found[cluster_id] = {
                "k": k,
                "curve": contents.thinned(curves[cluster_id]),
                "points": thousandths(network, basis, rows.heldout[:drawn]),
                "vertices": [
                    {"latents": latents}
                    | (contents.vertex_texts(own, i) if cluster_id in chosen else {})
                    for i, latents in enumerate(near)
                ],
            }
    return dict(sorted(found.items()))
