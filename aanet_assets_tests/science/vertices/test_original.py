"""What the original pipeline's scripts read of stage 3 and of the curves, field by field."""

import json
from pathlib import Path
from typing import Any

import pytest

from aanet_assets.science.vertices.manifest import manifest_file, manifest_problem
from aanet_assets.science.vertices.original import cluster_fields, stats_fields, training_fields
from aanet_assets.steps.metrics import CURVES
from aanet_assets.steps.vertices import MANIFEST, manifests, rewrite_manifest, vertex_samples
from aanet_assets.storage.files import write_json
from aanet_assets.storage.records import discard_record
from aanet_assets.study.settings import AANetSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import Finished, said
from aanet_assets_tests.small import small_study

Fields = dict[str, Any]
"""Names and types; a dict stands for fields of its own, a list of one for a list of such."""

HISTORIES: Fields = {
    name: [float] for name in ("loss", "reconstruction_loss", "archetypal_loss", "extrema_loss")
}
CLUSTER: Fields = {
    "n_clusters": int, "cluster_id": int, "k": int, "category": str, "n_latents": int,
    "latent_indices": [int], "recon_elbow_k": int, "arch_elbow_k": int,
    "recon_elbow_strength": float, "arch_elbow_strength": float,
}  # fmt: skip
STATS: Fields = {
    "n_clusters": int, "cluster_id": int, "k": int, "category": str, "collection_status": str,
    "target_samples_per_vertex": int, "total_inputs_processed": int,
    "total_samples_collected": int, "all_vertices_reached_target": bool, "model_name": str,
    "tokenizer": str, "distance_threshold": float,
}  # fmt: skip
MANIFEST_FIELDS: Fields = {
    "total_clusters": int, "n_clusters_list": [int], "model_name": str, "sae_release": str,
    "sae_id": str, "tokenizer": str,
    "vertex_collection": {
        "enabled": bool, "samples_per_vertex_target": int, "distance_threshold": float,
        "results": [STATS],
    },
    "clusters": [{**CLUSTER, "vertex_samples_path": str}],
}  # fmt: skip
METADATA: Fields = {
    **CLUSTER,
    "final_metrics": {name: float for name in HISTORIES},
    "training_config": {
        "streaming_steps": int, "batch_size": int, "learning_rate": float, "extrema_enabled": bool,
    },
    "model_path": str, "curves_path": str,
}  # fmt: skip


def check(content: Any, fields: Any, where: str = "") -> None:
    """Fields are there and of their types."""
    if isinstance(fields, dict):
        for name, kind in fields.items():
            assert name in content, f"{where}.{name} is missing"
            check(content[name], kind, f"{where}.{name}")
    elif isinstance(fields, list):
        assert content, f"{where} is empty"
        assert isinstance(content, list), where
        for one in content:
            check(one, fields[0], f"{where}[]")
    else:
        assert type(content) is fields, f"{where} is {content!r}"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_fields_and_types(finished: Finished) -> None:
    paths, stem = finished.study.paths, "cluster_0_k3_categoryM"
    folder, project = paths.root / "selected_clusters" / "n7", paths.root.parents[1]
    for manifest in (
        read(manifest_file(finished.study)),
        read(MANIFEST.under(paths.root, n=7)),
    ):
        check(manifest, MANIFEST_FIELDS)
        assert manifest["total_clusters"] == len(manifest["clusters"]) == 2
        for cluster, stats in zip(
            manifest["clusters"], manifest["vertex_collection"]["results"], strict=True
        ):
            for name in ("n_clusters", "cluster_id", "k", "category"):
                assert cluster[name] == stats[name]
            assert set(stats["vertex_stats"]) == {str(i) for i in range(stats["k"])}
            check(stats["vertex_stats"]["0"], {"samples": int, "reached_target": bool})
            lines = (project / cluster["vertex_samples_path"]).read_text().splitlines()
            assert len(lines) == stats["total_samples_collected"]
    # Of 6 clusters none is selected: it is in the study's manifest with none.
    assert read(manifest_file(finished.study))["n_clusters_list"] == [6, 7]
    assert read(MANIFEST.under(paths.root, n=6))["n_clusters_list"] == [6]
    stats = read(folder / f"{stem}_vertex_stats.json")
    check(stats, STATS)
    assert stats["total_samples_collected"] == sum(
        vertex["samples"] for vertex in stats["vertex_stats"].values()
    )
    metadata = read(folder / f"{stem}_metadata.json")
    check(metadata, METADATA)
    for name in ("model_path", "curves_path"):
        assert (project / metadata[name]).is_file()
    assert metadata["final_metrics"]["reconstruction_loss"] == metadata["losses"]["recon_loss"]
    curves = [
        read(folder / f"{stem}_curves.json"),
        *map(json.loads, CURVES.under(paths.root, n=7).read_text().splitlines()),
    ]
    assert len(curves) == 1 + 7 * 3
    for own in curves:
        check(own, {"cluster_id": int, "aanet_k": int, "metrics_history": HISTORIES})
        history = own["metrics_history"]
        assert history["reconstruction_loss"] == history["aanet_recon_loss"]
        assert history["loss"] == history["aanet_loss"]


