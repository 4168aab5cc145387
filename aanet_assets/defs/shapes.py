"""Trust, as far as no AANet is needed: null clusters, and the shapes of all clusters.

Each function here does the work of one partition of the asset it is named for; its docstring is
the asset's description in Dagit.
"""

from aanet_assets.defs import pictures
from aanet_assets.defs.materialise import Outcome
from aanet_assets.defs.rows import row_seed
from aanet_assets.lineage import Partition
from aanet_assets.seeds import seed_for
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table, write_table


def null_clusters(study: Study, partition: Partition) -> Outcome:
    """Chance clusters of the same sizes and activities as the real ones, and their rows.

    Each shuffle of the labels gives one null cluster for every real one: number s * n_clusters + i
    is matched with cluster i. Rows are drawn and kept as those of real clusters are.
    """
    import numpy as np
    import pandas as pd

    from aanet_assets.cache.rows import (
        Cluster,
        gather_rows,
        load_labels,
        save_clusters,
        save_rows,
        without_long_tokens,
    )
    from aanet_assets.cache.shards import counted_codes
    from aanet_assets.clustering.ranks import orthonormal, span_basis
    from aanet_assets.lm.sae import decoder_rows, load_sae
    from aanet_assets.progress import Progress
    from aanet_assets.trust.nulls import matched_shuffle, shuffles_for

    n = partition.n
    assert n is not None
    decoder = decoder_rows(load_sae(study.sae))
    shards = [study.paths.shard(s) for s in study.training_shards]
    codes = counted_codes(shards)
    activity = codes.getnnz(axis=0) / codes.shape[0]
    codes = without_long_tokens(codes, shards, study.rows)[0].tocsc()
    real = load_labels(study.paths.clustering(n))
    shuffles = shuffles_for(study.trust.nulls, n)
    progress = Progress(shuffles * n, "clusters", f"null clusters, n_clusters {n}")
    labels, clusters, gathered, table = [], [], [], []
    for shuffle in range(shuffles):
        seed = seed_for(study.trust.seed, study.name, n, "shuffle", shuffle)
        labels.append(matched_shuffle(real, activity, seed))
        for matched in range(n):
            cluster_id = shuffle * n + matched
            latents = np.flatnonzero(labels[-1] == matched)
            columns = span_basis(decoder[latents])
            coordinates = decoder[latents] @ orthonormal(columns)
            clusters.append(Cluster(cluster_id, latents, columns, coordinates))
            seed = row_seed(study, n, cluster_id, null=True)
            found = gather_rows(codes, clusters[-1], study.rows, study.extrema, seed)
            gathered.append(found.rows)
            table.append(
                {
                    "n_clusters_total": n,
                    "cluster_id": cluster_id,
                    "is_null": True,
                    "n_latents": len(latents),
                    "latent_indices": latents.tolist(),
                    "active_tokens": found.active_tokens,
                    "activity_limit": found.activity_limit,
                    "extrema_problem": found.extrema_problem,
                }
            )
            progress.advance()
    save_clusters(study.paths.null_clustering(n), np.stack(labels), clusters)
    save_rows(study.paths.null_rows(n), gathered)
    frame = pd.DataFrame(table)
    parquet = write_table(study.paths, "null_clusters", partition, frame)
    return Outcome(
        [study.paths.null_clustering(n), study.paths.null_rows(n), parquet],
        {"dagster/row_count": len(table), "shuffles": shuffles},
    )


def cluster_shapes(study: Study, partition: Partition) -> Outcome:
    """How well a simplex of k vertices fits the rows of each cluster, without any AANet.

    Real and null clusters alike. `coactivity` is the effective number of latents active together;
    the table `chance_groups` has it for many more groups made by chance.
    """
    import numpy as np
    import pandas as pd

    from aanet_assets.cache.rows import (
        activity_limit,
        load_labels,
        load_rows,
        member_codes,
        summed_activation,
        without_long_tokens,
    )
    from aanet_assets.cache.shards import counted_codes
    from aanet_assets.lm.sae import decoder_rows, load_sae
    from aanet_assets.progress import Progress
    from aanet_assets.trust.nulls import matched_shuffle, shuffles_for
    from aanet_assets.trust.shapes import coactivity, interior, shapes_of

    n, paths = partition.n, study.paths
    assert n is not None
    lengths = np.linalg.norm(decoder_rows(load_sae(study.sae)), axis=1)
    shards = [paths.shard(s) for s in study.training_shards]
    codes = counted_codes(shards)
    activity = codes.getnnz(axis=0) / codes.shape[0]
    codes = without_long_tokens(codes, shards, study.rows)[0].tocsc()

    def together(latents: np.ndarray) -> float | None:
        members = member_codes(codes, latents)
        summed = summed_activation(members)
        active = np.flatnonzero(summed > activity_limit(summed, study.rows))
        return coactivity(members[active], lengths[latents])

    real = read_table(paths, "clusters", Partition("cluster_rows", n=n))
    null = read_table(paths, "null_clusters", Partition("null_clusters", n=n))
    kinds = (
        (real.assign(is_null=False), load_rows(paths.rows(n), paths.clustering(n), range(n))),
        (null, load_rows(paths.null_rows(n), paths.null_clustering(n), range(len(null)))),
    )
    progress = Progress(n + len(null), "clusters", f"shapes, n_clusters {n}")
    found = []
    for frame, rows in kinds:
        for cluster, own in zip(frame.sort_values("cluster_id").to_dict("records"), rows,
                                strict=True):  # fmt: skip
            latents = np.asarray(cluster["latent_indices"], dtype=np.int64)
            seed = seed_for(study.rows.seed, study.name, n, "shape", cluster["cluster_id"])
            known = {
                "n_clusters_total": n,
                "cluster_id": cluster["cluster_id"],
                "is_null": cluster["is_null"],
                "n_latents": len(latents),
                "coactivity": together(latents),
                "interior": interior(own.train),
            }
            shapes = shapes_of(own.train, study.ks, seed)
            found += [{**known, **shape._asdict(), "fit": shape.fit} for shape in shapes]
            if not shapes:
                none = ("k", "pca_explained", "occupancy", "fit")
                found.append({**known, **dict.fromkeys(none)})
            progress.advance()
    labels = load_labels(paths.clustering(n))
    chance, shuffles = [], shuffles_for(study.trust.chance, n)
    progress = Progress(shuffles * n, "groups", f"chance groups, n_clusters {n}")
    for shuffle in range(shuffles):
        seed = seed_for(study.trust.seed, study.name, n, "chance", shuffle)
        shuffled = matched_shuffle(labels, activity, seed)
        for i in range(n):
            group = np.flatnonzero(shuffled == i)
            chance.append((n, True, len(group), together(group)))
            progress.advance()
    columns = ["n_clusters_total", "is_null", "n_latents", "coactivity"]
    groups = pd.DataFrame(chance, columns=columns)
    shapes = pd.DataFrame(found)
    files = [
        write_table(paths, "cluster_shapes", partition, shapes),
        write_table(paths, "chance_groups", partition, groups),
    ]
    best = shapes[~shapes["is_null"]].sort_values("fit", ascending=False)
    shown = best.drop_duplicates("cluster_id").drop(columns=["n_clusters_total", "is_null"])
    return Outcome(files, {"dagster/row_count": len(shapes), "best": pictures.table(shown)})
