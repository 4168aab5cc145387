"""Which partitions there are, what they read, and which settings make them stale."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from aanet_assets.cli.prune import owner
from aanet_assets.defs import gemma_2_9b, smollm2, toy
from aanet_assets.orchestration.pipeline import (
    all_steps,
    partitions_of,
    read_by,
    step_named,
    steps_of,
    tables_of,
)
from aanet_assets.steps.aanets import aanet_exports, aanet_models
from aanet_assets.steps.activations import (
    CACHE_SHARDS,
    SAE_FIT,
    activation_cache,
    codes_by_latent,
    sae_fit,
)
from aanet_assets.steps.clusters import cluster_rows, clustering
from aanet_assets.steps.evidence import null_clusters
from aanet_assets.steps.ground_truth import RECOVERY, recovery
from aanet_assets.steps.inputs import corpus
from aanet_assets.steps.metrics import consolidated_metrics
from aanet_assets.steps.predictions import (
    PREDICTION_FIT,
    TOKEN_GROUPS,
    predictions,
    token_groups,
)
from aanet_assets.steps.vertices import vertex_samples
from aanet_assets.storage.obeyed import settings_digest
from aanet_assets.storage.step import Partition, ancestors, parts_read, upstream
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study

STUDY = small_study()
STUDIES = [STUDY, *(module.study for module in (toy, smollm2, gemma_2_9b))]


def test_the_grid_goes_row_by_row() -> None:
    grid = list(aanet_models.all_of(STUDY))
    assert [(p.at.n, p.at.k) for p in grid] == [(6, 2), (6, 3), (6, 4), (7, 2), (7, 3), (7, 4)]
    assert grid[0].key == "2|6"
    assert str(grid[0]) == "aanet_models [n_clusters 6, k 2]"


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_key_names_one_partition(study: Study) -> None:
    found = list(partitions_of(study))
    assert [partition.step.of_key(partition.key) for partition in found] == found
    assert len({(partition.step, partition.key) for partition in found}) == len(found)
    assert len(set(map(str, found))) == len(found)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_every_partition_comes_after_what_it_reads(study: Study) -> None:
    seen: set[Partition] = set()
    for partition in partitions_of(study):
        assert set(upstream(study, partition)) <= seen
        seen.add(partition)
    last = steps_of(study)[-1]
    made: set[Partition] = set()
    for partition in ancestors(study, list(last.all_of(study))):
        assert partition.step is not last
        assert set(upstream(study, partition)) <= made
        made.add(partition)


def test_stages_follow_one_another_as_far_as_reads_allow() -> None:
    order = all_steps()
    for place, early in enumerate(order):
        for late in order[place:]:
            if late.group < early.group:
                assert any(order.index(read) >= place for read in read_by(late)), (early, late)


def test_every_output_is_told_to_be_its_partitions() -> None:
    """By its name alone, whatever else its name has in braces."""
    for partition in (p for study in STUDIES for p in partitions_of(study)):
        stem, step = partition.at.stem, partition.step
        names = [f"{folder}/{step.name}/{stem}.json" for folder in ("records", "locks")]
        names += [f"tables/{table.name}/{stem}.parquet" for table in step.tables]
        for file in step.files:
            others = dict.fromkeys(file.fields, 5) | partition.at.numbers
            names.append(file.under(Path(), **others).as_posix().replace("*", "x"))
        assert {name: owner(name) for name in names} == dict.fromkeys(names, partition)


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        (activation_cache.at(shard=2), {"corpus": 1, "sae_fit": 1}),
        (token_groups.at(), {"activation_cache": 2}),
        (predictions.at(shard=2), {"activation_cache": 1, "token_groups": 1}),
        (codes_by_latent.at(shard=2), {"activation_cache": 1}),
        (clustering.at(n=7), {"codes_by_latent": 2}),
        (aanet_models.at(n=7, k=3), {"clustering": 1, "cluster_rows": 1}),
        (aanet_exports.at(n=7, k=3), {"clustering": 1, "aanet_models": 1}),
        (consolidated_metrics.at(n=7),
         {"cluster_rows": 1, "aanet_models": 3, "aanet_metrics": 3}),
        (vertex_samples.at(n=7),
         {"activation_cache": 3, "clustering": 1, "cluster_rows": 1, "selected_clusters": 1,
          "refit_models": 1}),
        (recovery.at(n=7),
         {"activation_cache": 3, "codes_by_latent": 3, "clustering": 1, "cluster_rows": 1,
          "aanet_models": 3, "consolidated_metrics": 1}),
    ],
)  # fmt: skip
def test_what_a_partition_reads(partition: Partition, expected: dict[str, int]) -> None:
    found = upstream(STUDY, partition)
    assert Counter(p.step.name for p in found) == expected
    own = partition.at.numbers
    for name, value in ((name, p.at.numbers[name]) for p in found for name in p.at.numbers):
        assert value == own.get(name, value)


def test_predictions_are_of_held_out_shards_alone() -> None:
    assert [one.at.shard for one in predictions.all_of(STUDY)] == [2]


def test_vertex_samples_compare_heldout_shards_with_those_that_train() -> None:
    read = upstream(STUDY, vertex_samples.at(n=7))
    shards = {partition.at.shard for partition in read if partition.step is activation_cache}
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
            {"controls": {"nulls": 8, "chance": 60, "replicates": 2, "min_fit": 0.5}},
            {"selected_clusters", "reproducibility", "review_page"},
        ),
        (
            {"controls": {"nulls": 8, "chance": 60, "replicates": 3}},
            {"replicates", "evidence", "reproducibility", "review_page"},
        ),
        (
            {"controls": {"nulls": 9, "chance": 60, "replicates": 2}},
            {"null_clusters", "reproducibility", "review_page"},
        ),
        ({"device": "cuda", "description": "x"}, set()),
        ({"dtype": "float16"}, {"sae_fit", "activation_cache", "predictions"}),
        ({"predictions": {"groups": 16}}, {"token_groups"}),
        ({"fit": {"max_unexplained": 0.9}}, {"sae_fit"}),
    ],
)
def test_a_setting_makes_stale_only_the_steps_that_obey_it(changes: dict, stale: set[str]) -> None:
    changed = small_study(**changes)
    different = {
        step.name
        for step in steps_of(STUDY)
        if settings_digest(STUDY, step) != settings_digest(changed, step)
    }
    assert different == stale


def test_files_that_change_under_the_same_name_make_stale_what_reads_them(
    home: Path, tmp_path: Path
) -> None:
    sae = shutil.copytree(home / "data/inputs/toy/sae", tmp_path / "sae")
    study = small_study(sae={"directory": str(sae)})
    before = {step: settings_digest(study, step) for step in steps_of(study)}
    config = sae / "cfg.json"
    config.write_text(config.read_text() + " ")
    changed = {step.name for step in before if settings_digest(study, step) != before[step]}
    assert changed == {"sae_fit", "activation_cache", "clustering"}


def test_fewer_training_shards_make_the_rows_stale_whatever_the_clustering() -> None:
    cache = STUDY.cache.model_copy(update={"training_shards": 1})
    fewer = STUDY.model_copy(update={"cache": cache})
    for step in (cluster_rows, null_clusters):
        assert settings_digest(STUDY, step) != settings_digest(fewer, step)


def test_more_shards_leave_the_shards_that_are_there_good() -> None:
    cache = STUDY.cache.model_copy(update={"heldout_shards": 5})
    more = STUDY.model_copy(update={"cache": cache})
    assert settings_digest(STUDY, activation_cache) == settings_digest(more, activation_cache)


def test_a_study_without_a_known_truth_has_no_corpus_and_no_recovery() -> None:
    real = small_study(truth=None)
    assert set(steps_of(STUDY)) - set(steps_of(real)) == {corpus, recovery}
    assert [part.step for part in parts_read(real, activation_cache)] == [sae_fit]
    with pytest.raises(ValueError, match="'small' has no asset 'recovery'; it has sae_fit, "):
        step_named(real, "recovery")
    assert RECOVERY in tables_of(STUDY)
    assert RECOVERY not in tables_of(real)


def test_the_database_of_a_study_has_no_tables_of_activations_that_it_shares() -> None:
    other = STUDY.sharing("other", ks=(2, 3))
    missing = set(tables_of(STUDY)) - set(tables_of(other))
    assert missing == {SAE_FIT, CACHE_SHARDS, TOKEN_GROUPS, PREDICTION_FIT}
    assert steps_of(other) == steps_of(STUDY)
