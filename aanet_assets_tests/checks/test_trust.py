"""Damaged null clusters, shapes, replicates and evidence."""

import pytest

from aanet_assets.steps.checks.evidence import (
    check_evidence,
    check_nulls,
    check_replicates,
    check_shapes,
)
from aanet_assets.steps.evidence import (
    NULL_CLUSTERING,
    NULL_ROWS,
    cluster_shapes,
    evidence,
    replicates,
)
from aanet_assets.study.layout import StudyPaths
from aanet_assets.study.settings import TrustSettings
from aanet_assets_tests.checks.damage import edit_arrays, edit_table, failures, put

KS = (2, 3, 4)
TRUST = TrustSettings(nulls=8, chance=60, replicates=2)


def test_what_the_study_wrote_passes(paths: StudyPaths) -> None:
    for n in (6, 7):
        assert failures(check_nulls(paths, n, TRUST.nulls)) == {}
        assert failures(check_shapes(paths, n, KS, 60)) == {}
        assert failures(check_evidence(paths, n, KS)) == {}
        assert failures(check_replicates(paths, n, 3, TRUST)) == {}


def test_null_clusters_of_other_sizes(paths: StudyPaths) -> None:
    def shift(arrays: dict) -> None:
        arrays["labels"][0, arrays["labels"][0] == 1] = 2

    edit_arrays(NULL_CLUSTERING.under(paths.root, n=7), shift)
    assert list(failures(check_nulls(paths, 7, TRUST.nulls))) == ["matched"]


def test_too_few_shuffles(paths: StudyPaths) -> None:
    said = failures(check_nulls(paths, 7, 15))["matched"]
    assert said.startswith("2 shuffles with 14 clusters in the table; there must be 3 with 7")


def test_null_rows_that_are_not_finite(paths: StudyPaths) -> None:
    def spoil(arrays: dict) -> None:
        arrays["3.train"][0] = float("nan")

    edit_arrays(NULL_ROWS.under(paths.root, n=7), spoil)
    assert list(failures(check_nulls(paths, 7, TRUST.nulls))) == ["rows"]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda frame: frame[frame["cluster_id"] != 2], "complete"),
        (lambda frame: frame.assign(k=frame["k"] + 7), "complete"),
        (put("fit", 1.5), "ranges"),
        (put("coactivity", 0.5), "ranges"),
    ],
    ids=["a cluster is missing", "a k of another study", "a share above 1", "less than one latent"],
)
def test_shapes(paths: StudyPaths, change, failed: str) -> None:
    edit_table(paths, "cluster_shapes", cluster_shapes.at(n=7), change)
    assert list(failures(check_shapes(paths, 7, KS, 60))) == [failed]


def test_too_few_chance_groups(paths: StudyPaths) -> None:
    assert list(failures(check_shapes(paths, 7, KS, 64))) == ["chance"]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda frame: frame.iloc[1:], "complete"),
        (lambda frame: frame.assign(replicate=0), "complete"),
        (put("aanet_recon_loss", -1.0), "losses"),
        (put("aanet_recon_loss", None), "losses"),
    ],
    ids=["one is missing", "one twice", "negative", "none"],
)
def test_replicates(paths: StudyPaths, change, failed: str) -> None:
    edit_table(paths, "replicates", replicates.at(n=7, k=3), change)
    assert list(failures(check_replicates(paths, 7, 3, TRUST))) == [failed]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda frame: frame.iloc[1:], "complete"),
        (put("coactivity_q", 1.5), "ranges"),
        (put("simplex_k", 9), "ranges"),
    ],
    ids=["one is missing", "a q above 1", "a k of another study"],
)
def test_evidence(paths: StudyPaths, change, failed: str) -> None:
    edit_table(paths, "evidence", evidence.at(n=7), change)
    assert list(failures(check_evidence(paths, 7, KS))) == [failed]
