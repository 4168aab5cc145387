"""AANets of one cluster and k that differ in nothing but their seed, compared with one another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from aanet_assets.science.aanet.data import ClusterRows, Task, TrainedAANet
from aanet_assets.science.aanet.evaluation import subspace_network
from aanet_assets.science.aanet.train import train_aanets
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import AANetSettings
from aanet_assets.study.study import Study


def tasks_of(
    rows: Sequence[ClusterRows], k: int, replicates: Sequence[int], seed: int, *what: object
) -> list[Task]:
    """One task per cluster and replicate, cluster by cluster; `what` names study and kind."""
    return [
        Task(cluster, k, seed_for(seed, *what, cluster.cluster_id, k, "replicate", replicate))
        for cluster in rows
        for replicate in replicates
    ]


@torch.no_grad()
def archetypes_of(
    model: TrainedAANet, settings: AANetSettings
) -> Float[np.ndarray, "k rank"] | None:
    """Where a model's vertices lie in the cluster's subspace; None without a model."""
    if model.status != "ok":
        return None
    network = subspace_network(model.weights, model.k, settings)
    return network.decode(network.vertices).double().numpy()


def vertex_shift(
    first: Float[np.ndarray, "k rank"],
    other: Float[np.ndarray, "k rank"],
    rows: Float[np.ndarray, "rows rank"],
) -> float:
    """How far apart the vertices of two models lie, on average, when matched as well as can be.

    In units of the root mean square distance of the rows from their mean.
    """
    distances = cdist(first, other)
    matched = distances[linear_sum_assignment(distances)]
    spread = np.sqrt(rows.var(axis=0, dtype=np.float64).sum())
    return float(matched.mean() / spread)


@torch.no_grad()
def heldout_occupancy(
    model: TrainedAANet,
    rows: Float[np.ndarray, "rows rank"],
    settings: AANetSettings,
    near_share: float,
) -> float | None:
    """Occupancy of the emptiest vertex, as in `shapes.py`, by a model's own coordinates."""
    if model.status != "ok" or not len(rows):
        return None
    network = subspace_network(model.weights, model.k, settings)
    coordinates = network.barycentric(torch.from_numpy(rows).to(torch.get_default_dtype()))
    near = int(np.ceil(near_share * len(rows)))
    nearest = np.sort(coordinates.double().numpy(), axis=0)[-near:].mean(axis=0)
    return float(np.clip(nearest.min(), 0, 1))


def train_replicates(
    study: Study,
    n: int,
    k: int,
    real: Sequence[ClusterRows],
    null: Sequence[ClusterRows],
    first: Sequence[TrainedAANet],
) -> list[tuple[ClusterRows, bool, list[TrainedAANet]]]:
    """The replicates of each cluster, real ones first: its rows, whether it is null, its models.

    Args:
        first: the models of stage 1, which are replicate 0 of the real clusters.
    """
    number, settings = study.controls.replicates, study.aanet
    further = tasks_of(real, k, range(1, number), settings.seed, study.name, n)
    chance = tasks_of(null, k, range(number), settings.seed, study.name, n, "null")
    # Cluster by cluster, replicate by replicate.
    trained = iter(train_aanets([*further, *chance], settings, study.device))
    groups = [(rows, False, [model]) for rows, model in zip(real, first, strict=True)]
    groups += [(rows, True, []) for rows in null]
    return [
        (rows, null_cluster, [*models, *(next(trained) for _ in range(number - len(models)))])
        for rows, null_cluster, models in groups
    ]


def replicate_rows(
    rows: ClusterRows,
    null_cluster: bool,
    models: Sequence[TrainedAANet],
    settings: AANetSettings,
    near_share: float,
) -> list[dict[str, Any]]:
    """What the table of replicates says of one cluster's models of one k, in the order given.

    `vertex_shift` is from the first model; it is None for that one itself, and where one of the two
    has no vertices.
    """
    first = archetypes_of(models[0], settings)
    found = []
    for replicate, model in enumerate(models):
        own, losses, heldout = archetypes_of(model, settings), model.losses, model.heldout
        shift = None
        if replicate and first is not None and own is not None:
            shift = vertex_shift(first, own, rows.train)
        found.append(
            {
                "cluster_id": rows.cluster_id,
                "null_cluster": null_cluster,
                "k": model.k,
                "replicate": replicate,
                "aanet_status": model.status,
                "aanet_recon_loss": (losses or {}).get("recon_loss"),
                "aanet_archetypal_loss": (losses or {}).get("archetypal_loss"),
                "heldout_explained_variance": (heldout or {}).get("explained_variance"),
                "heldout_in_simplex": (heldout or {}).get("in_simplex"),
                "heldout_occupancy": heldout_occupancy(model, rows.heldout, settings, near_share),
                "vertex_shift": shift,
            }
        )
    return found
