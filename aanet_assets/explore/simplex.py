"""The simplex of one cluster: texts projected into it, predictions steered by it."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float32, Int

from aanet_assets.explore.provenance import Provenance
from aanet_assets.explore.reader import Chunk, Reader, on_this_machine
from aanet_assets.science.aanet.reference import AANet
from aanet_assets.science.activations.encode import codes_of, sparse
from aanet_assets.science.activations.rows import Cluster, active_rows, without_long_tokens
from aanet_assets.science.activations.shards import code_matrix
from aanet_assets.science.vertices.collect import barycentric_rows, vertex_distances

if TYPE_CHECKING:
    from sae_lens import SAE

_SEED = 0
"""Fixes the random direction that steering is compared with."""


class _LastActive(NamedTuple):
    """The tokens of a chunk up to the last one at which a cluster is active."""

    ids: Int[np.ndarray, " seq"]
    residual: Float32[np.ndarray, "seq d_model"]
    written: Float[np.ndarray, " d_model"]
    """What the cluster writes at the last one, x_c."""


class Simplex:
    """The simplex of one cluster; `open_study(...).simplex(...)` and `Simplex.load` give one.

    Vertices are numbered from 0 on, as in all tables of a study; b_1 and distance_1 are those of
    vertex 0.
    """

    def __init__(
        self,
        provenance: Provenance,
        cluster: Cluster,
        model: AANet,
        sae: "SAE",
        reader: Reader | None = None,
        samples: pd.DataFrame | str = "they are kept in the study, not in a file",
    ):
        """Used by what opens a study or a file.

        Args:
            provenance: what it was made from.
            cluster: its latents and their subspace.
            model: the AANet at full width.
            sae: the SAE, of the cluster's latents alone where that gives the same codes.
            reader: the language model; None loads it once a text is given.
            samples: the cluster's rows of the table `vertex_samples`, or why there are none.
        """
        self.provenance, self._cluster, self._model, self._sae = provenance, cluster, model, sae
        self._samples = samples
        if reader is not None:
            self._reader = reader

    def __repr__(self) -> str:
        return f"<Simplex: {self.provenance.name} of study {self.provenance.study!r}>"

    @cached_property
    def _reader(self) -> Reader:
        own = self.provenance
        study = on_this_machine(own.study_now())
        return Reader(study, own.hook, centred=own.centred, wants_bos=own.wants_bos)

    @cached_property
    def vertices(self) -> Float[np.ndarray, "k d_model"]:
        """The AANet's archetypes, decoded.

        A vertex is in the units of the residual stream, and stands for what the cluster writes into
        it: a token is put at a vertex by replacing what the cluster writes there by the vertex.
        """
        with torch.inference_mode():
            return self._model.decode(self._model.vertices).numpy().astype(np.float64)

    @property
    def k(self) -> int:
        """Number of vertices."""
        return self.provenance.k

    def project(self, texts: str | Sequence[str]) -> pd.DataFrame:
        """Where each token of some texts lies in the simplex, as the pipeline would place it.

        Texts are tokenised and cut into chunks of `cache.seq_len` tokens as the activation cache
        is; a shorter rest is a chunk, too. The first token of a chunk and special tokens never
        count.

        Args:
            texts: one text or several.

        Returns: a row per token, what opens a text (BOS) included:

            - `text`: number of the text, from 0 on; `position`: place among its tokens;
            - `token`: decoded alone, bytes that are not a whole character as U+FFFD, empty for
              special tokens; `start`, `end`: its characters in the text, of the whole character for
              a piece of one, null where they are not known;
            - `counted`: whether it can be active at all;
            - `active`: whether the cluster is active there;
            - `b_1` to `b_k`: barycentric coordinates, which sum to 1 and may be negative outside
              the simplex; NaN where the cluster is not active;
            - `distance_1` to `distance_k`: Euclidean distances, in barycentric coordinates, from
              each vertex; NaN likewise;
            - `vertex_id`: the nearest vertex, from 0 on; null likewise.

        Raises:
            ValueError: a text has no token, or the model cannot be loaded.
        """
        frames = []
        for chunk, residual in zip(*self._reader.read(texts), strict=True):
            stream = self._reader.as_sae_reads(residual)
            columns = {**self._tokens(chunk), **self._placed(stream, chunk.special)}
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def project_residual(self, residual: Float[np.ndarray, "tokens d_model"]) -> pd.DataFrame:
        """Where vectors of the residual stream lie in the simplex; needs no model.

        Args:
            residual: the stream at `provenance.hook`, as the SAE reads it: less the mean of each
                vector where `provenance.centred`.

        Returns: a row per vector, with the columns of `project` from `active` on.

        Raises:
            ValueError: they are not (tokens, d_model), or not finite.
        """
        stream = np.asarray(residual, dtype=np.float32)
        d_model = len(self._cluster.columns)
        if stream.ndim != 2 or stream.shape[1] != d_model:
            raise ValueError(
                f"the residual stream has the shape {stream.shape}; it must be (tokens, {d_model})"
            )
        if not np.isfinite(stream).all():
            raise ValueError("the residual stream has entries that are NaN or infinite")
        return pd.DataFrame(self._placed(stream, np.zeros(len(stream), dtype=bool)))

    def steer(self, text: str, vertex: int, strength: float = 1.0) -> pd.DataFrame:
        """How the prediction after a text's last active token changes towards a vertex.

        What the cluster writes there, x_c, becomes x_c + strength (v - x_c), and the layers above
        are run as they are: 1 puts the token at the vertex, 0 changes nothing. Beside it stands a
        random direction of the same length, which is the same each time.

        Args:
            text: any.
            vertex: from 0 on.
            strength: share of the way to the vertex.

        Returns: a row per token of the vocabulary, the largest changes first: `token`, and the
            probabilities that it comes next, `before` and `after`, `change` (after - before), and
            `random_change`.

        Raises:
            ValueError: there is no such vertex, the cluster is active at no token of the text, or
                the model cannot be loaded or split at the hook.
        """
        self._require_vertex(vertex)
        if not np.isfinite(strength):
            raise ValueError(f"strength is {strength}; it must be a finite number, as 1.0")
        here = self._last_active(text)
        step = strength * (self.vertices[vertex] - here.written)
        random = np.random.default_rng(_SEED).standard_normal(len(step))
        random *= np.linalg.norm(step) / np.linalg.norm(random)
        before, after, other = self._reader.predict(
            here.ids, here.residual, np.stack([np.zeros_like(step), step, random])
        )
        found = self._changes(before, after).assign(random_change=other - before)
        return _largest_first(found)

    def put(self, text: str, coordinates: Sequence[float]) -> pd.DataFrame:
        """How the prediction after a text's last active token changes at a point of the simplex.

        What the cluster writes there is replaced by sum_i b_i v_i.

        Args:
            text: any.
            coordinates: b, one per vertex; they sum to 1.

        Returns: as `steer`, without `random_change`.

        Raises:
            ValueError: as `steer`; or these are no k numbers that sum to 1.
        """
        b = np.asarray(coordinates, dtype=np.float64)
        # Written so that a NaN fails, too.
        if b.shape != (self.k,) or not abs(b.sum() - 1) < 1e-3:
            raise ValueError(
                f"coordinates are {b.tolist()}; they must be {self.k} numbers that sum to 1"
            )
        here = self._last_active(text)
        step = b @ self.vertices - here.written
        before, after = self._reader.predict(
            here.ids, here.residual, np.stack([np.zeros_like(step), step])
        )
        return _largest_first(self._changes(before, after))

    def nearest(self, vertex: int, count: int = 10) -> pd.DataFrame:
        """The stored vertex samples nearest to a vertex: held-out text, nearest first.

        Args:
            vertex: from 0 on.
            count: how many, at most.

        Returns: rows of the table `vertex_samples` with `distance`, the least of the sample's.

        Raises:
            ValueError: there is no such vertex, or no samples are stored: of a cluster that is not
                selected at this k, or in a file.
        """
        self._require_vertex(vertex)
        if count < 1:
            raise ValueError(f"count is {count}; it must be 1 or more")
        if isinstance(self._samples, str):
            raise ValueError(f"{self.provenance.name} has no vertex samples here: {self._samples}")
        own = self._samples[self._samples["vertex_id"] == vertex]
        own = own.assign(distance=[min(each) for each in own["distances_to_vertex"]])
        return own.sort_values("distance", kind="stable").head(count).reset_index(drop=True)

    def save(self, path: str | Path) -> None:
        """Write the simplex and its provenance into one safetensors file; equal ones, equal bytes.

        It holds the AANet, the cluster's subspace, and the SAE's weights of the cluster's latents;
        of an SAE in which latents compete, all of its weights. `Simplex.load` reads it without the
        study.
        """
        from aanet_assets.explore.file import write_simplex

        write_simplex(Path(path), self.provenance, self._cluster, self._model, self._sae)

    @classmethod
    def load(cls, path: str | Path) -> "Simplex":
        """Read what `save` wrote.

        `project_residual` needs nothing else. `project`, `steer` and `put` load the language model
        that the provenance names.

        Raises:
            ValueError: the file is not there, or is none of a simplex.
        """
        from aanet_assets.explore.file import read_simplex

        return cls(*read_simplex(Path(path)))

    def to_neuronpedia(self) -> list[dict[str, Any]]:
        """A steering vector per vertex, with the fields of Neuronpedia's `POST /api/vector/new`.

        A vector has length 1 and leads from the middle of the simplex to the vertex; its default
        strength is how far that is. Neuronpedia takes vectors before a layer only: the residual
        stream after layer L is that before layer L + 1.

        Raises:
            ValueError: the stream is that after the last layer.
        """
        from aanet_assets.explore.neuronpedia import steering_vectors

        return steering_vectors(self.provenance, self.vertices)

    def _require_vertex(self, vertex: int) -> None:
        if vertex not in range(self.k):
            raise ValueError(
                f"there is no vertex {vertex}; {self.provenance.name} has the vertices 0 to "
                f"{self.k - 1}"
            )

    def _active(
        self, stream: Float32[np.ndarray, "tokens d_model"], special: Bool[np.ndarray, " tokens"]
    ) -> tuple[Int[np.ndarray, " active"], Float32[np.ndarray, "active rank"]]:
        """Tokens at which the cluster is active, and its rows there, as the pipeline has them."""
        own = self.provenance
        threshold = own.settings["cache"]["activity_threshold"]
        with torch.inference_mode():
            tokens = torch.from_numpy(stream).to(self._sae.W_dec.device)
            codes = codes_of(self._sae, tokens)
            stored = sparse(codes[None], torch.from_numpy(special)[None], threshold)
            lengths = tokens.norm(dim=-1).cpu().numpy()
        counts, latents, values = (each.cpu() for each in stored)
        # The activation cache keeps codes in half precision.
        whole = code_matrix(counts.numpy(), latents.numpy(), values.half().numpy(), codes.shape[-1])
        limit = np.nan if own.norm_limit is None else own.norm_limit
        whole = without_long_tokens(whole, lengths, limit)
        members = whole if own.only_own_latents else whole[:, self._cluster.latents]
        active, rows = active_rows(members, self._cluster, own.activity_limit)
        counts = ~special[active]
        return active[counts], rows[counts]

    def _placed(
        self, stream: Float32[np.ndarray, "tokens d_model"], special: Bool[np.ndarray, " tokens"]
    ) -> dict[str, Any]:
        """Columns that say where tokens lie."""
        active, rows = self._active(stream, special)
        coordinates = barycentric_rows(self._model, rows, self._cluster.basis)
        distances = vertex_distances(coordinates)
        is_active = np.zeros(len(stream), dtype=bool)
        is_active[active] = True
        columns: dict[str, Any] = {"active": is_active}
        for name, values in (("b", coordinates), ("distance", distances)):
            for vertex in range(self.k):
                column = np.full(len(stream), np.nan)
                column[active] = values[:, vertex]
                columns[f"{name}_{vertex + 1}"] = column
        nearest = pd.array([pd.NA] * len(stream), dtype="Int64")
        nearest[active] = distances.argmin(axis=1)
        return {**columns, "vertex_id": nearest}

    def _tokens(self, chunk: Chunk) -> dict[str, Any]:
        """Columns that say what the tokens are."""
        starts, ends = zip(*(place or (pd.NA, pd.NA) for place in chunk.places), strict=True)
        return {
            "text": chunk.text,
            "position": chunk.start + np.arange(len(chunk.ids)),
            "token": [self._reader.token(int(id)) for id in chunk.ids],
            "start": pd.array(starts, dtype="Int64"),
            "end": pd.array(ends, dtype="Int64"),
            "counted": ~chunk.special,
        }

    def _last_active(self, text: str) -> "_LastActive":
        chunks, residuals = self._reader.read(text)
        for chunk, residual in zip(reversed(chunks), reversed(residuals), strict=True):
            active, rows = self._active(self._reader.as_sae_reads(residual), chunk.special)
            if len(active):
                end = int(active[-1]) + 1
                written = rows[-1].astype(np.float64) @ self._cluster.basis.T
                return _LastActive(chunk.ids[:end], residual[:end], written)
        raise ValueError(f"cluster {self.provenance.cluster_id} is active at no token of the text")

    def _changes(
        self, before: Float[np.ndarray, " vocab"], after: Float[np.ndarray, " vocab"]
    ) -> pd.DataFrame:
        tokens = self._reader.vocabulary
        changes = {"before": before, "after": after, "change": after - before}
        return pd.DataFrame({"token": tokens, **changes})


def _largest_first(changes: pd.DataFrame) -> pd.DataFrame:
    order = changes["change"].abs().sort_values(ascending=False, kind="stable").index
    return changes.loc[order].reset_index(drop=True)