def test_a_manual_k_takes_the_place_of_the_elbow_and_a_missing_elbow_is_null() -> None:
    metrics = {
        "aanet_recon_loss_elbow_k": None, "aanet_recon_loss_elbow_strength": float("nan"),
        "aanet_archetypal_loss_elbow_k": 4, "aanet_archetypal_loss_elbow_strength": 0.25,
    }  # fmt: skip
    found = cluster_fields(512, 3, [5, 9], metrics)
    assert found == {
        "n_clusters": 512, "n_latents": 2, "arch_elbow_k": 3, "original_arch_elbow_k": 4,
        "recon_elbow_k": None, "recon_elbow_strength": None, "arch_elbow_strength": 0.25,
    }  # fmt: skip


def test_a_model_that_could_not_be_trained_has_no_metrics_and_no_files() -> None:
    found = training_fields({}, AANetSettings(extrema_weight=0), None, None)
    assert set(found["final_metrics"].values()) == {None}
    assert found["training_config"]["extrema_enabled"] is False
    assert (found["model_path"], found["curves_path"]) == (None, None)


def test_a_cluster_is_complete_when_all_of_its_vertices_are() -> None:
    def stats(*reached: bool) -> Fields:
        vertices = [
            {"vertex_id": i, "samples": 20 if full else 3, "reached_target": full, "tokens_seen": 9}
            for i, full in enumerate(reached)
        ]
        return stats_fields(small_study(), 7, len(reached), vertices)

    assert stats(True, True)["all_vertices_reached_target"] is True
    assert stats(True, False)["all_vertices_reached_target"] is False
    assert stats(True, False)["total_samples_collected"] == 23
    assert stats(True, False)["vertex_stats"]["1"] == {"samples": 3, "reached_target": False}


def test_the_studys_manifest_tells_of_what_is_there_and_in_the_study(copied: Study) -> None:
    path = manifest_file(copied)
    whole = path.read_bytes()
    rewrite_manifest(copied)
    assert path.read_bytes() == whole
    assert manifest_problem(copied, manifests(copied)) is None
    # Deleted by somebody: what is left has its manifest all the same.
    deleted = MANIFEST.under(copied.paths.root, n=7)
    part = deleted.read_bytes()
    deleted.unlink()
    rewrite_manifest(copied)
    assert read(path)["n_clusters_list"] == [6]
    deleted.write_bytes(part)
    rewrite_manifest(copied)
    assert path.read_bytes() == whole
    # Taken out of the study: not a word of it remains.
    smaller = small_study(n_clusters=(6,), selection={})
    problem = manifest_problem(smaller, manifests(smaller))
    assert problem is not None
    rewrite_manifest(small_study(n_clusters=(7,)))
    assert read(path)["n_clusters_list"] == [7]
    # Not made to the end: it does not count.
    discard_record(copied, vertex_samples.at(n=7))
    rewrite_manifest(copied)
    assert (read(path)["n_clusters_list"], read(path)["clusters"]) == ([6], [])
    # Of other settings, of another model of stage 3, or of an earlier version of the code.
    earlier = MANIFEST.under(copied.paths.root, n=6)
    for other in ({"vertices": {"distance": 0.4}}, {"refit": {"mode": "stage1"}}):
        rewrite_manifest(copied)
        assert path.exists()
        rewrite_manifest(small_study(**other))
        assert not path.exists(), "nothing of the study is there"
    write_json(earlier, {"study": "small", "clusters": []})
    rewrite_manifest(copied)
    assert not path.exists()


def test_a_manifest_that_cannot_be_read_is_named(copied: Study) -> None:
    damaged = MANIFEST.under(copied.paths.root, n=7)
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"n7/manifest\.json is missing or damaged.*aanet doctor"):
        rewrite_manifest(copied)
    assert "cannot be compared" in str(manifest_problem(copied, manifests(copied)))


@pytest.mark.parametrize("command", ["doctor", "run"])
def test_a_deleted_manifest_comes_back(copied: Study, study_module, command: str) -> None:
    name, path = study_module(f"small_manifest_{command}"), manifest_file(copied)
    whole = path.read_bytes()
    path.unlink()
    output = said(command, name, code=0)
    assert command == "run" or "selected_clusters/manifest.json is missing" in output
    assert path.read_bytes() == whole


def test_pruning_takes_an_n_out_of_the_manifest(copied: Study, study_module) -> None:
    name = study_module("small_manifest_pruned", "n_clusters=(7,)")
    said("prune", name, "--yes", code=0)
    assert read(manifest_file(copied))["n_clusters_list"] == [7]
