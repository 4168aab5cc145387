"""Samples near the vertices of a cluster's simplex, from tokens that no AANet has seen.

A token is near vertex i when the Euclidean distance of its barycentric coordinates from the unit
vector e_i is below a threshold. A sample is a (chunk, vertex) pair: all tokens of one chunk near
one vertex. Chunks with equal token ids are one sample of a vertex.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int

from aanet_assets.science.aanet.reference import AANet
from aanet_assets.science.activations.rows import Cluster, active_rows
from aanet_assets.science.activations.shards import Shard
from aanet_assets.science.vertices.triggers import DecodedChunk
from aanet_assets.study.settings import VertexSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNKS_AT_A_TIME = 4096
_ROWS_AT_A_TIME = 8192


@dataclass
class Sample:
    """One chunk near one vertex; the lists run parallel, one entry per token near the vertex."""

    vertex_id: int
    distances_to_vertex: list[float]
    full_text: str
    chunk_token_ids: list[int]
    trigger_token_indices: list[int]
    trigger_token_ids: list[int]
    trigger_word_indices: list[int]
    """Words in the text up to and including the token, minus 1, at least 0."""
    trigger_words: list[str]
    """The tokens themselves, decoded; pieces of a character are U+FFFD."""
    trigger_text_words: list[str | None]
    """Words of the text, split at white space, in which the tokens stand; empty for white space,
    None where the place is not known."""
    trigger_token_starts: list[int | None]
    """First characters of the tokens in the text, whole characters even for pieces of one; None
    where the text does not show the token."""
    trigger_token_ends: list[int | None]
    """One past their last characters."""
    document: int
    """Number of the chunk's document in the corpus."""
    document_token: int
    """Place of the chunk's first token in its document, BOS included."""


@dataclass
class Collection:
    """Samples of one cluster's vertices and how the collection went."""

    samples: list[Sample] = field(default_factory=list)
    tokens_seen: int = 0
    counts: list[int] = field(default_factory=list)
    """Samples per vertex."""
    repeated: list[int] = field(default_factory=list)
    """Chunks per vertex that were near it and passed over, being equal to one of its samples."""
    taken: list[set[tuple[int, ...]]] = field(default_factory=list)
    """Token ids of the samples' chunks per vertex."""

    def incomplete(self, target: int) -> list[int]:
        """Vertices with fewer samples than `target`."""
        return [vertex for vertex, count in enumerate(self.counts) if count < target]


def barycentric_rows(
    model: AANet, rows: Float[np.ndarray, "rows rank"], basis: Float[np.ndarray, "d_model rank"]
) -> Float[np.ndarray, "rows k"]:
    """Barycentric coordinates of rows given in a cluster's subspace, by the full-width model."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            full_width = torch.from_numpy(rows[start : start + _ROWS_AT_A_TIME] @ basis.T)
            parts.append(model.barycentric(full_width).numpy())
    return np.concatenate(parts) if parts else np.zeros((0, len(model.vertices)), dtype=np.float32)


def vertex_distances(coordinates: Float[np.ndarray, "rows k"]) -> Float[np.ndarray, "rows k"]:
    """Euclidean distance of barycentric coordinates from the unit vector of each vertex."""
    return np.linalg.norm(coordinates[:, None, :] - np.eye(coordinates.shape[1]), axis=2)


@dataclass(frozen=True)
class Search:
    """What is looked for: tokens near the vertices of one cluster's simplex."""

    cluster: Cluster
    activity_limit: float
    model: AANet

    def nothing_yet(self) -> Collection:
        """An empty collection."""
        k = len(self.model.vertices)
        return Collection(counts=[0] * k, repeated=[0] * k, taken=[set() for _ in range(k)])


