"""Stage 3: the models of the selected clusters, and the text near each of their vertices."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg

from aanet_assets.defs import pictures
from aanet_assets.defs.materialise import Outcome
from aanet_assets.files import finite_or_null, write_json, write_json_lines
from aanet_assets.lineage import Partition
from aanet_assets.seeds import seed_for
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table, write_table

if TYPE_CHECKING:
    from aanet_assets.vertices.collect import Collection


class _Chosen(NamedTuple):
    """One selected cluster."""

    cluster_id: int
    k: int
    category: str
    k_source: str


def _selection(study: Study, n: int) -> list[_Chosen]:
    verdicts = read_table(study.paths, "selected_clusters", Partition("selected_clusters", n=n))
    rows = verdicts[verdicts["selected"]][list(_Chosen._fields)].to_dict("records")
    return [
        _Chosen(int(row["cluster_id"]), int(row["k"]), row["category"], row["k_source"])
        for row in rows
    ]


def _file(study: Study, n: int, chosen: _Chosen, ending: str) -> Path:
    stem = study.paths.selected_stem(chosen.cluster_id, chosen.k, chosen.category)
    return study.paths.stage3(n) / f"{stem}{ending}"


def refit_models(study: Study, partition: Partition) -> Outcome:
    """One AANet per selected cluster at its chosen k: trained afresh, or taken from stage 1.

    `refit.mode` decides. A fresh one finds its own extrema on a larger sample.
    """
    from aanet_assets.analysis.curves import metrics_history
    from aanet_assets.archetypes.data import LOSSES, Task
    from aanet_assets.archetypes.export import load_stack, save_pt, state_dict
    from aanet_assets.archetypes.extrema import with_extrema
    from aanet_assets.archetypes.train import train_aanets
    from aanet_assets.cache.rows import load_cluster, load_rows
    from aanet_assets.vertices.original import cluster_fields, path_in_project, training_fields
    from aanet_assets.vertices.selected import remove_others

    n = partition.n
    assert n is not None
    selection = _selection(study, n)
    table = read_table(study.paths, "consolidated_metrics", Partition("consolidated_metrics", n=n))
    metrics = {(row["cluster_id"], row["aanet_k"]): row for row in table.to_dict("records")}
    files, outcomes = [], []
    if study.refit.mode == "retrain":
        ids = [chosen.cluster_id for chosen in selection]
        rows = load_rows(study.paths.rows(n), study.paths.clustering(n), ids)
        tasks = []
        for cluster, chosen in zip(rows, selection, strict=True):
            key = ("refit", n, chosen.cluster_id, chosen.k)
            seed = seed_for(study.aanet.seed, study.name, *key)
            own = with_extrema(cluster, chosen.k, study.refit.extrema, seed)
            tasks.append(Task(own, chosen.k, seed))
        models = train_aanets(tasks, study.aanet, study.device)
        for chosen, cluster, model in zip(selection, rows, models, strict=True):
            if model.status == "ok":
                files.append(_file(study, n, chosen, ".pt"))
                save_pt(files[-1], state_dict(model, cluster.basis))
            curves = {
                "cluster_id": chosen.cluster_id,
                "aanet_k": chosen.k,
                "metrics_history": metrics_history(model.history),
            }
            files.append(write_json(_file(study, n, chosen, "_curves.json"), curves))
            losses = {
                name: finite_or_null([loss])[0] for name, loss in (model.losses or {}).items()
            }
            outcomes.append({"status": model.status, "reason": model.reason, "losses": losses})
    else:
        stacks = {chosen.k: study.paths.stack(n, chosen.k) for chosen in selection}
        trained = {k: load_stack(path) for k, path in stacks.items()}
        for chosen in selection:
            model = trained[chosen.k][chosen.cluster_id]
            if model.status == "ok":
                cluster = load_cluster(study.paths.clustering(n), chosen.cluster_id)
                files.append(_file(study, n, chosen, ".pt"))
                save_pt(files[-1], state_dict(model, cluster.basis))
            taken_from = stacks[chosen.k].name
            outcomes.append(
                {"status": model.status, "reason": model.reason, "taken_from": taken_from}
            )
    for chosen, outcome in zip(selection, outcomes, strict=True):
        latents = load_cluster(study.paths.clustering(n), chosen.cluster_id).latents.tolist()
        known = metrics[chosen.cluster_id, chosen.k]
        losses = outcome.get("losses", {name: known[f"aanet_{name}"] for name in LOSSES})
        model_path, curves_path = (
            path_in_project(study.paths, file) if file in files else None
            for file in (_file(study, n, chosen, ending) for ending in (".pt", "_curves.json"))
        )
        metadata = {
            "n_clusters_total": n,
            **chosen._asdict(),
            "latent_indices": latents,
            **cluster_fields(n, chosen.k, latents, known),
            "mode": study.refit.mode,
            **outcome,
            "model": study.model,
            "sae_id": study.sae.name,
            "refit": study.refit.model_dump(mode="json"),
            "aanet": study.aanet.model_dump(mode="json", exclude={"export_pt"}),
            **training_fields(losses, study.aanet, model_path, curves_path),
        }
        files.append(write_json(_file(study, n, chosen, "_metadata.json"), metadata))
    remove_others(study.paths.stage3(n), (".pt", "_metadata.json", "_curves.json"), files)
    shown = [
        {**chosen._asdict(), **outcome} for chosen, outcome in zip(selection, outcomes, strict=True)
    ]
    return Outcome(
        files,
        {
            "dagster/row_count": len(selection),
            "mode": study.refit.mode,
            "models": dg.MetadataValue.json(shown) if shown else "no cluster is selected",
        },
    )


def vertex_samples(study: Study, partition: Partition) -> Outcome:
    """Text near each vertex of each selected cluster, from held-out tokens, with statistics.

    Held-out chunks that stand word for word in training text, too, are left out and counted. Writes
    the samples, the statistics and the manifest of the folder, and the same as tables.
    """
    import json

    import pandas as pd

    from aanet_assets.cache.shards import read_shard
    from aanet_assets.lm.corpus import load_tokenizer
    from aanet_assets.manifest import rewrite_manifest
    from aanet_assets.progress import Progress
    from aanet_assets.tables import TABLES
    from aanet_assets.vertices.original import (
        CLUSTER_FIELDS,
        manifest_fields,
        path_in_project,
        stats_fields,
    )
    from aanet_assets.vertices.repeats import hashes_of, without
    from aanet_assets.vertices.report import sample_rows, stats_rows, status
    from aanet_assets.vertices.selected import remove_others

    n = partition.n
    assert n is not None
    folder, selection = study.paths.stage3(n), _selection(study, n)
    # One read of the held-out tokens serves all clusters, and none is needed without any.
    read = [read_shard(study.paths.shard(s)) for s in study.heldout_shards if selection]
    known = hashes_of(study.paths.shard(s) for s in study.training_shards if selection)
    shards = [without(shard, known) for shard in read]
    chunks, unseen = (sum(len(shard.tokens) for shard in each) for each in (read, shards))
    overlap = {"heldout_chunks": chunks, "chunks_in_training": chunks - unseen}
    tokenizer = load_tokenizer(study) if selection else None
    progress = Progress(len(selection), "clusters", f"collecting vertex samples, n_clusters {n}")
    files, samples, stats, entries, results = [], [], [], [], []
    for chosen in selection:
        metadata_file = _file(study, n, chosen, "_metadata.json")
        metadata = json.loads(metadata_file.read_text(encoding="utf-8"))
        entry = {**chosen._asdict(), **{name: metadata[name] for name in CLUSTER_FIELDS}}
        collection = _collect(study, n, chosen, shards, tokenizer)
        entry["collection_status"] = status(collection, study.vertices)
        if collection is not None:
            key = {"n_clusters_total": n, "cluster_id": chosen.cluster_id, "aanet_k": chosen.k}
            key |= {"category": chosen.category}
            rows = sample_rows(collection)
            file = _file(study, n, chosen, "_vertex_samples.jsonl")
            files.append(write_json_lines(file, rows))
            entry["vertex_samples_path"] = path_in_project(study.paths, file)
            samples += [{**key, **row} for row in rows]
            vertices = [{**vertex, **overlap} for vertex in stats_rows(collection, study.vertices)]
            stats += [{**key, **vertex} for vertex in vertices]
            content = {
                **key,
                "latent_indices": metadata["latent_indices"],
                "collection_status": entry["collection_status"],
                "tokens_seen": collection.tokens_seen,
                **overlap,
                "distance_threshold": study.vertices.distance,
                "vertices": vertices,
                "model": study.model,
                "tokenizer": study.model,
                **stats_fields(study, n, chosen.k, vertices),
            }
            files.append(write_json(_file(study, n, chosen, "_vertex_stats.json"), content))
            results.append(content)
        stem = study.paths.selected_stem(chosen.cluster_id, chosen.k, chosen.category)
        entry["files"] = sorted(path.name for path in folder.glob(f"{stem}[._]*"))
        entries.append(entry)
        progress.advance()
    remove_others(folder, ("_vertex_samples.jsonl", "_vertex_stats.json"), files)
    note = (
        f"{len(samples)} samples of {len(selection)} clusters; {chunks - unseen} of {chunks} "
        "held-out chunks stand in training text, too, and were left out"
        if selection
        else "no cluster is selected, so there is nothing to do; selection_funnel says why"
    )
    manifest = {
        "study": study.name,
        "n_clusters_total": n,
        "mode": study.refit.mode,
        "model": study.model,
        "sae_id": study.sae.name,
        "note": note,
        **manifest_fields(study, [n], entries, results),
    }
    files.append(write_json(study.paths.stage3_manifest(n), manifest))
    stats_frame = pd.DataFrame(stats, columns=TABLES["vertex_stats"].names)
    samples_frame = pd.DataFrame(samples, columns=TABLES["vertex_samples"].names)
    files.append(write_table(study.paths, "vertex_stats", partition, stats_frame))
    files.append(write_table(study.paths, "vertex_samples", partition, samples_frame))
    return Outcome(
        files,
        {
            "dagster/row_count": len(samples),
            "outcome": note,
            "vertices": pictures.table(stats_frame),
        },
        afterwards=rewrite_manifest,
    )


def _collect(study: Study, n: int, chosen: _Chosen, shards, tokenizer) -> "Collection | None":
    """Samples of one cluster; None where its refit has no model."""
    from aanet_assets.archetypes.network import load_aanet
    from aanet_assets.cache.rows import load_cluster
    from aanet_assets.vertices.collect import collect

    model_file = _file(study, n, chosen, ".pt")
    if not model_file.exists():
        return None
    clusters = read_table(study.paths, "clusters", Partition("cluster_rows", n=n))
    limit = clusters.set_index("cluster_id")["activity_limit"][chosen.cluster_id]
    return collect(
        shards,
        load_cluster(study.paths.clustering(n), chosen.cluster_id),
        float(limit),
        load_aanet(model_file, study.aanet.simplex_scale),
        tokenizer,
        study.vertices,
    )
