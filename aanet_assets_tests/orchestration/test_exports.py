"""What `ks` and `aanet.export_pt` may change in a finished study: no rows, and no trained AANet."""

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from aanet_assets.cli.prune import EARLIER, REMOVED, unneeded
from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.science.aanet.data import TrainedAANet
from aanet_assets.science.aanet.export import load_stack
from aanet_assets.science.activations.rows import load_training_rows
from aanet_assets.steps.aanets import EXPORT, STACK, aanet_exports, aanet_metrics, aanet_models
from aanet_assets.steps.clusters import CLUSTERING, ROWS, cluster_rows
from aanet_assets.steps.evidence import NULL_CLUSTERING, NULL_ROWS, null_clusters, replicates
from aanet_assets.steps.metrics import CONSOLIDATED_METRICS, CURVES, consolidated_metrics
from aanet_assets.steps.vertices import refit_models
from aanet_assets.storage.records import Standing, read_record
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Partition
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import edit_stack
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.outputs import read
from aanet_assets_tests.small import small_study


def to_do(study: Study) -> set[str]:
    """Steps of which a partition is missing or stale."""
    standing = Standing(study)
    return {
        partition.step.name for partition in partitions_of(study) if standing.problem(partition)
    }


def make(study: Study, until: str, n: int) -> list[Partition]:
    """What a run of one clustering made."""
    with dg.DagsterInstance.get() as instance:
        driver = Driver(study, instance)
        made = [p for p in plan(study, until, [n]) if not driver.is_there(p)]
        for partition in made:
            driver.materialise(partition)
    return made


def times(study: Study) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in study.paths.everything()}


def test_a_new_k_is_trained_and_nothing_else(copied: Study) -> None:
    more = small_study(ks=(2, 3, 4, 9))
    before = times(copied)
    made = make(more, "aanet_metrics", 6)
    assert made == [aanet_models.at(n=6, k=9), aanet_metrics.at(n=6, k=9)]
    after = times(copied)
    changed = {path.name for path in before if after[path] != before[path]}
    assert not {name for name in changed if name.endswith((".safetensors", ".pt", ".parquet"))}
    for model in load_stack(STACK.under(copied.paths.root, n=6, k=9)):
        assert model.losses is not None
        assert np.isfinite(model.losses["extrema_loss"]), "it has nine extrema"
    make(more, "consolidated_metrics", 6)
    partition = consolidated_metrics.at(n=6)
    table = read(more, partition, CONSOLIDATED_METRICS)
    assert sorted(set(table["aanet_k"])) == [2, 3, 4, 9]
    lines = CURVES.under(more.paths.root, n=6).read_text(encoding="utf-8").splitlines()
    assert sorted({json.loads(line)["aanet_k"] for line in lines}) == [2, 3, 4, 9]


@pytest.mark.parametrize("ks", [(2, 3), (2, 3, 4, 5)], ids=["fewer", "more"])
def test_ks_that_stay_are_good(finished: Finished, ks: tuple[int, ...]) -> None:
    other = small_study(ks=ks)
    standing = Standing(other)
    for step in (aanet_models, aanet_exports, aanet_metrics, replicates):
        for partition in step.all_of(other):
            gone = partition.at.k not in finished.study.ks
            assert (standing.problem(partition) is not None) == gone, partition
    for step in (cluster_rows, null_clusters):
        assert standing.problem(step.at(n=7)) is None


@pytest.mark.parametrize("null", [False, True])
def test_more_extrema_begin_with_those_of_the_rows(finished: Finished, null: bool) -> None:
    kinds = (NULL_ROWS, NULL_CLUSTERING) if null else (ROWS, CLUSTERING)
    files = [kind.under(finished.study.paths.root, n=6) for kind in kinds]
    few, many = (load_training_rows(finished.study, 6, k, *files, null=null) for k in (8, 10))
    for own, more in zip(few, many, strict=True):
        assert len(own.extrema) == 8
        assert len(more.extrema) == 10
        np.testing.assert_array_equal(more.extrema[:8], own.extrema)
        np.testing.assert_array_equal(more.train, own.train)


def test_exports_switched_off_go_and_come_back_and_train_nothing(copied: Study) -> None:
    aanet = copied.aanet.model_copy(update={"export_pt": False})
    off = small_study(n_clusters=(7,), aanet=aanet)
    assert to_do(off) == {"aanet_exports"}
    exports = sorted((copied.paths.root / "clusters_7").glob("*.pt"))
    kept = {path: path.read_bytes() for path in exports}
    trained = [STACK.under(copied.paths.root, n=7, k=k) for k in copied.ks]
    stacks = {path: path.stat().st_mtime_ns for path in trained}
    assert len(exports) == 7 * 3
    make(off, "aanet_exports", 7)
    assert not list((copied.paths.root / "clusters_7").glob("*.pt"))
    assert to_do(off) == set()
    record = read_record(off, aanet_exports.at(n=7, k=3))
    assert record is not None
    assert record.files == {}
    assert set(unneeded(off)) == {REMOVED}, "all that is left over is of n_clusters 6"
    exports[0].write_bytes(b"")
    assert list(unneeded(off)[EARLIER]) == exports[:1]
    make(copied, "aanet_exports", 7)
    assert {path: path.read_bytes() for path in exports} == kept
    assert times(copied).items() >= stacks.items()
    assert to_do(copied) == set()


def test_stage1_mode_needs_no_exports(copied: Study) -> None:
    exported = {
        c: EXPORT.under(copied.paths.root, n=7, cluster_id=c, k=k).read_bytes()
        for c, k in ((0, 3), (3, 2))
    }
    study = small_study(
        refit={"mode": "stage1"}, aanet=copied.aanet.model_copy(update={"export_pt": False})
    )
    make(study, "refit_models", 7)
    make(study, "aanet_exports", 7)
    assert not list((study.paths.root / "clusters_7").glob("*.pt"))
    folder = study.paths.root / "selected_clusters" / "n7"
    assert (folder / "cluster_0_k3_categoryM.pt").read_bytes() == exported[0]
    assert (folder / "cluster_3_k2_categoryM.pt").read_bytes() == exported[3]


def test_stage1_mode_says_why_a_cluster_has_no_model(copied: Study) -> None:
    def failed(model: TrainedAANet) -> TrainedAANet:
        return replace(model, status="failed", reason="the loss was not finite", weights={})

    edit_stack(STACK.under(copied.paths.root, n=7, k=2), failed, 3)
    study = small_study(refit={"mode": "stage1"})
    # Not by a run, which would see that the stack is another and train it again.
    refit_models.work(Run(study, refit_models.at(n=7)))
    stem = study.paths.root / "selected_clusters" / "n7" / "cluster_3_k2_categoryM"
    assert not stem.with_name(f"{stem.name}.pt").exists()
    metadata = json.loads(stem.with_name(f"{stem.name}_metadata.json").read_text("utf-8"))
    assert (metadata["status"], metadata["reason"]) == ("failed", "the loss was not finite")
