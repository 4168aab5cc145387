"""What a study of a known process saw and learned, as plain arrays for the comparison."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int

from aanet_assets.aanet.data import TrainedAANet
from aanet_assets.aanet.export import aanet_of, load_stack, state_dict
from aanet_assets.activations.by_latent import CodesByLatent
from aanet_assets.activations.rows import active_rows, load_cluster, load_labels
from aanet_assets.activations.shards import counted_tokens
from aanet_assets.study.settings import AANetSettings
from aanet_assets.study.study import Study
from aanet_assets.toy.process import Process
from aanet_assets.toy.process_file import process_of
from aanet_assets.toy.scores import Barycentric, CodesOf
from aanet_assets.vertices.collect import barycentric_rows


class Observed(NamedTuple):
    """Letters of whole documents, and what gives latents' codes, letter by letter."""

    process: Process
    letters_train: Int[np.ndarray, "train_documents length"]
    codes_train: CodesOf
    letters_heldout: Int[np.ndarray, "heldout_documents length"]
    codes_heldout: CodesOf


def observed(
    study: Study, training: Sequence[Path], heldout: Sequence[Path], by_latent: Sequence[Path]
) -> Observed:
    """Read the letters of a study of a known process.

    Args:
        study: says the process, and how long documents are.
        training: its training shards.
        heldout: its held-out shards.
        by_latent: the codes of all of them, latent by latent.
    """
    length, first = study.cache.seq_len - 1, len(training)
    return Observed(
        process_of(study.known_truth.process),
        counted_tokens(training).reshape(-1, length),
        CodesByLatent(by_latent[:first]).at_all_tokens,
        counted_tokens(heldout).reshape(-1, length),
        CodesByLatent(by_latent[first:]).at_all_tokens,
    )


class Models:
    """The clusters and AANets of one n_clusters."""

    def __init__(
        self,
        clustering: Path,
        stacks: Mapping[int, Path],
        clusters: pd.DataFrame,
        seen: Observed,
        settings: AANetSettings,
    ):
        """`clusters` is the table of that name, `stacks` the file of each k."""
        self.labels = load_labels(clustering)
        self._clustering, self._seen, self._settings = clustering, seen, settings
        self._limits = clusters.set_index("cluster_id")["activity_limit"]
        self._models: dict[int, dict[int, TrainedAANet]] = {
            k: {model.cluster_id: model for model in load_stack(path)} for k, path in stacks.items()
        }
        self.barycentric = cache(self._barycentric)

    def _barycentric(self, cluster_id: int, k: int) -> Barycentric | None:
        """Held-out tokens at which a cluster is active, and their barycentric coordinates at k.

        None where there is no such model.
        """
        model = self._models.get(k, {}).get(cluster_id)
        if model is None or model.status != "ok":
            return None
        cluster, settings = load_cluster(self._clustering, cluster_id), self._settings
        network = aanet_of(state_dict(model, cluster.basis), settings.simplex_scale)
        limit = float(self._limits[cluster_id])
        active, rows = active_rows(self._seen.codes_heldout(cluster.latents), cluster, limit)
        return active, barycentric_rows(network, rows, cluster.basis)
