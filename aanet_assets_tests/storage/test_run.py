"""The work of a partition opens and writes what its step declares, and nothing else."""

from pathlib import Path

import pandas as pd
import pytest

from aanet_assets.steps.aanets import (
    AANET_METRICS,
    EXPORT,
    STACK,
    aanet_exports,
    aanet_metrics,
    aanet_models,
)
from aanet_assets.steps.activations import (
    BY_LATENT,
    CACHE_SHARDS,
    SHARD,
    activation_cache,
    heldout_shards,
    sae_fit,
    training_shards,
)
from aanet_assets.steps.clusters import CLUSTERING, CLUSTERS, ROWS, clustering
from aanet_assets.steps.evidence import REPLICATES, evidence
from aanet_assets.steps.inputs import CORPUS
from aanet_assets.steps.metrics import CONSOLIDATED_METRICS, consolidated_metrics
from aanet_assets.steps.predictions import token_groups
from aanet_assets.steps.vertices import vertex_samples
from aanet_assets.storage.run import Run, UndeclaredReadError
from aanet_assets.storage.step import Partition
from aanet_assets.storage.table import Table
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study
from aanet_assets_tests.outputs import read, write
from aanet_assets_tests.small import small_study


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    return small_study()


def rows(table: Table, **known: object) -> pd.DataFrame:
    """A table of one row, in which only this is known."""
    return pd.DataFrame([dict.fromkeys(table.names) | known])


def refused(name: str) -> str:
    """What is said of a step's opening something that no step which it reads makes."""
    return (
        rf"^step {name}, which none of the steps that it declares to read makes: add the step to "
        r"its `reads`, or the output to that step's declaration$"
    )


def test_files_of_the_step_and_of_what_it_reads(study: Study) -> None:
    root = study.paths.root
    run = Run(study, aanet_exports.at(n=7, k=3))
    assert run.path(EXPORT, cluster_id=5) == root / "clusters_7/aanet_cluster_5_k3.pt"
    assert run.path(STACK) == root / "clusters_7/aanets_k3.safetensors"
    assert run.path(CLUSTERING) == root / "clusters_7/clustering.safetensors"
    grid = Run(study, consolidated_metrics.at(n=7))
    assert grid.path(STACK, k=4) == root / "clusters_7/aanets_k4.safetensors"
    assert grid.paths(STACK) == [root / f"clusters_7/aanets_k{k}.safetensors" for k in study.ks]
    assert Run(study, sae_fit.at()).path(CORPUS) == root / "corpus/corpus.parquet"
    assert run.folder(EXPORT) == root / "clusters_7"
    assert run.folder(File("loose.txt")) == root


def test_a_file_that_several_partitions_have_must_be_told_apart(study: Study) -> None:
    several = (
        r"^step consolidated_metrics opens clusters_\{n\}/aanets_k\{k\}\.safetensors of no "
        r"partition in particular, which 3 partitions that it reads have: .*; say which$"
    )
    with pytest.raises(ValueError, match=several):
        Run(study, consolidated_metrics.at(n=7)).path(STACK)


def test_the_numbers_of_the_partition_are_not_told_again(study: Study) -> None:
    with pytest.raises(ValueError, match=r"^aanet_exports \[.*\] has its own k: leave it out$"):
        Run(study, aanet_exports.at(n=7, k=3)).path(EXPORT, cluster_id=5, k=4)


def test_shards_are_those_that_the_step_reads(study: Study) -> None:
    shards = [SHARD.under(study.paths.root, shard=shard) for shard in study.shards]
    training = Run(study, token_groups.at())
    assert training_shards(training) == training.paths(SHARD) == shards[:2]
    with pytest.raises(
        UndeclaredReadError, match=r"token_groups opens .* of \{'shard': 2\}, which"
    ):
        heldout_shards(training)
    all_of_them = Run(study, vertex_samples.at(n=7))
    assert training_shards(all_of_them) + heldout_shards(all_of_them) == shards


