"""What is asked of Dagster's daemon, and what its watcher and its users are told."""

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import dagster as dg
import pytest

from aanet_assets.orchestration import submit
from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.dagster_internals import BulkActionStatus
from aanet_assets.orchestration.driver import Driver, Failure, plan
from aanet_assets.orchestration.in_flight import STUDY_TAG
from aanet_assets.orchestration.partitions import partitions_of_run
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.orchestration.same_code import CODE_TAG, code
from aanet_assets.orchestration.submit import DEVICE_TAG, Look, Submission
from aanet_assets.steps.aanets import aanet_metrics, aanet_models
from aanet_assets.steps.activations import activation_cache, codes_by_latent
from aanet_assets.steps.clusters import clustering
from aanet_assets.steps.evidence import replicates
from aanet_assets.steps.inputs import corpus
from aanet_assets.steps.predictions import token_groups
from aanet_assets.storage.records import Standing, discard_record
from aanet_assets.storage.step import Partition
from aanet_assets.study.study import Study
from aanet_assets_tests.browser.dagit import Dagit
from aanet_assets_tests.browser.study import study_with
from aanet_assets_tests.conftest import Finished, problems
from aanet_assets_tests.orchestration.test_study_run import digests
from aanet_assets_tests.orchestration.ticking import (
    STUDY,
    inputs,
    made,
    metrics,
    run_of,
    stage3_done,
)
from aanet_assets_tests.small import small_study
from aanet_assets_tests.submitted import at_once, end, run_as_the_daemon

pytestmark = pytest.mark.usefixtures(at_once.__name__)


def open_partitions(study: Study, todo: Sequence[Partition]) -> set[Partition]:
    standing = Standing(study)
    return {partition for partition in todo if standing.problem(partition)}


def first_look(instance: dg.DagsterInstance, study: Study = STUDY, **what) -> Look:
    return next(Submission(study, instance, plan(study, **what)).watch())


def test_exactly_what_is_missing_or_stale_is_asked_for(instance: dg.DagsterInstance) -> None:
    inputs()
    metrics(7, "a", 2, 3)
    wanted = open_partitions(STUDY, plan(STUDY))
    assert aanet_models.at(n=7, k=4) in wanted
    assert aanet_models.at(n=7, k=3) not in wanted
    look = first_look(instance)
    assert look.asked == wanted
    (backfill,) = look.backfills
    assert "ticking" in (backfill.title or "")
    assert backfill.tags == {STUDY_TAG: "ticking", DEVICE_TAG: "cpu", CODE_TAG: code()}
    assert backfill.status == BulkActionStatus.REQUESTED


def test_only_the_part_that_was_named_is_asked_for(instance: dg.DagsterInstance) -> None:
    inputs()
    look = first_look(instance, until="aanet_metrics", n_clusters=[7], ks=[3])
    steps = (aanet_models, aanet_metrics)
    assert look.asked == {step.at(n=7, k=3) for step in steps}


def test_a_finished_study_asks_for_nothing(instance: dg.DagsterInstance) -> None:
    inputs()
    for n in (6, 7):
        metrics(n, "a")
        stage3_done(n)
    made(*steps_of(STUDY))
    (look,) = Submission(STUDY, instance, plan(STUDY)).watch()
    assert (look.asked, look.backfills, instance.get_backfills()) == (set(), [], [])


def test_shared_activations_are_asked_for_under_their_own_studys_name(
    instance: dg.DagsterInstance,
) -> None:
    study = STUDY.sharing("other", clustering={"method": "kmeans"})
    (backfill,) = first_look(instance, study, until="clustering").backfills
    assert backfill.tags[STUDY_TAG] == "other"
    assert {key.to_user_string() for key in backfill.asset_selection or ()} == {
        "ticking/corpus", "ticking/sae_fit", "ticking/activation_cache",
        "ticking/codes_by_latent", "other/clustering",
    }  # fmt: skip


def test_a_second_submit_watches_the_first(instance: dg.DagsterInstance) -> None:
    inputs()
    first = first_look(instance)
    second = Submission(STUDY, instance, plan(STUDY))
    looks = second.watch()
    look = next(looks)
    assert [b.backfill_id for b in look.backfills] == [b.backfill_id for b in first.backfills]
    assert second.asked_here == set()
    # What the first did not ask for is asked for afterwards, and what failed is not asked twice.
    end(instance, look.backfills[0], BulkActionStatus.COMPLETED_FAILED)
    with pytest.raises(Failure, match="do not count, the first of them token_groups"):
        list(looks)
    assert len(instance.get_backfills()) == 1


def test_two_at_the_same_moment_ask_once(instance: dg.DagsterInstance) -> None:
    inputs()
    start = Barrier(4)

    def look(_: int) -> Look:
        start.wait()
        return first_look(instance)

    with ThreadPoolExecutor(4) as pool:
        looks = list(pool.map(look, range(4)))
    assert len(instance.get_backfills()) == 1
    assert all(look.asked == looks[0].asked for look in looks)


