"""Trust: replicates, the evidence for each cluster, and whether selections are repeated.

Each function here does the work of one partition of the asset it is named for; its docstring is
the asset's description in Dagit.
"""

from aanet_assets.defs import pictures
from aanet_assets.defs.materialise import Outcome
from aanet_assets.defs.rows import training_rows
from aanet_assets.lineage import Partition
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table, write_table


def replicates(study: Study, partition: Partition) -> Outcome:
    """AANets of every cluster at one k with further seeds, and of as many null clusters.

    Replicate 0 of a real cluster is the model of stage 1. The null clusters are those of the first
    shuffle, one for each real cluster: with them the whole takes twice what the replicates do.
    """
    import pandas as pd

    from aanet_assets.archetypes.export import load_stack
    from aanet_assets.archetypes.train import train_aanets
    from aanet_assets.trust.replicates import replicate_rows, tasks_of

    n, k, paths = partition.n, partition.k, study.paths
    assert n is not None
    assert k is not None
    number, settings = study.trust.replicates, study.aanet
    real, null = training_rows(study, n, k), training_rows(study, n, k, null=True)
    further = tasks_of(real, k, range(1, number), settings.seed, study.name, n)
    chance = tasks_of(null, k, range(number), settings.seed, study.name, n, "null")
    trained = train_aanets([*further, *chance], settings, study.device)
    # Cluster by cluster, replicate by replicate.
    first, others = load_stack(paths.stack(n, k)), iter(trained)
    groups = [(rows, False, [model]) for rows, model in zip(real, first, strict=True)]
    groups += [(rows, True, []) for rows in null]
    found = []
    for rows, is_null, models in groups:
        models += [next(others) for _ in range(number - len(models))]
        found += replicate_rows(rows, is_null, models, settings)
    frame = pd.DataFrame(found)
    frame.insert(0, "n_clusters_total", n)
    parquet = write_table(paths, "replicates", partition, frame)
    return Outcome(
        [parquet],
        {
            "dagster/row_count": len(frame),
            "trained": len(trained),
            "statuses": frame["aanet_status"].value_counts().to_dict(),
        },
    )


def evidence(study: Study, partition: Partition) -> Outcome:
    """What speaks for each cluster being a simplex, with p- and q-values against null clusters."""
    from aanet_assets.trust.evidence import gather_evidence

    n, paths = partition.n, study.paths
    assert n is not None
    shapes = read_table(paths, "cluster_shapes", Partition("cluster_shapes", n=n))
    if study.trust.replicates > 1:
        grid = [Partition("replicates", n=n, k=k) for k in study.ks]
        losses = read_table(paths, "replicates", *grid)
    else:
        metrics = Partition("consolidated_metrics", n=n)
        losses = read_table(paths, "consolidated_metrics", metrics)
        losses = losses.rename(columns={"aanet_k": "k"}).assign(is_null=False, replicate=0)
    chance = read_table(paths, "chance_groups", Partition("cluster_shapes", n=n))
    table = gather_evidence(shapes, losses, chance)
    table.insert(0, "n_clusters_total", n)
    parquet = write_table(paths, "evidence", partition, table)
    real = table[~table["is_null"]].drop(columns=["n_clusters_total", "is_null", "elbow_ks"])
    return Outcome([parquet], {"dagster/row_count": len(table), "evidence": pictures.table(real)})


def reproducibility(study: Study, partition: Partition) -> Outcome:
    """Whether the same clusters are selected again, in both modes; a table and a picture.

    The guide's selection is made twice from disjoint sets of replicates, the calibrated one from
    disjoint halves of the rows.
    """
    import pandas as pd

    from aanet_assets.analysis.canvas import save
    from aanet_assets.cache.rows import load_rows
    from aanet_assets.trust.reproducibility import (
        agreement,
        calibrated_by_rows,
        guide_by_replicates,
        reproducibility_plot,
    )

    n, paths = partition.n, study.paths
    assert n is not None
    known = read_table(paths, "evidence", Partition("evidence", n=n))
    grid = [Partition("replicates", n=n, k=k) for k in study.ks]
    trained = read_table(paths, "replicates", *grid)
    sizes = known[~known["is_null"]].set_index("cluster_id")["n_latents"]
    rows = load_rows(paths.rows(n), paths.clustering(n), range(n))
    found = [
        agreement(
            "guide",
            *guide_by_replicates(trained[~trained["is_null"]], sizes, study.selection, n),
        ),
        agreement(
            "calibrated",
            *calibrated_by_rows(known, rows, study.ks, study.selection, study.trust, n),
        ),
    ]
    picture = save(reproducibility_plot(found, n), paths.plots(n) / f"reproducibility_n{n}.png")
    table = pd.DataFrame(
        [{"n_clusters_total": n, **own._asdict(), "jaccard": own.jaccard} for own in found]
    )
    parquet = write_table(paths, "reproducibility", partition, table)
    return Outcome(
        [parquet, picture],
        {
            "dagster/row_count": len(table),
            "agreement": pictures.table(table),
            "picture": pictures.thumbnail(picture),
        },
    )
