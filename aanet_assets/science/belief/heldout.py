"""Held-out tokens beside the model's predictions, and a cluster's coordinates at them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float16, Int
from safetensors import safe_open
from safetensors.numpy import save_file

from aanet_assets.science.activations.predictions import read_predictions
from aanet_assets.science.activations.rows import (
    Cluster,
    active_rows,
    draw,
    load_cluster,
    without_long_tokens_of,
)
from aanet_assets.science.activations.shards import read_shard
from aanet_assets.science.belief.simplices import barycentric, clipped
from aanet_assets.storage.files import replacing


class Heldout(NamedTuple):
    """Tokens that count, chunk by chunk in the order of the shards; special ones have no number."""

    codes: sp.csr_matrix
    """(tokens, latents)."""
    p: Float16[np.ndarray, "tokens groups"]
    """The model's next-token distribution after each, by groups of tokens."""
    token_ids: Int[np.ndarray, " tokens"]
    groups: Int[np.ndarray, " tokens"]
    """Group of each token."""
    chunks: Int[np.ndarray, " tokens"]
    """Row of `text` that each stands in."""
    positions: Int[np.ndarray, " tokens"]
    """Place in it."""
    documents: Int[np.ndarray, " tokens"]
    """Number of its document, counted from 0 on among those that are here."""
    text: Int[np.ndarray, "chunks seq"]
    """Token ids of whole chunks, special ones included."""
    alone: Bool[np.ndarray, " groups"]
    """Groups that are one token each."""


def read_heldout(
    shards: Sequence[Path],
    predictions: Sequence[Path],
    groups: Int[np.ndarray, " vocab"],
    most: int,
    norm_limit: float,
) -> Heldout:
    """Read whole chunks of held-out shards until they have `most` tokens.

    Args:
        predictions: files of the predictions at these shards.
        groups: the group of each token of the vocabulary.
        norm_limit: tokens with a longer residual stream carry no codes; NaN leaves out none.
    """
    parts: dict[str, list] = {name: [] for name in ("codes", "p", "chunk", "place", "text", "docs")}
    chunks_before, left = 0, most
    for shard_path, path in zip(shards, predictions, strict=True):
        shard = without_long_tokens_of(read_shard(shard_path), norm_limit)
        counted = ~shard.special
        fits = int((np.cumsum(counted.sum(axis=1)) <= left).sum())
        chunk, place = np.nonzero(counted[:fits])
        parts["codes"].append(shard.codes[np.flatnonzero(counted[:fits].ravel())])
        parts["p"].append(read_predictions(path)[: len(chunk)])
        parts["chunk"].append(chunk + chunks_before)
        parts["place"].append(place)
        parts["text"].append(shard.tokens[:fits])
        parts["docs"].append(shard.documents[:fits])
        left -= len(chunk)
        chunks_before += fits
        if fits < len(counted):
            break
    chunks, positions = (np.concatenate(parts[name]) for name in ("chunk", "place"))
    text = np.concatenate(parts["text"])
    token_ids = text[chunks, positions]
    documents = np.unique(np.concatenate(parts["docs"]), return_inverse=True)[1]
    return Heldout(
        sp.vstack(parts["codes"], format="csr"),
        np.concatenate(parts["p"]),
        token_ids,
        groups[token_ids],
        chunks,
        positions,
        documents[chunks],
        text,
        np.bincount(groups) == 1,
    )


class Simplex(NamedTuple):
    """A cluster, real or null, and the simplex that fits its rows."""

    cluster: Cluster
    null_cluster: bool
    activity_limit: float
    vertices: Float[np.ndarray, "k rank"]
    """In the coordinates of the cluster's basis."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{'null ' * self.null_cluster}cluster {self.cluster.cluster_id}"

    @property
    def in_stream(self) -> Float[np.ndarray, "k d_model"]:
        """Vertices in the residual stream."""
        return self.vertices @ self.cluster.basis.T.astype(np.float64)


def tensor_name(cluster_id: int, *, null_cluster: bool) -> str:
    """Name of a cluster's vertices in a file of simplices."""
    return f"{'null' if null_cluster else 'cluster'}.{cluster_id}"


