"""Checks of the text near the vertices."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open

from aanet_assets.checks.finding import Finding, listed
from aanet_assets.checks.selection import selected
from aanet_assets.lineage import Partition
from aanet_assets.paths import StudyPaths
from aanet_assets.warehouse import read_table

LARGEST_REPEATED = 0.05
"""Share of sampled chunks that may stand word for word among the training chunks, too: short ones
repeat by chance."""
_PARALLEL = (
    "distances_to_vertex", "trigger_token_indices", "trigger_token_ids", "trigger_word_indices",
    "trigger_words",
)  # fmt: skip
_VERTEX = ["cluster_id", "vertex_id"]


def check_samples(
    paths: StudyPaths, n: int, heldout: Sequence[int], training: Sequence[int]
) -> list[Finding]:
    """Check samples, statistics and manifest of one n, given the numbers of the shards."""
    partition = Partition("vertex_samples", n=n)
    samples = read_table(paths, "vertex_samples", partition)
    stats = read_table(paths, "vertex_stats", partition)
    return [
        _counts(samples, stats, paths, n),
        _triggers(samples),
        _distances(samples, stats),
        *_origin(
            samples, [paths.shard(s) for s in heldout], [paths.shard(s) for s in training]
        ),
    ]  # fmt: skip


def _counts(samples: pd.DataFrame, stats: pd.DataFrame, paths: StudyPaths, n: int) -> Finding:
    """The table of samples, the statistics, the files and the manifest tell of the same samples."""
    problems, chosen = [], selected(paths, n)
    modelled = [one for one in chosen if one.file(paths, n, ".pt").is_file()]
    vertices = {(one.cluster_id, v) for one in modelled for v in range(one.k)}
    said = stats.set_index(_VERTEX)["samples"]
    if len(stats) != len(vertices) or set(said.index) != vertices:
        problems.append(f"{len(stats)} vertices have statistics, {len(vertices)} must")
    counted = samples.groupby(_VERTEX).size()
    for vertex in sorted(set(said.index) | set(counted.index)):
        expected, found = said.get(vertex, 0), counted.get(vertex, 0)
        if found != expected:
            name = f"vertex {vertex[1]} of cluster {vertex[0]}"
            problems.append(f"{name} has {found} samples, its statistics say {expected}")
    per_cluster = samples.groupby("cluster_id").size()
    for one in modelled:
        path = one.file(paths, n, "_vertex_samples.jsonl")
        lines = path.read_bytes().count(b"\n") if path.is_file() else 0
        if lines != per_cluster.get(one.cluster_id, 0):
            problems.append(f"{path.name} has {lines} lines")
    manifest = json.loads((paths.stage3(n) / "manifest.json").read_text(encoding="utf-8"))
    if [entry["cluster_id"] for entry in manifest["clusters"]] != [c.cluster_id for c in chosen]:
        problems.append(f"the manifest has {len(manifest['clusters'])} clusters")
    named = f" ({listed(problems, 3)})" if problems else ""
    return Finding(
        "counts",
        not problems,
        f"{len(samples):,} samples at {len(stats)} vertices of {len(chosen)} selected clusters; "
        f"table, statistics, files and manifest disagree {len(problems)} times{named}, and must "
        "not",
    )


def _triggers(samples: pd.DataFrame) -> Finding:
    wrong = [
        f"sample {place} of cluster {row['cluster_id']}: {problem}"
        for place, row in enumerate(samples.to_dict("records"))
        if (problem := _problem_of(row))
    ]
    named = f" ({listed(wrong, 3)})" if wrong else ""
    return Finding(
        "triggers",
        not wrong,
        f"{len(wrong):,} of {len(samples):,} samples have trigger tokens or words that are not "
        f"where they say{named}; none may",
    )


def _problem_of(row: Mapping[Any, Any]) -> str | None:
    ids, positions = row["chunk_token_ids"], row["trigger_token_indices"]
    lengths = {len(row[name]) for name in _PARALLEL}
    if len(lengths) != 1 or 0 in lengths:
        return "lists of unequal length, or empty ones"
    if positions.min() < 0 or positions.max() >= len(ids) or (np.diff(positions) <= 0).any():
        return f"token indices {list(positions)} in a chunk of {len(ids)}, each once and in order"
    if (ids[positions] != row["trigger_token_ids"]).any():
        return "trigger tokens that are not the chunk's"
    words = row["full_text"].split()
    for index, word in zip(row["trigger_word_indices"], row["trigger_words"], strict=True):
        # A chunk of nothing but white space has no words to point at.
        if words and (not 0 <= index < len(words) or words[index] != word):
            return f"trigger word {word!r} at {index} of {len(words)} words"
    return None


def _distances(samples: pd.DataFrame, stats: pd.DataFrame) -> Finding:
    per_vertex = stats[[*_VERTEX, "distance_threshold"]].drop_duplicates(_VERTEX)
    limits = samples.merge(per_vertex, on=_VERTEX, how="left")
    found = [np.asarray(d, dtype=np.float64) for d in samples["distances_to_vertex"]]
    allowed = np.repeat(limits["distance_threshold"].to_numpy(float), [len(d) for d in found])
    distances = np.concatenate([np.zeros(0), *found])
    # Written so that a NaN, or a vertex without a limit, counts as wrong.
    wrong = int((~((distances >= 0) & (distances <= allowed))).sum())
    largest = f"the largest is {np.nanmax(distances):.4g}, " if len(distances) else ""
    limit = listed(sorted(set(stats["distance_threshold"]))) or "none, as there are no vertices"
    return Finding(
        "distances",
        wrong == 0,
        f"{wrong:,} of {len(distances):,} distances from a vertex are out of range; {largest}from "
        f"0 to the limit is allowed ({limit})",
    )


def _origin(samples: pd.DataFrame, heldout: list[Path], training: list[Path]) -> list[Finding]:
    chunks = {np.asarray(ids, dtype=np.int32).tobytes() for ids in samples["chunk_token_ids"]}
    known, repeated = _present(chunks, heldout), _present(chunks, training)
    share = len(repeated) / max(len(chunks), 1)
    return [
        Finding(
            "held_out",
            known == chunks,
            f"{len(known):,} of {len(chunks):,} sampled chunks are chunks of the held-out shards; "
            "all must be",
        ),
        Finding(
            "unseen_in_training",
            share <= LARGEST_REPEATED,
            f"{len(repeated):,} of {len(chunks):,} sampled chunks ({share:.1%}) are word for word "
            f"chunks of the training shards, too; more than {LARGEST_REPEATED:.0%} tell of a "
            "corpus that repeats itself",
            blocking=False,
        ),
    ]


def _present(chunks: set[bytes], shards: Iterable[Path]) -> set[bytes]:
    """Those of the chunks that occur in some shards; none of the shards is kept in memory."""
    found: set[bytes] = set()
    for shard in shards if chunks else ():
        with safe_open(shard, framework="numpy") as file:
            tokens = file.get_tensor("tokens").astype(np.int32, copy=False)
        found |= chunks.intersection(row.tobytes() for row in tokens)
    return found
