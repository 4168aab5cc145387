"""Records tell missing from stale from good, and a partition without its record is missing."""

import json
from pathlib import Path

import pytest

from aanet_assets.lineage import Partition, partitions, steps
from aanet_assets.records import (
    MISSING,
    NotReadyError,
    Standing,
    content_digest,
    discard_record,
    record_path,
    require_upstream,
)
from aanet_assets.study import Study
from aanet_assets_tests.small import pretend, small_study


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of which every partition has a record."""
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    study = small_study()
    for step in steps(study).values():
        for partition in partitions(study, step):
            pretend(study, partition, f"content of {partition}")
    return study


def stale(study: Study) -> set[str]:
    standing = Standing(study)
    return {
        str(partition)
        for step in steps(study).values()
        for partition in partitions(study, step)
        if standing.problem(partition) is not None
    }


def test_all_is_good_after_all_is_written(study: Study) -> None:
    assert stale(study) == set()


def test_a_partition_whose_work_began_and_did_not_end_is_missing(study: Study) -> None:
    discard_record(study, Partition("vertex_samples", n=7))
    assert Standing(study).problem(Partition("vertex_samples", n=7)) == MISSING
    assert stale(study) == {"vertex_samples [n_clusters 7]", "review_page [n_clusters 7]"}


def test_new_content_makes_stale_what_was_made_from_the_old(study: Study) -> None:
    pretend(study, Partition("aanet_models", n=7, k=3), "other")
    assert stale(study) == {
        "aanet_metrics [n_clusters 7, k 3]",
        "replicates [n_clusters 7, k 3]",
        "consolidated_metrics [n_clusters 7]",
        "evidence [n_clusters 7]",
        "reproducibility [n_clusters 7]",
        "analysis_plots [n_clusters 7]",
        "selected_clusters [n_clusters 7]",
        "refit_models [n_clusters 7]",
        "vertex_samples [n_clusters 7]",
        "review_page [n_clusters 7]",
        "recovery [n_clusters 7]",
    }


def test_equal_content_leaves_all_good(study: Study) -> None:
    partition = Partition("aanet_models", n=7, k=3)
    pretend(study, partition, f"content of {partition}")
    assert stale(study) == set()


def test_a_record_without_files_or_without_sense_proves_nothing(study: Study) -> None:
    partition = Partition("clustering", n=7)
    path = record_path(study, partition)
    old = json.loads(path.read_text())
    del old["files"]
    path.write_text(json.dumps(old))
    problem = Standing(study).problem(partition)
    assert problem == "was recorded by an earlier version of the code, without its files"
    path.write_text(path.read_text()[:20])
    assert Standing(study).problem(partition) == MISSING


def test_a_refusal_names_both_sides_and_the_command(study: Study) -> None:
    pretend(study, Partition("clustering", n=7), "other")
    with pytest.raises(NotReadyError) as refusal:
        require_upstream(study, Partition("aanet_models", n=7, k=3))
    assert str(refusal.value) == (
        "aanet_models [n_clusters 7, k 3] of study 'small' needs cluster_rows [n_clusters 7], "
        "which was made from another clustering [n_clusters 7]: stored content of clustering "
        "[n_clusters 7], expected other. Run: aanet run small --until cluster_rows --n-clusters 7"
    )
    require_upstream(study, Partition("aanet_models", n=6, k=3))


def test_the_digest_sees_names_and_contents_but_not_the_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    digest = content_digest([a, b])
    assert content_digest([b, a]) == digest
    b.write_text("3")
    assert content_digest([a, b]) != digest
    a.write_text("2")
    b.write_text("1")
    assert content_digest([a, b]) != digest
