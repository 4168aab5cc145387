"""What a study whose answer is known saw and learned, as plain arrays for the comparison."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from aanet_assets.science.aanet.data import TrainedAANet
from aanet_assets.science.aanet.export import aanet_of, load_stack, state_dict
from aanet_assets.science.activations.by_latent import CodesByLatent
from aanet_assets.science.activations.rows import active_rows, load_cluster, load_labels
from aanet_assets.science.activations.shards import counted_tokens
from aanet_assets.science.activations.targets import Targets, factor_names, read_targets
from aanet_assets.science.toy.process_file import process_of
from aanet_assets.science.toy.scores import Barycentric, CodesOf
from aanet_assets.science.vertices.collect import barycentric_rows
from aanet_assets.study.settings import AANetSettings
from aanet_assets.study.study import Study, resolve


class Observed(NamedTuple):
    """What is known of the tokens that count, and what gives latents' codes at them."""

    train: Targets
    codes_train: CodesOf
    heldout: Targets
    codes_heldout: CodesOf


def observed(
    study: Study, training: Sequence[Path], heldout: Sequence[Path], by_latent: Sequence[Path]
) -> Observed:
    """Read what is known of the tokens of a study.

    Args:
        study: says the process, and how long documents are; or the file of targets.
        training: its training shards.
        heldout: its held-out shards.
        by_latent: the codes of all of them, latent by latent.

    Raises:
        ValueError: the process or the file cannot be used.
    """
    first = len(training)
    if study.process is None:
        train, test = read_targets(study, training), read_targets(study, heldout)
    else:
        process, length = process_of(study.process), study.cache.seq_len - 1
        train, test = (
            process.targets(counted_tokens(shards).reshape(-1, length))
            for shards in (training, heldout)
        )
    return Observed(
        train,
        CodesByLatent(by_latent[:first]).at_all_tokens,
        test,
        CodesByLatent(by_latent[first:]).at_all_tokens,
    )


def names_of(study: Study) -> Sequence[str]:
    """The components of a study's process, or the factors of its file."""
    if study.process is None:
        return factor_names(resolve(study.known_truth.targets or ""))
    return process_of(study.process).names


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
