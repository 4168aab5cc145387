"""Stage 1, up to what AANets train on: activations, clusterings, rows.

Each function here does the work of one partition of the asset it is named for; its docstring is
the asset's description in Dagit.
"""

import dagster as dg

from aanet_assets.defs import pictures
from aanet_assets.defs.materialise import Outcome
from aanet_assets.defs.rows import row_seed
from aanet_assets.lineage import Partition
from aanet_assets.records import made_from_digest
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table, write_table


def sae_fit(study: Study, partition: Partition) -> Outcome:
    """The SAE on the corpus's first tokens: active latents, and the variance it leaves unexplained.

    An SAE that belongs to another model, layer or dtype shows here, before any shard is made.
    """
    import pandas as pd

    from aanet_assets.cache.fit import estimate, measure_fit
    from aanet_assets.lm.preflight import preflight
    from aanet_assets.progress import log

    preflight(study)
    fit, rate = measure_fit(study)
    said = estimate(study, fit, rate)
    log.info(said)
    row = {"sae_id": study.sae.name, **fit._asdict(), **_revisions(study)}
    path = write_table(study.paths, "sae_fit", partition, pd.DataFrame([row]))
    return Outcome(
        [path],
        {
            "dagster/row_count": fit.tokens,
            **fit._asdict(),
            "tokens_per_second": rate,
            "activation_cache": said,
        },
    )


def _revisions(study: Study) -> dict[str, str | None]:
    """Commits of what is on a hub."""
    return {
        "model_revision": study.revision,
        "corpus_revision": study.corpus.revision,
        "sae_revision": study.sae.revision,
    }


def activation_cache(study: Study, partition: Partition) -> Outcome:
    """Token ids and sparse SAE codes of one range of documents.

    The language model runs here and nowhere else, up to the SAE's layer. BOS and other special
    tokens carry no codes. The last shards are held out: they give vertex samples and train nothing.
    """
    import dataclasses
    import hashlib

    import pandas as pd

    from aanet_assets.cache.build import build_shard
    from aanet_assets.cache.shards import read_shard
    from aanet_assets.lm.corpus import Tally
    from aanet_assets.lm.preflight import preflight

    assert partition.shard is not None
    preflight(study)
    path = study.paths.shard(partition.shard)
    digest = made_from_digest(study, partition)
    fit = read_table(study.paths, "sae_fit", Partition("sae_fit"))
    tally, bytes_per_token = Tally(), fit["bytes_per_token"].iloc[0]
    resumed = build_shard(study, partition.shard, path, digest, bytes_per_token, tally)
    shard = read_shard(path)
    counted = int((~shard.special).sum())
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    row = {
        "shard": partition.shard,
        "use": "training" if partition.shard in study.training_shards else "held out",
        "first_document": shard.documents.min(),
        "last_document": shard.documents.max(),
        **dataclasses.asdict(tally),
        "chunks": len(shard.tokens),
        "tokens": shard.tokens.size,
        "counted_tokens": counted,
        "l0": shard.codes.nnz / counted,
        "bytes": path.stat().st_size,
        "sha256": checksum,
        "made_from": digest,
        **_revisions(study),
    }
    parquet = write_table(study.paths, "cache_shards", partition, pd.DataFrame([row]))
    return Outcome(
        [path, parquet],
        {
            "dagster/row_count": counted,
            "chunks": len(shard.tokens),
            "active_latents_per_token": row["l0"],
            "bytes_per_token": row["bytes"] / shard.tokens.size,
            "use": row["use"],
            "documents_that_give_nothing": tally.dropped(study.cache),
            "chunks_from_an_interrupted_run": resumed,
        },
    )


