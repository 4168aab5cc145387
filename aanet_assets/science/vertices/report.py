"""A collection of vertex samples as rows: what the files and the tables of stage 3 hold."""

from dataclasses import asdict
from typing import Any

import numpy as np

from aanet_assets.science.vertices.collect import Collection
from aanet_assets.science.vertices.repeats import LOOKED_AT, near_repeats
from aanet_assets.study.settings import VertexSettings


def sample_rows(collection: Collection) -> list[dict[str, Any]]:
    """One row per sample, with the fields of `Sample`."""
    return [asdict(sample) for sample in collection.samples]


def stats_rows(collection: Collection, settings: VertexSettings) -> list[dict[str, Any]]:
    """One row per vertex: its samples, how many texts they are, whether it reached the target."""
    texts = [set() for _ in collection.counts]
    chunks: list[list[list[int]]] = [[] for _ in collection.counts]
    for sample in collection.samples:
        texts[sample.vertex_id].add(sample.full_text)
        chunks[sample.vertex_id].append(sample.chunk_token_ids)
    return [
        {
            "vertex_id": vertex,
            "samples": count,
            "different_texts": len(texts[vertex]),
            "near_repeats": _near_repeats(chunks[vertex]),
            "repeated_chunks": collection.repeated[vertex],
            "target": settings.samples_per_vertex,
            "reached_target": count >= settings.samples_per_vertex,
            "tokens_seen": collection.tokens_seen,
            "distance_threshold": settings.distance,
        }
        for vertex, count in enumerate(collection.counts)
    ]


def _near_repeats(chunks: list[list[int]]) -> int:
    return near_repeats(np.array(chunks[:LOOKED_AT])) if chunks else 0


def status(collection: Collection | None, settings: VertexSettings) -> str:
    """`complete`, `incomplete_vertices_` and the vertices short of the target, or `no_model`."""
    if collection is None:
        return "no_model"
    short = collection.incomplete(settings.samples_per_vertex)
    return "incomplete_vertices_" + "_".join(map(str, short)) if short else "complete"