def test_what_another_run_makes_is_waited_for(instance: dg.DagsterInstance) -> None:
    inputs()
    run = run_of(instance, "ticking_stage1_grid", "3|7")
    looks = Submission(STUDY, instance, plan(STUDY, until="aanet_metrics", ks=[3])).watch()
    look = next(looks)
    assert look.asked == {step.at(n=6, k=3) for step in (aanet_models, aanet_metrics)}
    assert set(look.others) >= {step.at(n=7, k=3) for step in (aanet_models, aanet_metrics)}
    for n in (6, 7):
        metrics(n, "a", 3)
    instance.report_run_canceled(run)
    end(instance, look.backfills[0])
    assert list(looks)[-1].others == []


def test_each_class_of_device_has_a_backfill_and_waits_for_the_other(
    instance: dg.DagsterInstance,
) -> None:
    study = STUDY.model_copy(update={"device": "cuda"})
    submission = Submission(study, instance, plan(study))
    looks = submission.watch()
    look = next(looks)
    assert [backfill.tags[DEVICE_TAG] for backfill in look.backfills] == ["cpu"]
    assert look.asked == {corpus.at()}
    assert look.later == len(plan(study)) - 1
    made(corpus, study=study)
    end(instance, look.backfills[0])
    look = next(look for look in looks if len(look.backfills) == 2)
    assert look.backfills[1].tags[DEVICE_TAG] == "cuda"
    assert "on cuda" in (look.backfills[1].title or "")
    shards = set(activation_cache.all_of(study))
    assert submission.target(look.backfills[1]) > shards
    inputs()
    end(instance, look.backfills[1])
    look = next(look for look in looks if len(look.backfills) > 2)
    by_device = {backfill.tags[DEVICE_TAG]: backfill for backfill in look.backfills[2:]}
    models = {step.at(n=n, k=k) for step in (aanet_models,) for n in (6, 7) for k in study.ks}
    assert submission.target(by_device["cuda"]) >= models
    assert submission.target(by_device["cpu"]) == {token_groups.at()}
    assert clustering.at(n=7) not in look.asked
    # Whoever comes now asks for no more than they did.
    again = first_look(instance, study)
    theirs = {backfill.backfill_id for backfill in by_device.values()}
    assert {backfill.backfill_id for backfill in again.backfills} == theirs


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_what_a_machine_with_another_clock_submits_is_watched(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    study = STUDY.model_copy(update={"device": "cuda"})
    looks = Submission(study, instance, plan(study)).watch()
    before = next(looks).backfills
    clock = time.time
    monkeypatch.setattr(submit.time, "time", lambda: clock() + ahead)
    there = Submission(study, instance, plan(study)).watch()
    assert next(there).backfills == before
    made(corpus, study=study)
    end(instance, before[0])
    theirs = next(look for look in there if len(look.backfills) == 2).backfills
    monkeypatch.setattr(submit.time, "time", clock)
    look = next(look for look in looks if len(look.backfills) == 2)
    assert [one.backfill_id for one in look.backfills] == [one.backfill_id for one in theirs]
    assert len(instance.get_backfills()) == 2


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_a_daemon_is_there_as_long_as_its_signs_change_by_whatever_clock(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    now, beats = 1e6, {}

    def beat(timestamp: float) -> None:
        beats["BACKFILL"] = SimpleNamespace(timestamp=timestamp)

    monkeypatch.setattr(instance, "get_daemon_heartbeats", lambda: beats)
    monkeypatch.setattr(submit.time, "time", lambda: now)
    monkeypatch.setattr(submit.time, "monotonic", lambda: now)
    daemon = submit.Daemon(instance)
    assert not daemon.is_there()
    beat(now + ahead)
    for _ in range(5):
        assert daemon.is_there()
        now += 90
        beat(now + ahead)
    assert daemon.is_there()
    now += 150
    assert not daemon.is_there()
    beat(now + ahead)
    assert daemon.is_there()
    now += 3 * 86_400
    assert not submit.Daemon(instance).is_there()


def test_cancel_waits_until_dagster_says_so_and_the_watcher_is_told(
    instance: dg.DagsterInstance,
) -> None:
    inputs()
    watching = Submission(STUDY, instance, plan(STUDY)).watch()
    before = next(watching).backfills[0]
    cancelling = submit.cancel(STUDY, instance)
    assert [left.backfill_id for left in next(cancelling)] == [before.backfill_id]
    # The daemon, which had read it before, writes over what it says now: it is asked again.
    instance.update_backfill(before)
    next(cancelling)
    (backfill,) = instance.get_backfills()
    assert backfill.status == BulkActionStatus.CANCELING
    end(instance, backfill, BulkActionStatus.CANCELED)
    assert list(cancelling) == []
    with pytest.raises(Failure, match=r"was cancelled; .* aanet run ticking --submit$"):
        list(watching)
    assert list(submit.cancel(STUDY, instance)) == []


def test_other_studies_and_other_backfills_are_not_cancelled(instance: dg.DagsterInstance) -> None:
    inputs()
    (backfill,) = first_look(instance).backfills
    by_hand = backfill._replace(backfill_id="by_hand", tags={STUDY_TAG: STUDY.name})
    instance.add_backfill(by_hand)
    end(instance, backfill)
    assert list(submit.cancel(STUDY, instance)) == []
    assert list(submit.cancel(small_study(), instance)) == []


def test_what_dagster_gave_up_is_told_with_its_reason(instance: dg.DagsterInstance) -> None:
    from dagster_shared.error import SerializableErrorInfo

    inputs()
    watching = Submission(STUDY, instance, plan(STUDY)).watch()
    (backfill,) = next(watching).backfills
    error = SerializableErrorInfo("AssetError: no such asset\n", [], "AssetError")
    end(instance, backfill.with_error(error), BulkActionStatus.FAILED)
    with pytest.raises(Failure, match=r"gave up .*: AssetError: no such asset\. If the study is"):
        list(watching)


def test_a_partition_whose_input_nobody_asked_for_is_named(instance: dg.DagsterInstance) -> None:
    inputs()
    only = [p for p in plan(STUDY, until="consolidated_metrics") if p.step is not aanet_models]
    with pytest.raises(Failure, match=r"needs aanet_models \[.*Run: aanet run ticking --until"):
        list(Submission(STUDY, instance, only).watch())


def test_a_failed_partition_is_named_with_its_reason(instance: dg.DagsterInstance) -> None:
    """Nothing but records is on disk, so that the runs really fail."""
    inputs()
    todo = plan(STUDY, until="aanet_metrics", n_clusters=[7], ks=[3])
    watching = Submission(STUDY, instance, todo).watch()
    (backfill,) = next(watching).backfills
    run_as_the_daemon(instance, STUDY, backfill)
    look = next(watching)
    assert not look.done
    said = str(look.failed[aanet_models.at(n=7, k=3)])
    assert said.startswith("aanet_models [n_clusters 7, k 3]: ")
    assert "\n" not in said
    end(instance, backfill, BulkActionStatus.COMPLETED_FAILED)
    with pytest.raises(Failure, match=r"partitions? failed, as said above"):
        list(watching)


def test_a_run_that_died_is_told_in_dagsters_words(instance: dg.DagsterInstance) -> None:
    inputs()
    todo = plan(STUDY, until="aanet_metrics", n_clusters=[7], ks=[3])
    submission = Submission(STUDY, instance, todo)
    watching = submission.watch()
    (backfill,) = next(watching).backfills
    run = instance.create_run_for_job(
        build_defs(STUDY).resolve_job_def("ticking_stage1_grid"),
        asset_selection=frozenset(backfill.asset_selection or ()),
        tags={"dagster/partition": "3|7", "dagster/backfill": backfill.backfill_id},
        status=dg.DagsterRunStatus.STARTED,
    )
    instance.report_run_failed(run, "Its process 7 is gone.")
    (failure,) = next(watching).failed.values()
    assert str(failure).startswith("aanet_models [n_clusters 7, k 3]: Its process 7 is gone. (run")


@pytest.mark.slow
def test_a_real_daemon_makes_the_same_bytes_and_nothing_else(
    finished: Finished, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, twin = tmp_path / "home", tmp_path / "twin"
    for each in (folder, twin):
        shutil.copytree(home, each, symlinks=True)
    study = study_with(seed=43)
    dagit = Dagit(folder)

    def in_folder(place: Path) -> None:
        for name in ("AANET_HOME", "DAGSTER_HOME"):
            monkeypatch.setenv(name, str(place))
        monkeypatch.chdir(place)

    in_folder(twin)
    for shard in codes_by_latent.all_of(study):
        discard_record(study, shard)
    with dg.DagsterInstance.get() as instance:
        driver = Driver(study, instance)
        for partition in plan(study):
            if not driver.is_there(partition):
                driver.materialise(partition)
    in_folder(folder)
    for shard in codes_by_latent.all_of(study):
        discard_record(study, shard)
    wanted = open_partitions(study, plan(study))
    with dagit.running(), dg.DagsterInstance.get() as instance:
        dagit.wait_until_ready()
        assert submit.Daemon(instance).is_there()
        look = list(Submission(study, instance, plan(study)).watch())[-1]
        assert look.asked == look.done == wanted
        tags = {"dagster/backfill": look.backfills[0].backfill_id}
        runs = instance.get_runs(dg.RunsFilter(tags=tags))
    steps = {dg.AssetKey(step.asset_key(study)): step for step in steps_of(study)}
    ran = [
        partition
        for run in runs
        for key in run.asset_selection or ()
        for partition in partitions_of_run(study, steps[key], run)
    ]
    assert len(ran) == len(wanted)
    assert set(ran) == wanted
    of_shards = [run for run in runs if "dagster/asset_partition_range_start" in run.tags]
    # Three shards, two to a run.
    assert len(of_shards) == 2
    assert problems(study) == []
    assert digests(folder / "data/small") == digests(twin / "data/small")
    assert replicates.at(n=8, k=2) in wanted
