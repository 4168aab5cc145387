"""What the original pipeline's own scripts read of stage 3, under the names that they read.

Its scripts run unchanged on these fields, which stand beside the project's own. Paths are relative
to the project's folder, where the scripts are started.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aanet_assets.science.selection.curves import ORIGINAL_NAMES
from aanet_assets.study.layout import StudyPaths
from aanet_assets.study.settings import AANetSettings
from aanet_assets.study.study import Study


def path_in_project(paths: StudyPaths, path: Path) -> str:
    """A path as the scripts can open it in the project's folder."""
    return path.relative_to(paths.root.parents[1]).as_posix()


def cluster_fields(
    n: int, k: int, latents: Sequence[int], metrics: Mapping[Any, Any]
) -> dict[str, Any]:
    """A selected cluster, given its row of `consolidated_metrics` at k.

    `arch_elbow_k` is the k that stage 3 uses, as in the original, whose scripts make names of files
    from it: a manual k takes its place. The elbow itself is `original_arch_elbow_k`.
    """
    elbows = {
        axis: (
            _or_none(metrics[f"aanet_{loss}_elbow_k"], int),
            _or_none(metrics[f"aanet_{loss}_elbow_strength"], float),
        )
        for axis, loss in (("recon", "recon_loss"), ("arch", "archetypal_loss"))
    }
    return {
        "n_clusters": n,
        "n_latents": len(latents),
        "arch_elbow_k": k,
        "original_arch_elbow_k": elbows["arch"][0],
        "recon_elbow_k": elbows["recon"][0],
        "recon_elbow_strength": elbows["recon"][1],
        "arch_elbow_strength": elbows["arch"][1],
    }


CLUSTER_FIELDS = (
    "n_clusters", "n_latents", "latent_indices", "arch_elbow_k", "original_arch_elbow_k",
    "recon_elbow_k", "recon_elbow_strength", "arch_elbow_strength",
)  # fmt: skip
"""Fields of a cluster's metadata that the manifest holds, too."""


def training_fields(
    losses: Mapping[str, Any], settings: AANetSettings, model: str | None, curves: str | None
) -> dict[str, Any]:
    """How a cluster's model was trained, given its final losses; paths are None without a file."""
    return {
        "final_metrics": {
            theirs: _or_none(losses.get(ours), float) for ours, theirs in ORIGINAL_NAMES.items()
        },
        "training_config": {
            "streaming_steps": settings.max_steps,
            "batch_size": settings.batch_size,
            "learning_rate": settings.lr,
            "extrema_enabled": settings.extrema_weight > 0,
        },
        "model_path": model,
        "curves_path": curves,
    }


def stats_fields(
    study: Study, n: int, k: int, vertices: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Statistics of a cluster's samples, given the project's own of each of its vertices."""
    return {
        "n_clusters": n,
        "k": k,
        "vertex_stats": {
            str(vertex["vertex_id"]): {
                "samples": vertex["samples"],
                "reached_target": vertex["reached_target"],
            }
            for vertex in vertices
        },
        "target_samples_per_vertex": study.vertices.samples_per_vertex,
        "total_inputs_processed": vertices[0]["tokens_seen"],
        "total_samples_collected": sum(vertex["samples"] for vertex in vertices),
        "all_vertices_reached_target": all(vertex["reached_target"] for vertex in vertices),
        "model_name": study.model,
    }


def manifest_fields(
    study: Study,
    n_clusters: Sequence[int],
    clusters: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A manifest, given its clusters and the statistics of those that have samples."""
    return {
        "total_clusters": len(clusters),
        "n_clusters_list": list(n_clusters),
        "model_name": study.model,
        "sae_release": study.sae.release or study.sae.directory,
        "tokenizer": study.model,
        "vertex_collection": {
            "enabled": True,
            "samples_per_vertex_target": study.vertices.samples_per_vertex,
            "distance_threshold": study.vertices.distance,
            "results": list(results),
        },
        "clusters": list(clusters),
    }


def _or_none(value: Any, kind: type) -> Any:
    return None if value is None or pd.isna(value) else kind(value)