def clustering(study: Study, partition: Partition) -> Outcome:
    """Groups of latents: a label per latent, and each cluster's decoder subspace, rank, residual.

    Latents that never fire, fire too rarely or repeat an earlier one carry label -1.
    """
    import numpy as np

    from aanet_assets.cache.rows import Cluster, save_clusters
    from aanet_assets.cache.shards import counted_codes
    from aanet_assets.clustering.cooccurrence import cooccurrence
    from aanet_assets.clustering.decoder import usable_latents
    from aanet_assets.clustering.methods import cluster_latents
    from aanet_assets.clustering.ranks import orthonormal, span_basis
    from aanet_assets.lm.sae import decoder_rows, load_sae

    n, settings = partition.n, study.clustering
    assert n is not None
    decoder = decoder_rows(load_sae(study.sae))
    codes = counted_codes(study.paths.shard(s) for s in study.training_shards)
    activity = codes.getnnz(axis=0) / codes.shape[0]
    usable = usable_latents(
        decoder, activity, settings.min_activity_rate, settings.duplicate_cosine
    )
    affinity = None
    if settings.method == "spectral_cooccurrence":
        affinity = cooccurrence(codes, study.cache.activity_threshold, settings.cooccurrence)
    labels = cluster_latents(decoder, usable, n, settings, affinity)
    clusters = []
    for cluster_id in range(n):
        latents = np.flatnonzero(labels == cluster_id)
        columns = span_basis(decoder[latents])
        coordinates = decoder[latents] @ orthonormal(columns)
        clusters.append(Cluster(cluster_id, latents, columns, coordinates))
    path = study.paths.clustering(n)
    save_clusters(path, labels, clusters)
    sizes = sorted((len(cluster.latents) for cluster in clusters), reverse=True)
    return Outcome(
        [path],
        {
            "dagster/row_count": n,
            "method": settings.method,
            "latents_clustered": int((labels >= 0).sum()),
            "latents_left_out": int((labels < 0).sum()),
            "sizes": dg.MetadataValue.json(sizes),
            "active_latents_per_token": codes.nnz / codes.shape[0],
        },
    )


def cluster_rows(study: Study, partition: Partition) -> Outcome:
    """Training and held-out rows of each cluster in its own subspace, extrema, and ranks.

    A row is the part of the residual stream that the cluster's latents write at a token where the
    cluster is active.
    """
    import pandas as pd

    from aanet_assets.cache.rows import gather_rows, load_cluster, save_rows
    from aanet_assets.cache.shards import counted_codes
    from aanet_assets.clustering.decoder import unit_rows
    from aanet_assets.clustering.ranks import cluster_geometry
    from aanet_assets.progress import Progress

    n = partition.n
    assert n is not None
    codes = counted_codes(study.paths.shard(s) for s in study.training_shards)
    average_l0 = codes.nnz / codes.shape[0]
    codes = codes.tocsc()
    progress = Progress(n, "clusters", f"gathering rows, n_clusters {n}")
    gathered, table = [], []
    for cluster_id in range(n):
        cluster = load_cluster(study.paths.clustering(n), cluster_id)
        seed = row_seed(study, n, cluster_id)
        found = gather_rows(codes, cluster, study.rows, study.extrema, seed)
        geometry = cluster_geometry(unit_rows(cluster.coordinates), study.clustering)
        gathered.append(found.rows)
        table.append(
            {
                "n_clusters_total": n,
                "cluster_id": cluster_id,
                "n_latents": len(cluster.latents),
                "latent_indices": cluster.latents.tolist(),
                "cluster_recon_error": geometry.recon_error,
                "decoder_dir_rank": geometry.rank,
                "activation_pca_rank": found.pca_rank,
                "average_l0": average_l0,
                "active_tokens": found.active_tokens,
                "activity_limit": found.activity_limit,
                "extrema_problem": found.extrema_problem,
            }
        )
        progress.advance()
    path = study.paths.rows(n)
    save_rows(path, gathered)
    clusters = pd.DataFrame(table)
    parquet = write_table(study.paths, "clusters", partition, clusters)
    return Outcome(
        [path, parquet],
        {
            "dagster/row_count": int(sum(len(rows.train) for rows in gathered)),
            "clusters": pictures.table(clusters.drop(columns=["latent_indices"])),
        },
    )
