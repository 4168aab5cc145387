"""For studies whose answer is known: the corpus drawn from the process, and what was recovered."""

from aanet_assets.defs import pictures
from aanet_assets.defs.materialise import Outcome
from aanet_assets.lineage import Partition
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table, write_table


def corpus(study: Study, partition: Partition) -> Outcome:
    """Documents drawn from a process whose hidden states are known; from here on, text like any."""
    from aanet_assets.toy.corpus import write_corpus
    from aanet_assets.toy.process import PROCESSES

    assert study.truth is not None
    cache = study.cache
    documents = (cache.training_shards + cache.heldout_shards) * cache.documents_per_shard
    process = PROCESSES[study.truth.process]
    path = write_corpus(study.paths.corpus, process, documents, cache.seq_len - 1, study.truth.seed)
    return Outcome(
        [path],
        {
            "dagster/row_count": documents,
            "process": study.truth.process,
            "components": ", ".join(process.names),
        },
    )


def recovery(study: Study, partition: Partition) -> Outcome:
    """How well clusters and AANets match the process's components, which nothing before has seen.

    Read `r2` beside `token_r2` (the same regression from the current letter alone) and `leak` (the
    largest R^2 of a cluster for a component it is not matched with).
    """
    from aanet_assets.archetypes.export import load_stack, state_dict
    from aanet_assets.archetypes.network import AANet
    from aanet_assets.cache.rows import active_rows, load_cluster, load_labels
    from aanet_assets.cache.shards import counted_codes, counted_tokens
    from aanet_assets.toy.picture import write_recovery_plot
    from aanet_assets.toy.process import PROCESSES
    from aanet_assets.toy.recovery import recover, summary
    from aanet_assets.vertices.collect import barycentric_rows

    n = partition.n
    assert n is not None
    assert study.truth is not None
    process = PROCESSES[study.truth.process]
    length = study.cache.seq_len - 1
    training = [study.paths.shard(s) for s in study.training_shards]
    heldout = [study.paths.shard(s) for s in study.heldout_shards]
    codes_heldout = counted_codes(heldout)
    letters_heldout = counted_tokens(heldout).reshape(-1, length)
    clusters = read_table(study.paths, "clusters", Partition("cluster_rows", n=n))
    limits = clusters.set_index("cluster_id")["activity_limit"]
    table = read_table(study.paths, "consolidated_metrics", Partition("consolidated_metrics", n=n))
    models = {k: {m.cluster_id: m for m in load_stack(study.paths.stack(n, k))} for k in study.ks}

    def barycentric_of(cluster_id: int, k: int):
        model = models[k].get(cluster_id) if k in models else None
        if model is None or model.status != "ok":
            return None
        cluster = load_cluster(study.paths.clustering(n), cluster_id)
        network = AANet(len(cluster.basis), k, study.aanet.widths, study.aanet.simplex_scale)
        network.load_state_dict(state_dict(model, cluster.basis))
        active, rows = active_rows(codes_heldout, cluster, float(limits[cluster_id]))
        return active, barycentric_rows(network, rows, cluster.basis)

    frame = recover(
        process,
        counted_tokens(training).reshape(-1, length),
        counted_codes(training),
        letters_heldout,
        codes_heldout,
        load_labels(study.paths.clustering(n)),
        table,
        barycentric_of,
    )
    frame.insert(0, "n_clusters_total", n)
    picture = study.paths.recovery_plot(n)
    write_recovery_plot(picture, process, letters_heldout, frame, barycentric_of)
    parquet = write_table(study.paths, "recovery", partition, frame)
    return Outcome(
        [parquet, picture],
        {
            "dagster/row_count": len(frame),
            **summary(frame),
            "recovery": pictures.table(frame),
            "simplices": pictures.thumbnail(picture),
        },
    )
