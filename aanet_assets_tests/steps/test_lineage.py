"""Which partitions there are, what they read, and which settings make them stale."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from aanet_assets.steps.aanets import aanet_exports, aanet_models
from aanet_assets.steps.activations import activation_cache
from aanet_assets.steps.clusters import clustering
from aanet_assets.steps.ground_truth import recovery
from aanet_assets.steps.metrics import consolidated_metrics
from aanet_assets.steps.vertices import vertex_samples
from aanet_assets.storage.obeyed import settings_digest
from aanet_assets.storage.step import Partition, upstream
from aanet_assets_tests.small import small_study

STUDY = small_study()


def test_the_grid_goes_row_by_row() -> None:
    grid = list(partitions(STUDY, aanet_models))
    assert [(p.n, p.k) for p in grid] == [(6, 2), (6, 3), (6, 4), (7, 2), (7, 3), (7, 4)]
    assert grid[0].key == "2|6"


def test_every_step_comes_after_what_it_reads() -> None:
    seen: set[str] = set()
    for name, step in steps(STUDY).items():
        assert set(step.upstream) <= seen
        seen.add(name)


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        (activation_cache.at(shard=2), {"corpus": 1, "sae_fit": 1}),
        (clustering.at(n=7), {"activation_cache": 2}),
        (aanet_models.at(n=7, k=3), {"clustering": 1, "cluster_rows": 1}),
        (aanet_exports.at(n=7, k=3), {"clustering": 1, "aanet_models": 1}),
        (consolidated_metrics.at(n=7),
         {"cluster_rows": 1, "aanet_models": 3, "aanet_metrics": 3}),
        (vertex_samples.at(n=7),
         {"activation_cache": 3, "cluster_rows": 1, "refit_models": 1}),
        (recovery.at(n=7),
         {"activation_cache": 3, "aanet_models": 3, "consolidated_metrics": 1}),
    ],
)  # fmt: skip
def test_what_a_partition_reads(partition: Partition, expected: dict[str, int]) -> None:
    found = upstream(STUDY, partition)
    assert Counter(p.step for p in found) == expected
    assert all(p.n in (None, 7) and p.k in (None, partition.k, 2, 3, 4) for p in found)


def test_vertex_samples_compare_heldout_shards_with_those_that_train() -> None:
    read = upstream(STUDY, vertex_samples.at(n=7))
    shards = {partition.shard for partition in read if partition.shard is not None}
    assert shards == {*STUDY.training_shards, *STUDY.heldout_shards}


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({"vertices": {"distance": 0.3}}, {"vertex_samples"}),
        (
            {"selection": {"b_sd": 0.5}},
            {"analysis_plots", "selected_clusters", "reproducibility", "review_page"},
        ),
        ({"refit": {"mode": "stage1"}}, {"refit_models"}),
        ({"aanet": {"lr": 0.1}}, {"aanet_models", "replicates", "refit_models"}),
        (
            {"aanet": {"max_steps": 150, "batch_size": 256, "export_pt": False}},
            {"aanet_exports"},
        ),
        (
            {"ks": (2, 3, 4, 9)},
            {"consolidated_metrics", "cluster_shapes", "reproducibility", "review_page"},
        ),
        (
            {"extrema": {"knn": 100}},
            {"cluster_rows", "null_clusters", "aanet_models", "replicates"},
        ),
        (
            {"clustering": {"method": "spectral_cooccurrence", "gap_ratio": 3.0}},
            {"clustering", "cluster_rows"},
        ),
        (
            {"trust": {"nulls": 8, "chance": 60, "replicates": 2, "min_fit": 0.5}},
            {"selected_clusters", "reproducibility", "review_page"},
        ),
        (
            {"trust": {"nulls": 8, "chance": 60, "replicates": 3}},
            {"replicates", "evidence", "reproducibility", "review_page"},
        ),
        (
            {"trust": {"nulls": 9, "chance": 60, "replicates": 2}},
            {"null_clusters", "reproducibility", "review_page"},
        ),
        ({"device": "cuda", "description": "x"}, set()),
        ({"dtype": "float16"}, {"sae_fit", "activation_cache"}),
        ({"fit": {"max_unexplained": 0.9}}, {"sae_fit"}),
    ],
)
def test_a_setting_makes_stale_only_the_steps_that_obey_it(changes: dict, stale: set[str]) -> None:
    changed = small_study(**changes)
    different = {
        name
        for name, step in steps(STUDY).items()
        if settings_digest(STUDY, step) != settings_digest(changed, step)
    }
    assert different == stale


def test_files_that_change_under_the_same_name_make_stale_what_reads_them(
    home: Path, tmp_path: Path
) -> None:
    sae = shutil.copytree(home / "data/inputs/toy/sae", tmp_path / "sae")
    study = small_study(sae={"directory": str(sae)})
    before = {name: settings_digest(study, step) for name, step in steps(study).items()}
    config = sae / "cfg.json"
    config.write_text(config.read_text() + " ")
    changed = {
        name for name, step in steps(study).items() if settings_digest(study, step) != before[name]
    }
    assert changed == {"sae_fit", "activation_cache", "clustering"}


def test_fewer_training_shards_make_the_rows_stale_whatever_the_clustering() -> None:
    cache = STUDY.cache.model_copy(update={"training_shards": 1})
    fewer = STUDY.model_copy(update={"cache": cache})
    for step in (steps(STUDY)[name] for name in ("cluster_rows", "null_clusters")):
        assert settings_digest(STUDY, step) != settings_digest(fewer, step)


def test_more_shards_leave_the_shards_that_are_there_good() -> None:
    cache = STUDY.cache.model_copy(update={"heldout_shards": 5})
    more = STUDY.model_copy(update={"cache": cache})
    step = activation_cache
    assert settings_digest(STUDY, step) == settings_digest(more, step)


def test_a_study_without_a_known_truth_has_no_corpus_and_no_recovery() -> None:
    real = small_study(truth=None)
    assert set(steps(STUDY)) - set(steps(real)) == {"corpus", "recovery"}
    assert activation_cache.upstream == ("sae_fit",)