def collect(
    shards: Iterable[Shard],
    searches: Sequence[Search],
    tokenizer: "PreTrainedTokenizerBase",
    settings: VertexSettings,
) -> list[Collection]:
    """Go through held-out shards until every vertex has its samples or the tokens run out.

    All searches look at a shard before the next one is read. Returns a collection for each.
    """
    found = [search.nothing_yet() for search in searches]
    for shard in shards:
        wanting = [
            pair
            for pair in zip(searches, found, strict=True)
            if pair[1].incomplete(settings.samples_per_vertex)
            and pair[1].tokens_seen + shard.tokens.shape[1] <= settings.max_tokens
        ]
        if not wanting:
            break
        for search, collection in wanting:
            _look_at(shard, search, collection, tokenizer, settings)
    return found


def _look_at(
    shard: Shard,
    search: Search,
    collection: Collection,
    tokenizer: "PreTrainedTokenizerBase",
    settings: VertexSettings,
) -> None:
    """Add what one shard has to a collection."""
    for near in _near_by_chunk(shard, search, settings, collection):
        chunk, vertex, positions, distances = near
        if collection.counts[vertex] >= settings.samples_per_vertex:
            continue
        ids = tuple(shard.tokens[chunk].tolist())
        if ids in collection.taken[vertex]:
            collection.repeated[vertex] += 1
            continue
        collection.taken[vertex].add(ids)
        sample = _sample(shard, chunk, vertex, positions, distances, tokenizer)
        collection.samples.append(sample)
        collection.counts[vertex] += 1


def _near_by_chunk(
    shard: Shard, search: Search, settings: VertexSettings, collection: Collection
) -> Iterator[tuple[int, int, Int[np.ndarray, " near"], Float[np.ndarray, " near"]]]:
    """Yield (chunk, vertex, positions, distances), a block of chunks at a time.

    The block in which `max_tokens` is reached is cut at the last whole chunk that fits.
    """
    seq_len, cluster = shard.tokens.shape[1], search.cluster
    counted = (~shard.special).sum(axis=1)
    for first in range(0, len(shard.tokens), _CHUNKS_AT_A_TIME):
        if not collection.incomplete(settings.samples_per_vertex):
            return
        block = counted[first : first + _CHUNKS_AT_A_TIME]
        fits = np.cumsum(block) + collection.tokens_seen <= settings.max_tokens
        collection.tokens_seen += int(block[fits].sum())
        begin, end = first * seq_len, (first + int(fits.sum())) * seq_len
        members = shard.codes[begin:end][:, cluster.latents]
        active, rows = active_rows(members, cluster, search.activity_limit)
        # Special tokens have no codes, and where all are off is active, too.
        counts = ~shard.special.ravel()[begin:end][active]
        active, rows = active[counts], rows[counts]
        coordinates = barycentric_rows(search.model, rows, cluster.basis)
        distances = vertex_distances(coordinates)
        chunk, position = np.divmod(active + begin, seq_len)
        for vertex in range(coordinates.shape[1]):
            near = np.flatnonzero(distances[:, vertex] < settings.distance)
            for group in np.split(near, np.flatnonzero(np.diff(chunk[near])) + 1):
                if len(group):
                    yield int(chunk[group[0]]), vertex, position[group], distances[group, vertex]
        if not fits.all():
            return


def _sample(
    shard: Shard,
    chunk: int,
    vertex: int,
    positions: Int[np.ndarray, " near"],
    distances: Float[np.ndarray, " near"],
    tokenizer: "PreTrainedTokenizerBase",
) -> Sample:
    ids = shard.tokens[chunk]
    decoded = DecodedChunk(tokenizer, ids)
    triggers = [decoded.trigger(position) for position in positions.tolist()]
    return Sample(
        vertex_id=vertex,
        distances_to_vertex=[round(float(distance), 6) for distance in distances],
        full_text=decoded.text,
        chunk_token_ids=ids.tolist(),
        trigger_token_indices=positions.tolist(),
        trigger_token_ids=ids[positions].tolist(),
        trigger_word_indices=[trigger.word_index for trigger in triggers],
        trigger_words=[trigger.token for trigger in triggers],
        trigger_text_words=[trigger.text_word for trigger in triggers],
        trigger_token_starts=[trigger.start for trigger in triggers],
        trigger_token_ends=[trigger.end for trigger in triggers],
        document=int(shard.documents[chunk]),
        document_token=int(shard.starts[chunk]),
    )
