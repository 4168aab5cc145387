"""The model of each selected cluster at its chosen k: trained afresh, or taken from stage 1."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from aanet_assets.science.aanet.data import LOSSES, Task, TrainedAANet
from aanet_assets.science.aanet.export import load_stack, save_pt, state_dict
from aanet_assets.science.aanet.extrema import with_extrema
from aanet_assets.science.aanet.train import train_aanets
from aanet_assets.science.activations.rows import Cluster, load_cluster, load_rows
from aanet_assets.science.selection.curves import metrics_history
from aanet_assets.science.vertices.original import cluster_fields, path_in_project, training_fields
from aanet_assets.science.vertices.selected import Chosen
from aanet_assets.storage.files import finite_or_null, write_json
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.study import Study


class Refit(NamedTuple):
    """How a selected cluster got its model."""

    model: TrainedAANet
    told: dict[str, Any]
    """What its metadata says of that."""
    curves: dict[str, Any] | None
    """Its training, where it was trained afresh."""


def retrained(
    study: Study, n: int, chosen: Sequence[Chosen], rows: Path, clustering: Path
) -> list[Refit]:
    """Train afresh, with extrema of their own on a larger sample."""
    tasks = []
    ids = [one.cluster_id for one in chosen]
    for cluster, one in zip(load_rows(rows, clustering, ids), chosen, strict=True):
        seed = seed_for(study.aanet.seed, study.name, "refit", n, one.cluster_id, one.k)
        own = with_extrema(cluster, one.k, study.refit.extrema, seed)
        tasks.append(Task(own, one.k, seed))
    found = []
    for one, model in zip(chosen, train_aanets(tasks, study.aanet, study.device), strict=True):
        losses = {name: finite_or_null([loss])[0] for name, loss in (model.losses or {}).items()}
        told = {"status": model.status, "reason": model.reason, "losses": losses}
        curves = {
            "cluster_id": one.cluster_id,
            "aanet_k": one.k,
            "metrics_history": metrics_history(model.history),
        }
        found.append(Refit(model, told, curves))
    return found


def taken_from_stage1(chosen: Sequence[Chosen], stack_of: Callable[[int], Path]) -> list[Refit]:
    """The models of stage 1, given the stack of each k."""
    stacks = {k: stack_of(k) for k in {one.k for one in chosen}}
    trained = {k: load_stack(path) for k, path in stacks.items()}
    found = []
    for one in chosen:
        model = trained[one.k][one.cluster_id]
        told = {
            "status": model.status, "reason": model.reason, "taken_from": stacks[one.k].name,
        }  # fmt: skip
        found.append(Refit(model, told, None))
    return found


def write_refits(
    study: Study,
    n: int,
    chosen: Sequence[Chosen],
    refits: Sequence[Refit],
    clustering: Path,
    metrics: pd.DataFrame,
    files: Sequence[Sequence[Path]],
) -> list[Path]:
    """Write the clusters' models, metadata and curves; returns the files that there are.

    Args:
        chosen: the selected clusters.
        refits: how each got its model.
        clustering: file of the clustering.
        metrics: the table `consolidated_metrics`.
        files: where model, metadata and curves of each go.
    """
    rows = {(row["cluster_id"], row["aanet_k"]): row for row in metrics.to_dict("records")}
    written = []
    for one, refit, to in zip(chosen, refits, files, strict=True):
        cluster = load_cluster(clustering, one.cluster_id)
        written += _write_refit(study, n, one, refit, cluster, rows[one.cluster_id, one.k], to)
    return written


def _write_refit(
    study: Study,
    n: int,
    one: Chosen,
    refit: Refit,
    cluster: Cluster,
    metrics: Mapping[Any, Any],
    files: Sequence[Path],
) -> list[Path]:
    model_file, metadata_file, curves_file = files
    written = []
    if refit.model.status == "ok":
        save_pt(model_file, state_dict(refit.model, cluster.basis))
        written.append(model_file)
    if refit.curves is not None:
        written.append(write_json(curves_file, refit.curves))
    latents = cluster.latents.tolist()
    losses = refit.told.get("losses", {name: metrics[f"aanet_{name}"] for name in LOSSES})
    model_path, curves_path = (
        path_in_project(study.paths, file) if file in written else None
        for file in (model_file, curves_file)
    )
    metadata = {
        "n_clusters_total": n,
        **one._asdict(),
        "latent_indices": latents,
        **cluster_fields(n, one.k, latents, metrics),
        "mode": study.refit.mode,
        **refit.told,
        "model": study.model,
        "sae_id": study.sae.name,
        "refit": study.refit.model_dump(mode="json"),
        "aanet": study.aanet.model_dump(mode="json", exclude={"export_pt"}),
        **training_fields(losses, study.aanet, model_path, curves_path),
    }
    return [*written, write_json(metadata_file, metadata)]
