"""Checks of the text near the vertices."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open

from aanet_assets.science.activations.shards import chunk_tokens
from aanet_assets.science.vertices.gather import ClusterFiles
from aanet_assets.science.vertices.repeats import LOOKED_AT, chunk_hashes, hashes_of
from aanet_assets.science.vertices.selected import Chosen
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding

LARGEST_REPEATED = 0.05
"""Share of held-out chunks that may stand word for word among the training chunks, too: short ones
repeat by chance."""
FEWEST_DIFFERENT = 0.5
"""Share of the chunks found near a vertex that must be different ones."""
_PARALLEL = (
    "distances_to_vertex", "trigger_token_indices", "trigger_token_ids", "trigger_word_indices",
    "trigger_words", "trigger_text_words", "trigger_token_starts", "trigger_token_ends",
)  # fmt: skip
_PIECE = "\ufffd"
_VERTEX = ["cluster_id", "vertex_id"]


def check_samples(
    samples: pd.DataFrame,
    stats: pd.DataFrame,
    chosen: Sequence[tuple[Chosen, ClusterFiles]],
    manifest: Path,
    heldout: Sequence[Path],
    training: Sequence[Path],
) -> list[Finding]:
    """Check samples, statistics and manifest of one n, given its selected clusters and shards."""
    return [
        _counts(samples, stats, chosen, manifest),
        _triggers(samples),
        _distances(samples, stats),
        _different(stats),
        *_origin(samples, heldout, training),
    ]


def _counts(
    samples: pd.DataFrame,
    stats: pd.DataFrame,
    chosen: Sequence[tuple[Chosen, ClusterFiles]],
    manifest_file: Path,
) -> Finding:
    """The table of samples, the statistics, the files and the manifest tell of the same samples."""
    problems: list[str] = []
    modelled = {one: files for one, files in chosen if files.model.is_file()}
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
    for one, files in modelled.items():
        path = files.samples
        lines = path.read_bytes().count(b"\n") if path.is_file() else 0
        if lines != per_cluster.get(one.cluster_id, 0):
            problems.append(f"{path.name} has {lines} lines")
    manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
    if [entry["cluster_id"] for entry in manifest["clusters"]] != [c.cluster_id for c, _ in chosen]:
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
    seen: set[tuple[int, int, bytes]] = set()
    wrong = []
    for place, row in enumerate(samples.to_dict("records")):
        ids = np.asarray(row["chunk_token_ids"], dtype=np.int64).tobytes()
        chunk = (row["cluster_id"], row["vertex_id"], ids)
        problem = "the chunk of another sample" if chunk in seen else _problem_of(row)
        seen.add(chunk)
        if problem:
            wrong.append(f"sample {place} of cluster {row['cluster_id']}: {problem}")
    named = f" ({listed(wrong, 3)})" if wrong else ""
    return Finding(
        "triggers",
        not wrong,
        f"{len(wrong):,} of {len(samples):,} samples have trigger tokens or words that are not "
        f"where they say, or a chunk that their vertex has already{named}; none may",
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
    text: str = row["full_text"]
    words = text.split()
    columns = (positions, *(row[name] for name in _PARALLEL[3:]))
    for position, index, token, word, start, end in zip(*columns, strict=True):
        # Half a character may count as a word that the whole text does not have.
        if not 0 <= index < max(len(words), position + 1):
            return f"trigger word {index} of {len(words)} words"
        if pd.isna(start) and pd.isna(end) and word is None:
            continue
        if word is None or not 0 <= start < end <= len(text):
            return f"trigger word {word!r} at characters {start} to {end} of {len(text)}"
        shown = text[int(start) : int(end)]
        piece = token.strip().strip(_PIECE).strip()
        if piece not in shown if _PIECE in token else shown.strip() != token.strip():
            return f"trigger token {token!r} where the text says {shown!r}"
        last = shown.split()[-1:]
        if (word not in words or last[0] not in word) if last else word:
            return f"trigger word {word!r} where the text says {shown!r}"
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


def _different(stats: pd.DataFrame) -> Finding:
    found = stats["samples"] + stats["repeated_chunks"]
    is_repeated = stats["different_texts"] < FEWEST_DIFFERENT * found
    compared = stats["samples"].clip(upper=LOOKED_AT)
    is_alike = compared - stats["near_repeats"] < FEWEST_DIFFERENT * compared
    few = stats[is_repeated | is_alike]
    named = [
        f"vertex {row['vertex_id']} of cluster {row['cluster_id']}: {row['samples']} samples, of "
        f"the first {min(row['samples'], LOOKED_AT)} of which {row['near_repeats']} are another "
        f"one but for some words, and {row['repeated_chunks']} chunks that repeat one"
        for row in few.to_dict("records")
    ]
    return Finding(
        "different_texts",
        few.empty,
        f"near {len(few)} of {len(stats)} vertices, chunks that repeat a sample outnumber different"
        f" texts{f' ({listed(named, 3)})' if named else ''}; more tell of a corpus that repeats "
        "itself",
        blocking=False,
    )


def _origin(
    samples: pd.DataFrame, heldout: Sequence[Path], training: Sequence[Path]
) -> list[Finding]:
    chunks = {np.asarray(ids, dtype=np.int32).tobytes() for ids in samples["chunk_token_ids"]}
    known, repeated = _present(chunks, heldout), _present(chunks, training)
    total, seen, documents = _in_training(heldout, training)
    share = seen / max(total, 1)
    return [
        Finding(
            "held_out",
            known == chunks,
            f"{len(known):,} of {len(chunks):,} sampled chunks are chunks of the held-out shards; "
            "all must be",
        ),
        Finding(
            "unseen_in_training",
            not repeated and share <= LARGEST_REPEATED,
            f"{seen:,} of {total:,} held-out chunks ({share:.1%}), of {documents:,} documents, are "
            "word for word chunks of the training shards, too, and left out of the samples; more "
            f"than {LARGEST_REPEATED:.0%} tell of a corpus that repeats itself. {len(repeated):,} "
            f"of {len(chunks):,} sampled chunks are such chunks; none may be",
            blocking=False,
        ),
    ]


def _in_training(heldout: Iterable[Path], training: Iterable[Path]) -> tuple[int, int, int]:
    """Held-out chunks, those that stand in training shards, too, and documents of those."""
    known, total, seen, documents = hashes_of(training), 0, 0, set()
    for shard in heldout:
        with safe_open(shard, framework="numpy") as file:
            tokens, numbers = file.get_tensor("tokens"), file.get_tensor("documents")
        found = np.isin(chunk_hashes(tokens), known)
        total, seen = total + len(found), seen + int(found.sum())
        documents |= set(numbers[found].tolist())
    return total, seen, len(documents)


def _present(chunks: set[bytes], shards: Iterable[Path]) -> set[bytes]:
    """Those of the chunks that occur in some shards; none of the shards is kept in memory."""
    found: set[bytes] = set()
    for shard in shards if chunks else ():
        tokens = chunk_tokens(shard).astype(np.int32, copy=False)
        found |= chunks.intersection(row.tobytes() for row in tokens)
    return found