def save_simplices(path: Path, vertices: Mapping[str, Float[np.ndarray, "k rank"]]) -> None:
    """Write vertices in the subspaces of their clusters, by `tensor_name`."""
    arrays = {name: np.ascontiguousarray(each) for name, each in vertices.items()}
    with replacing(path) as temporary:
        save_file(arrays, temporary)


def simplices_in(
    path: Path, clusterings: Mapping[bool, Path], clusters: pd.DataFrame
) -> Iterator[Simplex]:
    """The clusters that have a simplex, in the order of `clusters`.

    Args:
        path: file of the vertices.
        clusterings: files of real (False) and null (True) clusters.
        clusters: cluster_id, null_cluster, latent_indices, activity_limit.
    """
    with safe_open(path, "numpy") as file:
        names = set(file.keys())
        for row in clusters.to_dict("records"):
            cluster_id, null_cluster = int(row["cluster_id"]), bool(row["null_cluster"])
            name = tensor_name(cluster_id, null_cluster=null_cluster)
            if name in names:
                latents = np.asarray(row["latent_indices"], dtype=np.int64)
                cluster = load_cluster(clusterings[null_cluster], cluster_id, latents)
                limit = float(row["activity_limit"])
                yield Simplex(cluster, null_cluster, limit, file.get_tensor(name))


class Placed(NamedTuple):
    """Where a cluster is active, and where in its simplex that is."""

    tokens: Int[np.ndarray, " active"]
    """Numbers of the held-out tokens, rising."""
    rows: Float[np.ndarray, "active rank"]
    coordinates: Float[np.ndarray, "active k"]
    """Barycentric, as probabilities."""

    def some(self, most: int, seed: int) -> "Placed":
        """At most so many of the tokens, at random, in their own order."""
        kept = draw(len(self.tokens), most, seed)
        return Placed(self.tokens[kept], self.rows[kept], self.coordinates[kept])

    def near(self, vertex: int, most: int) -> Int[np.ndarray, " near"]:
        """Places of the tokens nearest to a vertex, no more than a k-th of all of them."""
        k = self.coordinates.shape[1]
        apart = np.square(self.coordinates - np.eye(k)[vertex]).sum(axis=1)
        count = min(most, len(apart) // k)
        if count == 0:
            return np.zeros(0, dtype=np.int64)
        # Only those that are near enough are sorted; of equally near ones the first come first.
        candidates = np.flatnonzero(apart <= np.partition(apart, count - 1)[count - 1])
        return candidates[np.argsort(apart[candidates], kind="stable")[:count]]


def spread(heldout: Heldout, here: Placed, most: int, seed: int) -> Placed:
    """At most so many of the tokens, from as many chunks as there are.

    The chunks come first in an order that is the same for all clusters: what editing a token needs
    of its chunk can be kept for the next cluster.
    """
    rng = np.random.default_rng(seed)
    rank = rng.permutation(len(heldout.text))[heldout.chunks[here.tokens]]
    shuffled = rng.permutation(len(rank))
    by_chunk = shuffled[np.argsort(rank[shuffled], kind="stable")]
    ordered = rank[by_chunk]
    turn = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    kept = np.sort(by_chunk[np.argsort(turn, kind="stable")[:most]])
    return Placed(*(each[kept] for each in here))


def placed(heldout: Heldout, simplex: Simplex) -> Placed:
    """Where a cluster is active among the held-out tokens."""
    tokens, rows = active_rows(
        heldout.codes[:, simplex.cluster.latents], simplex.cluster, simplex.activity_limit
    )
    coordinates = barycentric(rows, simplex.vertices)
    return Placed(tokens, rows, clipped(coordinates))
