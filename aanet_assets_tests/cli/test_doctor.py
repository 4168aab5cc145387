"""`aanet doctor` on a copy of a finished study into which faults are put."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.orchestration.pipeline import tables_of
from aanet_assets.steps.aanets import EXPORT, STACK
from aanet_assets.steps.clusters import clustering
from aanet_assets.steps.inputs import corpus
from aanet_assets.steps.selection import SELECTION_FUNNEL, selected_clusters
from aanet_assets.storage import warehouse
from aanet_assets.storage.locks import partition_lock
from aanet_assets.storage.step import Finding
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import PROJECT, problems, running, said
from aanet_assets_tests.orchestration.test_orphans import run_by_hand, tags_elsewhere, tags_of
from aanet_assets_tests.outputs import change, table_file
from aanet_assets_tests.small import small_study
from aanet_assets_tests.storage.test_locks import holder, moved_elsewhere, note_of

_WRITE = (
    "import sys; from pathlib import Path; from aanet_assets.storage.files import replacing\n"
    "with replacing(Path(sys.argv[1])): print(flush=True); input()"
)


def deleted_file(study: Study) -> None:
    EXPORT.under(study.paths.root, n=7, cluster_id=2, k=3).unlink()


def damaged_file(study: Study) -> None:
    with STACK.under(study.paths.root, n=7, k=3).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")


def damaged_table(study: Study) -> None:
    table_file(study, selected_clusters.at(n=7), SELECTION_FUNNEL).write_bytes(b"no Parquet")


def killed_writer(study: Study) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(STACK.under(study.paths.root, n=7, k=3))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()


def killed_holder(study: Study) -> None:
    with holder(study.paths.root.parents[1]) as process:
        process.kill()


def orphaned_run(study: Study) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    with dg.DagsterInstance.get() as instance:
        run_by_hand(instance, tags_of(process.pid))


def damaged_database(study: Study) -> None:
    study.paths.database.write_bytes(b"no database")


def deleted_database(study: Study) -> None:
    study.paths.database.unlink()


def old_database(study: Study) -> None:
    kept = study.paths.database.read_bytes()
    partition = selected_clusters.at(n=7)
    file = table_file(study, partition, SELECTION_FUNNEL)
    old = file.read_bytes()
    change(study, partition, SELECTION_FUNNEL, lambda rows: rows.assign(remaining=0))
    warehouse.update(study.paths, tables_of(study))
    file.write_bytes(old)
    assert study.paths.database.read_bytes() != kept


FAULTS = [
    (deleted_file, "clusters_7/aanet_cluster_2_k3.pt is missing", "aanet_exports"),
    (damaged_file, "aanet_models [n_clusters 7, k 3]: stored ", "aanet_models"),
    (damaged_table, "recorded: selected_clusters", "selected_clusters"),
    (killed_writer, "1 temporary file: .aanets_k3.safetensors.", None),
    (killed_holder, "locks that nobody holds: aanet_models n7_k3 by process", None),
    (orphaned_run, "1 run without a process", None),
    (damaged_database, "metrics.duckdb cannot be compared with the Parquet files", None),
    (deleted_database, "metrics.duckdb is missing", None),
    (old_database, "does not hold the rows of the table selection_funnel", None),
]


def test_a_finished_study_is_well(copied: Study, study_module) -> None:
    name = study_module("small_well")
    assert said("doctor", name, code=0).strip() == "All is well."
    assert said("prune", name, code=0).strip() == "There is nothing to remove."


@pytest.mark.parametrize(
    ("fault", "words", "made_again"), FAULTS, ids=lambda x: getattr(x, "__name__", "")
)
def test_each_fault_is_found_explained_and_mended(
    copied: Study, study_module, fault: Callable[[Study], None], words: str, made_again: str | None
) -> None:
    name = study_module(f"small_with_{fault.__name__}")
    fault(copied)
    before = problems(copied)
    dry = said("doctor", name, "--dry-run", code=1)
    assert words in dry
    assert "without --dry-run: " in dry
    assert problems(copied) == before, "a dry run changes nothing"
    output = said("doctor", name, code=0)
    assert words in output
    assert "mended: " in output
    assert said("doctor", name, code=0).strip() == "All is well."
    missing = [problem.split(" ")[0] for problem in problems(copied) if "is missing" in problem]
    assert missing[:1] == ([made_again] if made_again else [])
    if made_again:
        with dg.DagsterInstance.get() as instance:
            driver = Driver(copied, instance)
            again = [partition for partition in plan(copied) if not driver.is_there(partition)]
            driver.materialise(again[0])
        assert problems(copied) == [], "equal content makes nothing stale"
        assert said("doctor", name, code=0).strip() == "All is well."


def test_a_changed_setting_is_named_where_it_begins(copied: Study, study_module) -> None:
    name = study_module("small_other_rows", "vertices={'distance': 0.4}")
    output = said("doctor", name, code=1)
    assert "2 stale partitions of vertex_samples, as vertex_samples [n_clusters 6]" in output
    assert "to do: aanet run small" in output
    assert "recovery" not in output


def test_little_room_is_said(copied: Study, study_module, monkeypatch: pytest.MonkeyPatch) -> None:
    name = study_module("small_no_room")
    monkeypatch.setattr("aanet_assets.cli.doctor._LITTLE_SPACE", 2**80)
    assert "GB are free on the disk" in said("doctor", name, code=1)


def test_doctor_before_anything_was_run(study_module, home: Path) -> None:
    name = study_module("small_untouched", "name='untouched'")
    assert said("doctor", name, code=0).strip() == "All is well."
    assert said("prune", name, code=0).strip() == "There is nothing to remove."
    assert not (home / "data" / "untouched").exists()


def test_a_killed_run_is_mended_by_the_next(study_module, home: Path) -> None:
    name = study_module(
        "small_killed",
        "name='killed', n_clusters=(6,), selection={}, "
        "corpus={'files': 'data/killed/corpus/*.parquet'}",
    )
    with running(name) as process:
        while not (home / "data/killed/locks/activation_cache/shard1.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    output = said("doctor", name, "--dry-run", code=1)
    assert "1 run without a process" in output
    assert f"activation_cache shard1 by process {process.pid}" in output
    output = said("run", name, "--until", "activation_cache", code=0)
    assert "Marked as failed: 1 run whose process is gone." in output
    assert re.search(r"activation_cache 2 made, 1 already there", output)
    assert said("doctor", name, code=0).strip() == "All is well."


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of which nothing is there yet, in a project's folder of its own."""
    home = tmp_path / "fresh"
    (home / "data").mkdir(parents=True)
    shutil.copy(PROJECT / "dagster.yaml", home)
    (home / "data/inputs").symlink_to(PROJECT / "data/inputs")
    for name in ("AANET_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(home)
    return small_study()


def test_what_other_machines_do_is_left_alone_and_said(fresh: Study, study_module) -> None:
    name = study_module("small_elsewhere")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    with dg.DagsterInstance.get() as instance:
        run_id = run_by_hand(instance, tags_elsewhere(process.pid))
    killed_holder(fresh)
    moved_elsewhere(note_of(fresh))
    written = fresh.paths.root / f".rows.{process.pid}-00000000-00000000-7-abcd1234.tmp"
    written.touch()
    three_days_ago = time.time() - 3 * 86400
    os.utime(written, (three_days_ago, three_days_ago))
    output = said("doctor", name, code=1)
    run = f"1 run of other machines or containers: {run_id[:8]}, process {process.pid} of node7"
    note = "1 note of locks of other machines: aanet_models n7_k3 by process"
    for words in (run, note, "1 temporary file of other machines", "3 days", "were left alone"):
        assert words in output
    assert "mended" not in output
    assert written.exists()
    assert note_of(fresh).exists()
    with dg.DagsterInstance.get() as instance:
        kept = instance.get_run_by_id(run_id)
    assert kept is not None
    assert kept.status == dg.DagsterRunStatus.STARTED


def test_temporary_files_are_removed_while_nothing_is_made(fresh: Study, study_module) -> None:
    name = study_module("small_busy")
    killed_writer(fresh)
    (left,) = fresh.paths.root.rglob("*.tmp")
    with partition_lock(fresh, clustering.at(n=7)):
        assert "could not be mended: clustering (n7)" in said("doctor", name, code=1)
        assert left.exists()
    said("doctor", name, code=0)
    assert not left.exists()


def test_what_a_failed_check_left_is_said_until_the_check_passes(
    fresh: Study, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = study_module("small_failed")
    finding = Finding("complete", False, "4,499 documents, 4,500 expected")
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "check", lambda run: [finding])
        said("run", name, "--until", "corpus", code=1)
    output = said("doctor", name, code=1)
    words = "corpus: check complete failed: 4,499 documents, 4,500 expected (left of it: corpus/"
    assert words in output
    said("run", name, "--until", "corpus", code=0)
    assert said("doctor", name, code=0).strip() == "All is well."
