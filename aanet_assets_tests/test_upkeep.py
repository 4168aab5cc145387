"""`aanet doctor` and `aanet prune` on a copy of a finished study into which faults are put."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from aanet_assets import studies, warehouse
from aanet_assets.defs.build import build_defs
from aanet_assets.defs.drive import Driver, plan
from aanet_assets.lineage import Partition, partitions, steps
from aanet_assets.prune import FULL_WIDTH, owner, unneeded
from aanet_assets.records import MISSING, Standing, read_record, record_path
from aanet_assets.study import Study
from aanet_assets_tests.conftest import PROJECT, Finished, said
from aanet_assets_tests.defs.test_orphans import run_by_hand, tags_of
from aanet_assets_tests.small import small_study
from aanet_assets_tests.test_locks import holder

_SHRUNK = "n_clusters=(7,), ks=(2, 3)"


@pytest.fixture
def study(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The finished study in a project's folder of its own, with what Dagster knows of it."""
    home = tmp_path / "copy"
    before = finished.study.paths.root.parents[1]
    for name in ("data/small", "data/.dagster"):
        shutil.copytree(before / name, home / name)
    shutil.copy(before / "dagster.yaml", home)
    (home / "data/inputs").symlink_to(before / "data/inputs")
    monkeypatch.setenv("AANET_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(home)
    return finished.study


def problems(study: Study) -> list[str]:
    standing = Standing(study)
    return [
        f"{partition} {problem}"
        for step in steps(study).values()
        for partition in partitions(study, step)
        if (problem := standing.problem(partition))
    ]


def files_of(study: Study) -> set[Path]:
    return {
        study.paths.root / name
        for step in steps(study).values()
        for partition in partitions(study, step)
        if (record := read_record(study, partition))
        for name in record.files or ()
    }


def deleted_file(study: Study) -> None:
    study.paths.model(7, 2, 3).unlink()


def damaged_file(study: Study) -> None:
    with study.paths.stack(7, 3).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")


def damaged_table(study: Study) -> None:
    (study.paths.tables / "selection_funnel" / "n7.parquet").write_bytes(b"no Parquet")


def killed_writer(study: Study) -> None:
    code = (
        "import sys; from pathlib import Path; from aanet_assets.files import replacing\n"
        "with replacing(Path(sys.argv[1])): print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(study.paths.stack(7, 3))],
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
    partition = Partition("selected_clusters", n=7)
    rows = warehouse.read_table(study.paths, "selection_funnel", partition)
    file = warehouse.table_file(study.paths, "selection_funnel", partition)
    old = file.read_bytes()
    warehouse.write_table(study.paths, "selection_funnel", partition, rows.assign(remaining=0))
    warehouse.rebuild(study.paths)
    file.write_bytes(old)
    assert study.paths.database.read_bytes() != kept


FAULTS = [
    (deleted_file, "clusters_7/aanet_cluster_2_k3.pt is missing", "aanet_models"),
    (damaged_file, "aanet_models [n_clusters 7, k 3]: stored ", "aanet_models"),
    (damaged_table, "selected_clusters [n_clusters 7]: stored ", "selected_clusters"),
    (killed_writer, "1 temporary file: .aanets_k3.safetensors.", None),
    (killed_holder, "locks that nobody holds: aanet_models n7_k3 by process", None),
    (orphaned_run, "1 run without a process", None),
    (damaged_database, "metrics.duckdb cannot be compared with the Parquet files", None),
    (deleted_database, "metrics.duckdb is missing", None),
    (old_database, "does not hold the rows of the table selection_funnel", None),
]


def test_a_finished_study_is_well(study: Study, study_module) -> None:
    name = study_module("small_well")
    assert said("doctor", name, code=0).strip() == "All is well."
    assert said("prune", name, code=0).strip() == "There is nothing to remove."


@pytest.mark.parametrize(
    ("fault", "words", "made_again"), FAULTS, ids=lambda x: getattr(x, "__name__", "")
)
def test_each_fault_is_found_explained_and_mended(
    study: Study, study_module, fault: Callable[[Study], None], words: str, made_again: str | None
) -> None:
    name = study_module(f"small_with_{fault.__name__}")
    fault(study)
    dry = said("doctor", name, "--dry-run", code=1)
    assert words in dry
    assert "without --dry-run: " in dry
    assert problems(study) == [], "a dry run changes nothing"
    output = said("doctor", name, code=0)
    assert words in output
    assert "mended: " in output
    assert said("doctor", name, code=0).strip() == "All is well."
    missing = [problem.split(" ")[0] for problem in problems(study) if "is missing" in problem]
    assert missing[:1] == ([made_again] if made_again else [])
    if made_again:
        with dg.DagsterInstance.get() as instance:
            driver = Driver(study, build_defs(study), instance)
            again = [partition for partition in plan(study) if not driver.is_there(partition)]
            driver.materialise(again[0])
        assert problems(study) == [], "equal content makes nothing stale"
        assert said("doctor", name, code=0).strip() == "All is well."


def test_what_nothing_needs_is_for_prune_to_remove(study: Study, study_module) -> None:
    name = study_module("small_strays")
    stray = study.paths.model(7, 99, 3)
    stray.write_bytes(b"0" * 2_500_000)
    notes = study.paths.root / "clusters_7" / "notes.txt"
    notes.write_text("mine")
    output = said("doctor", name, code=1)
    assert "1 file left by earlier settings: clusters_7/aanet_cluster_99_k3.pt" in output
    assert f"to do: aanet prune {study.name}" in output
    output = said("prune", name, "--yes", code=0)
    assert "Freed 2.5 MB" in output
    assert not stray.exists()
    assert notes.exists()
    assert said("doctor", name, code=0).strip() == "All is well."


def test_a_changed_setting_is_named_where_it_begins(study: Study, study_module) -> None:
    name = study_module("small_other_rows", "vertices={'distance': 0.4}")
    output = said("doctor", name, code=1)
    assert "2 stale partitions of vertex_samples, as vertex_samples [n_clusters 6]" in output
    assert "to do: aanet run small" in output
    assert "recovery" not in output


def test_little_room_is_said(study: Study, study_module, monkeypatch: pytest.MonkeyPatch) -> None:
    name = study_module("small_no_room")
    monkeypatch.setattr("aanet_assets.doctor._LITTLE_SPACE", 2**80)
    assert "GB are free on the disk" in said("doctor", name, code=1)


def test_doctor_before_anything_was_run(study_module, home: Path) -> None:
    name = study_module("small_untouched", "name='untouched'")
    assert said("doctor", name, code=0).strip() == "All is well."
    assert said("prune", name, code=0).strip() == "There is nothing to remove."
    assert not (home / "data" / "untouched").exists()


def test_every_file_is_known_by_its_name(finished: Finished) -> None:
    for step in steps(finished.study).values():
        for partition in partitions(finished.study, step):
            record = read_record(finished.study, partition)
            assert record is not None
            for name in record.files or ():
                assert owner(name) == partition, name
    for name in ("notes.txt", "metrics.duckdb", "clusters_7/mine.png", "tables/mine/n7.parquet"):
        assert owner(name) is None


@pytest.mark.parametrize(
    ("smaller", "gone"),
    [
        (
            {"n_clusters": (7,)},
            ["clusters_6", "selected_clusters/n6", "tables/recovery/n6.parquet"],
        ),
        ({"ks": (2, 3)}, ["clusters_6/aanets_k4.safetensors", "records/aanet_metrics/n7_k4.json"]),
    ],
    ids=["n_clusters", "k"],
)
def test_what_is_taken_out_of_the_study_goes_and_the_rest_stands(
    study: Study, study_module, smaller: dict, gone: list[str]
) -> None:
    changes = ", ".join(f"{key}={value}" for key, value in smaller.items())
    name, now = study_module(f"small_{next(iter(smaller))}", changes), small_study(**smaller)
    root, needed, stale = study.paths.root, files_of(now), problems(now)
    mine = root / "tables" / "mine.txt"
    mine.write_text("mine")
    outside = {path for path in root.parent.rglob("*") if root not in path.parents}
    before = room(study)
    output = said("prune", name, "--yes", code=0)
    (announced,) = re.findall(r"no longer in the study │ \d+ │ ([\d.]+)", output)
    assert f"Freed {announced} MB" in output
    assert abs((before - room(study)) / 1e6 - float(announced)) <= 0.05
    assert needed <= set(study.paths.everything())
    assert mine.exists()
    assert outside <= {path for path in root.parent.rglob("*") if root not in path.parents}
    assert not [place for place in gone if (root / place).exists()]
    assert problems(now) == stale
    # Fewer ks change what is made of all ks; fewer clusterings change nothing of the others.
    assert bool(stale) == ("ks" in smaller)
    counts = "SELECT DISTINCT n_clusters_total, aanet_k FROM aanet_metrics ORDER BY ALL"
    grid = [(n, k) for n in now.n_clusters for k in now.ks]
    assert warehouse.query(study.paths, counts).fetchall() == grid
    assert said("prune", name, code=0).strip() == "There is nothing to remove."


def room(study: Study) -> int:
    files = study.paths.everything()
    return sum(path.stat().st_size for path in files if path != study.paths.database)


@pytest.mark.slow
def test_a_smaller_study_is_all_there_after_the_next_run(study: Study, study_module) -> None:
    name = study_module("small_smaller", _SHRUNK)
    said("prune", name, "--yes", code=0)
    said("run", name, code=0)
    assert problems(small_study(n_clusters=(7,), ks=(2, 3))) == []
    assert said("doctor", name, code=0).strip() == "All is well."


def test_full_width_models_go_when_they_are_switched_off(study: Study) -> None:
    narrow = small_study(aanet=study.aanet.model_copy(update={"export_pt": False}))
    found = unneeded(narrow)
    assert set(found) == {FULL_WIDTH}
    models = [path for path in found[FULL_WIDTH] if path.suffix == ".pt"]
    assert len(models) == (6 + 7) * 3
    # The records that name them are stale; all else is untouched.
    records = {path for path in found[FULL_WIDTH] if path.suffix == ".json"}
    assert len(records) == 2 * 3
    assert {path.parent.name for path in records} == {"aanet_models"}


def test_prune_asks_and_takes_no_for_an_answer(
    study: Study, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = study_module("small_asked", _SHRUNK)
    monkeypatch.setattr("typer.confirm", lambda _: False)
    before = study.paths.everything()
    assert "Nothing was removed." in said("prune", name, code=0)
    assert study.paths.everything() == before


def test_prune_waits_for_no_one_and_disturbs_no_one(study: Study, study_module) -> None:
    name = study_module("small_busy", _SHRUNK)
    before = set(study.paths.everything())
    with holder(study.paths.root.parents[1]) as process:
        output = said("prune", name, "--yes", code=1)
        assert f"is being made right now by process {process.pid}" in output
        assert before <= set(study.paths.everything())


def test_two_runs_of_the_same_partition(study: Study, study_module) -> None:
    name, partition = study_module("small_twice"), Partition("aanet_models", n=7, k=3)
    record_path(study, partition).unlink()
    before = study.paths.stack(7, 3).stat().st_mtime_ns
    with holder(study.paths.root.parents[1]) as process:
        output = said("run", name, code=1)
        words = "error aanet_models [n_clusters 7, k 3]: aanet_models [n_clusters 7, k 3] of study "
        assert f"{words}'small' is being made right now by process {process.pid}" in output
        assert study.paths.stack(7, 3).stat().st_mtime_ns == before
    assert Standing(study).problem(partition) == MISSING


def test_inputs_and_links_are_left_alone(study: Study, tmp_path: Path) -> None:
    # The same corpus as an input: a study without a process of its own only reads it.
    reader = small_study(truth=None)
    gone = {path for files in unneeded(reader).values() for path in files}
    assert study.paths.corpus / "corpus.parquet" not in gone
    steps_gone = {owner(str(path.relative_to(study.paths.root))).step for path in gone}  # type: ignore
    assert steps_gone == {"corpus", "recovery"}, "records and locks of the one, all of the other"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "clustering.safetensors").write_bytes(b"")
    (study.paths.root / "clusters_99").symlink_to(elsewhere)
    assert unneeded(study) == {}


def test_a_killed_run_is_mended_by_the_next(study_module, home: Path) -> None:
    name = study_module(
        "small_killed",
        "name='killed', n_clusters=(6,), selection={}, "
        "corpus={'files': 'data/killed/corpus/*.parquet', 'shuffle_buffer': 0}",
    )
    code = (
        "import sys; from aanet_assets import cli, studies; "
        "studies.__path__.append(sys.argv[1]); cli.app(['run', sys.argv[2]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, studies.__path__[-1], name],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    ) as process:
        while not (home / "data/killed/locks/activation_cache/shard1.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    output = said("doctor", name, "--dry-run", code=1)
    assert "1 run without a process" in output
    assert f"activation_cache shard1 by process {process.pid}" in output
    output = said("run", name, "--until", "activation_cache", code=0)
    assert "Marked as failed: 1 run whose process is gone." in output
    assert re.search(r"activation_cache 2 made, 1 already there", output)
    assert said("doctor", name, code=0).strip() == "All is well."
