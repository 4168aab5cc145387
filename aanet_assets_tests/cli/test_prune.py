"""`aanet prune` on a copy of a finished study: what goes, and that all else stays."""

import re
from pathlib import Path

import pytest

from aanet_assets.cli.prune import owner, unneeded
from aanet_assets.orchestration.pipeline import partitions_of, tables_of
from aanet_assets.steps.aanets import EXPORT
from aanet_assets.steps.clusters import CLUSTERING
from aanet_assets.steps.ground_truth import recovery
from aanet_assets.steps.inputs import CORPUS, corpus
from aanet_assets.storage import warehouse
from aanet_assets.storage.records import read_record
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import Finished, problems, said
from aanet_assets_tests.small import small_study
from aanet_assets_tests.storage.test_locks import holder

_SHRUNK = "n_clusters=(7,), ks=(2, 3)"


def files_of(study: Study) -> set[Path]:
    return {
        study.paths.root / name
        for partition in partitions_of(study)
        if (record := read_record(study, partition))
        for name in record.files or ()
    }


def room(study: Study) -> int:
    files = study.paths.everything()
    return sum(path.stat().st_size for path in files if path != study.paths.database)


def test_what_nothing_needs_is_for_prune_to_remove(copied: Study, study_module) -> None:
    name = study_module("small_strays")
    stray = EXPORT.under(copied.paths.root, n=7, cluster_id=99, k=3)
    stray.write_bytes(b"0" * 2_500_000)
    notes = copied.paths.root / "clusters_7" / "notes.txt"
    notes.write_text("mine")
    output = said("doctor", name, code=1)
    assert "1 file left by earlier settings: clusters_7/aanet_cluster_99_k3.pt" in output
    assert f"to do: aanet prune {copied.name}" in output
    output = said("prune", name, "--yes", code=0)
    assert "Freed 2.5 MB" in output
    assert not stray.exists()
    assert notes.exists()
    assert said("doctor", name, code=0).strip() == "All is well."


def test_every_file_is_known_by_its_name(finished: Finished) -> None:
    for partition in partitions_of(finished.study):
        record = read_record(finished.study, partition)
        assert record is not None
        for name in record.files or ():
            assert owner(name) == partition, name
    derived = ("metrics.duckdb", "selected_clusters/manifest.json")
    for name in ("notes.txt", *derived, "clusters_7/mine.png", "tables/mine/n7.parquet"):
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
    copied: Study, study_module, smaller: dict, gone: list[str]
) -> None:
    changes = ", ".join(f"{key}={value}" for key, value in smaller.items())
    name, now = study_module(f"small_{next(iter(smaller))}", changes), small_study(**smaller)
    root, needed, stale = copied.paths.root, files_of(now), problems(now)
    mine = root / "tables" / "mine.txt"
    mine.write_text("mine")
    outside = {path for path in root.parent.rglob("*") if root not in path.parents}
    before = room(copied)
    output = said("prune", name, "--yes", code=0)
    (announced,) = re.findall(r"no longer in the study │ \d+ │ ([\d.]+)", output)
    assert f"Freed {announced} MB" in output
    assert abs((before - room(copied)) / 1e6 - float(announced)) <= 0.05
    assert needed <= set(copied.paths.everything())
    assert mine.exists()
    assert outside <= {path for path in root.parent.rglob("*") if root not in path.parents}
    assert not [place for place in gone if (root / place).exists()]
    assert problems(now) == stale
    # Fewer ks change what is made of all ks; fewer clusterings change nothing of the others.
    assert bool(stale) == ("ks" in smaller)
    counts = "SELECT DISTINCT n_clusters_total, aanet_k FROM aanet_metrics ORDER BY ALL"
    grid = [(n, k) for n in now.n_clusters for k in now.ks]
    assert warehouse.query(copied.paths, tables_of(now), counts).fetchall() == grid
    assert said("prune", name, code=0).strip() == "There is nothing to remove."


@pytest.mark.slow
def test_a_smaller_study_is_all_there_after_the_next_run(copied: Study, study_module) -> None:
    name = study_module("small_smaller", _SHRUNK)
    said("prune", name, "--yes", code=0)
    said("run", name, code=0)
    assert problems(small_study(n_clusters=(7,), ks=(2, 3))) == []
    assert said("doctor", name, code=0).strip() == "All is well."


def test_prune_asks_and_takes_no_for_an_answer(
    copied: Study, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = study_module("small_asked", _SHRUNK)
    monkeypatch.setattr("typer.confirm", lambda _: False)
    before = copied.paths.everything()
    assert "Nothing was removed." in said("prune", name, code=0)
    assert copied.paths.everything() == before


def test_prune_waits_for_no_one_and_disturbs_no_one(copied: Study, study_module) -> None:
    name = study_module("small_busy", _SHRUNK)
    before = set(copied.paths.everything())
    with holder(copied.paths.root.parents[1]) as process:
        output = said("prune", name, "--yes", code=1)
        assert f"is being made right now by process {process.pid}" in output
        assert before <= set(copied.paths.everything())


def test_inputs_and_links_are_left_alone(copied: Study, tmp_path: Path) -> None:
    # The same corpus as an input: a study without a process of its own only reads it.
    reader = small_study(truth=None)
    gone = {path for files in unneeded(reader).values() for path in files}
    assert CORPUS.under(copied.paths.root) not in gone
    owners = [owner(str(path.relative_to(copied.paths.root))) for path in gone]
    steps_gone = {partition.step for partition in owners if partition is not None}
    assert steps_gone == {corpus, recovery}, "records and locks of the one, all of the other"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    through = CLUSTERING.under(copied.paths.root, n=99)
    (elsewhere / through.name).write_bytes(b"")
    through.parent.symlink_to(elsewhere)
    assert through.exists()
    assert unneeded(copied) == {}