def test_shared_activations_lie_with_the_study_that_they_are_named_for(study: Study) -> None:
    other = study.sharing("other", n_clusters=(5,), ks=(2, 3))
    run = Run(other, clustering.at(n=5))
    assert run.path(CLUSTERING) == other.paths.root / "clusters_5/clustering.safetensors"
    assert run.paths(BY_LATENT) == Run(study, clustering.at(n=7)).paths(BY_LATENT)
    samples = Run(other, vertex_samples.at(n=5))
    write(study, activation_cache.at(shard=0), CACHE_SHARDS, rows(CACHE_SHARDS, shard=0))
    assert samples.read(CACHE_SHARDS, shard=0)["shard"].tolist() == [0]


def test_a_file_that_is_not_read(study: Study) -> None:
    run = Run(study, clustering.at(n=7))
    file = r"clustering opens clusters_\{n\}/cluster_rows\.safetensors"
    for opened in (lambda: run.path(ROWS), lambda: run.paths(ROWS)):
        with pytest.raises(UndeclaredReadError, match=refused(file)):
            opened()


@pytest.mark.parametrize("numbers", [{"n": 6}, {"n": 7, "k": 9}])
def test_a_file_of_a_partition_that_is_not_read(study: Study, numbers: dict[str, int]) -> None:
    asked = str(numbers).replace("{", r"\{").replace("}", r"\}")
    file = rf"consolidated_metrics opens clusters_\{{n\}}/aanets_k\{{k\}}\.safetensors of {asked}"
    with pytest.raises(UndeclaredReadError, match=refused(file)):
        Run(study, consolidated_metrics.at(n=7)).path(STACK, **numbers)


def test_tables_of_the_step_and_of_what_it_reads(study: Study) -> None:
    for n in (6, 7):
        for k in study.ks:
            known = {"n_clusters_total": n, "aanet_k": k, "cluster_id": 10 * n + k}
            write(study, aanet_metrics.at(n=n, k=k), AANET_METRICS, rows(AANET_METRICS, **known))
    run = Run(study, consolidated_metrics.at(n=7))
    assert run.read(AANET_METRICS)["cluster_id"].tolist() == [72, 73, 74]
    assert run.read(AANET_METRICS, k=3)["cluster_id"].tolist() == [73]
    own = run.write(CONSOLIDATED_METRICS, rows(CONSOLIDATED_METRICS, cluster_id=5))
    assert own == study.paths.tables / "consolidated_metrics/n7.parquet"
    assert run.read(CONSOLIDATED_METRICS)["cluster_id"].tolist() == [5]
    assert read(study, aanet_metrics.at(n=6, k=2), AANET_METRICS)["cluster_id"].tolist() == [62]


def test_a_table_that_is_not_read(study: Study) -> None:
    with pytest.raises(UndeclaredReadError, match=refused("clustering opens clusters")):
        Run(study, clustering.at(n=7)).read(CLUSTERS)
    run = Run(study, consolidated_metrics.at(n=7))
    asked = r"consolidated_metrics opens aanet_metrics of \{'k': 9\}"
    with pytest.raises(UndeclaredReadError, match=refused(asked)):
        run.read(AANET_METRICS, k=9)


def test_a_table_of_a_step_that_the_study_does_not_have(study: Study) -> None:
    controls = study.controls.model_copy(update={"replicates": 1})
    alone = study.model_copy(update={"controls": controls})
    with pytest.raises(UndeclaredReadError, match=refused("evidence opens replicates")):
        Run(alone, evidence.at(n=7)).read(REPLICATES)


@pytest.mark.parametrize("partition", [aanet_metrics.at(n=7, k=3), aanet_models.at(n=7, k=3)])
def test_a_table_of_another_step_is_not_written(study: Study, partition: Partition) -> None:
    """Not even one that the step reads, as `aanet_models` does."""
    message = f"step {partition.step.name} writes table clusters, which is not among its tables"
    with pytest.raises(UndeclaredReadError, match=message):
        Run(study, partition).write(CLUSTERS, rows(CLUSTERS))
    assert not study.paths.tables.exists()
