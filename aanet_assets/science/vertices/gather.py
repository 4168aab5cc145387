"""Samples of all selected clusters of one n_clusters: rows, statistics, the manifest."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from aanet_assets.science.aanet.export import load_aanet
from aanet_assets.science.activations.rows import load_cluster, without_long_tokens_of
from aanet_assets.science.activations.shards import Shard, chunk_tokens, read_shard
from aanet_assets.science.vertices.collect import Search, collect
from aanet_assets.science.vertices.original import (
    CLUSTER_FIELDS,
    manifest_fields,
    path_in_project,
    stats_fields,
)
from aanet_assets.science.vertices.repeats import chunk_hashes, hashes_of, without
from aanet_assets.science.vertices.report import sample_rows, stats_rows, status
from aanet_assets.science.vertices.selected import Chosen
from aanet_assets.storage.files import write_json, write_json_lines
from aanet_assets.study.progress import Progress
from aanet_assets.study.study import Study

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ClusterFiles(NamedTuple):
    """The files of one selected cluster."""

    model: Path
    metadata: Path
    samples: Path
    stats: Path


class Heldout(NamedTuple):
    """Held-out tokens that no AANet has seen, word for word."""

    shards: Iterable[Shard]
    """Read when their turn comes, once."""
    overlap: dict[str, int]
    """How many held-out chunks there are, and how many of them stand in training text, too."""


def unseen(heldout: Sequence[Path], training: Sequence[Path], norm_limit: float) -> Heldout:
    """Held-out shards, without the chunks that training shards have, too.

    Args:
        norm_limit: length of the residual stream above which a token is left out; NaN for none.
    """
    known = hashes_of(training)
    progress = Progress(len(heldout), "held-out shards", "collecting vertex samples")

    def read() -> Iterator[Shard]:
        for path in heldout:
            yield without(without_long_tokens_of(read_shard(path), norm_limit), known)
            progress.advance()

    repeated = [np.isin(chunk_hashes(chunk_tokens(path)), known) for path in heldout]
    chunks, left_out = sum(map(len, repeated)), sum(int(each.sum()) for each in repeated)
    return Heldout(read(), {"heldout_chunks": chunks, "chunks_in_training": left_out})


@dataclass
class Gathered:
    """What was found near the vertices of all selected clusters."""

    files: list[Path] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    stats: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    """Of the manifest, one per cluster."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """Statistics of the clusters that have a model."""


def gather_samples(
    study: Study,
    n: int,
    selection: Sequence[tuple[Chosen, ClusterFiles]],
    clusters: pd.DataFrame,
    clustering: Path,
    heldout: Heldout,
    tokenizer: "PreTrainedTokenizerBase | None",
) -> Gathered:
    """Collect the samples of each selected cluster and write its files.

    Args:
        clusters: the table of that name.
        clustering: its file.
        tokenizer: of the model; None where nothing is selected.
    """
    limits = clusters.set_index("cluster_id")["activity_limit"]
    # A refit that failed has no model.
    searches = {
        chosen: Search(
            load_cluster(clustering, chosen.cluster_id),
            float(limits[chosen.cluster_id]),
            load_aanet(files.model, study.aanet.simplex_scale),
        )
        for chosen, files in selection
        if files.model.exists()
    }
    collections = {}
    if tokenizer is not None:
        found_of = collect(heldout.shards, [*searches.values()], tokenizer, study.vertices)
        collections = dict(zip(searches, found_of, strict=True))
    found = Gathered()
    for chosen, files in selection:
        metadata = json.loads(files.metadata.read_text(encoding="utf-8"))
        entry = {**chosen._asdict(), **{name: metadata[name] for name in CLUSTER_FIELDS}}
        collection = collections.get(chosen)
        entry["collection_status"] = status(collection, study.vertices)
        if collection is not None:
            key = {"n_clusters_total": n, "cluster_id": chosen.cluster_id, "aanet_k": chosen.k}
            key |= {"category": chosen.category}
            rows = sample_rows(collection)
            found.files.append(write_json_lines(files.samples, rows))
            entry["vertex_samples_path"] = path_in_project(study.paths, files.samples)
            found.samples += [{**key, **row} for row in rows]
            vertices = [
                {**vertex, **heldout.overlap} for vertex in stats_rows(collection, study.vertices)
            ]
            found.stats += [{**key, **vertex} for vertex in vertices]
            content = {
                **key,
                "latent_indices": metadata["latent_indices"],
                "collection_status": entry["collection_status"],
                "tokens_seen": collection.tokens_seen,
                **heldout.overlap,
                "distance_threshold": study.vertices.distance,
                "vertices": vertices,
                "model": study.model,
                "tokenizer": study.model,
                **stats_fields(study, n, chosen.k, vertices),
            }
            found.files.append(write_json(files.stats, content))
            found.results.append(content)
        stem = files.model.name.removesuffix(".pt")
        entry["files"] = sorted(path.name for path in files.model.parent.glob(f"{stem}[._]*"))
        found.entries.append(entry)
    return found


def manifest_of(study: Study, n: int, gathered: Gathered, heldout: Heldout) -> dict[str, Any]:
    """The manifest of one n_clusters."""
    chunks, repeated = heldout.overlap["heldout_chunks"], heldout.overlap["chunks_in_training"]
    note = (
        f"{len(gathered.samples)} samples of {len(gathered.entries)} clusters; {repeated} of "
        f"{chunks} held-out chunks stand in training text, too, and were left out"
        if gathered.entries
        else "no cluster is selected, so there is nothing to do; selection_funnel says why"
    )
    return {
        "study": study.name,
        "n_clusters_total": n,
        "mode": study.refit.mode,
        "model": study.model,
        "sae_id": study.sae.name,
        "note": note,
        **manifest_fields(study, [n], gathered.entries, gathered.results),
    }
