"""Damaged null clusters, shapes, replicates and evidence."""

import pytest

from aanet_assets.steps.evidence import (
    CLUSTER_SHAPES,
    EVIDENCE,
    NULL_CLUSTERING,
    NULL_ROWS,
    REPLICATES,
    cluster_shapes,
    evidence,
    null_clusters,
    replicates,
)
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, edit_arrays, put
from aanet_assets_tests.outputs import change as edit

NULLS, SHAPES, FOUND = (step.at(n=7) for step in (null_clusters, cluster_shapes, evidence))
TRAINED = replicates.at(n=7, k=3)


def asking_for(study: Study, **changes: int) -> Study:
    """The study with other settings of `controls`."""
    return study.model_copy(update={"controls": study.controls.model_copy(update=changes)})


def test_what_the_study_wrote_passes(study: Study) -> None:
    for n in (6, 7):
        for step in (null_clusters, cluster_shapes, evidence):
            assert complaints(study, step.at(n=n)) == {}
        assert complaints(study, replicates.at(n=n, k=3)) == {}


def test_null_clusters_of_other_sizes(study: Study) -> None:
    def shift(arrays: dict) -> None:
        arrays["labels"][0, arrays["labels"][0] == 1] = 2

    edit_arrays(NULL_CLUSTERING.under(study.paths.root, n=7), shift)
    assert list(complaints(study, NULLS)) == ["matched"]


def test_too_few_shuffles(study: Study) -> None:
    said = complaints(asking_for(study, nulls=15), NULLS)["matched"]
    assert said.startswith("2 shuffles with 14 clusters in the table; there must be 3 with 7")


def test_null_rows_that_are_not_finite(study: Study) -> None:
    def spoil(arrays: dict) -> None:
        arrays["3.train"][0] = float("nan")

    edit_arrays(NULL_ROWS.under(study.paths.root, n=7), spoil)
    assert list(complaints(study, NULLS)) == ["rows"]


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
def test_shapes(study: Study, change, failed: str) -> None:
    edit(study, SHAPES, CLUSTER_SHAPES, change)
    assert list(complaints(study, SHAPES)) == [failed]


def test_too_few_chance_groups(study: Study) -> None:
    assert list(complaints(asking_for(study, chance=64), SHAPES)) == ["chance"]


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
def test_replicates(study: Study, change, failed: str) -> None:
    edit(study, TRAINED, REPLICATES, change)
    assert list(complaints(study, TRAINED)) == [failed]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda frame: frame.iloc[1:], "complete"),
        (put("coactivity_q", 1.5), "ranges"),
        (put("simplex_k", 9), "ranges"),
    ],
    ids=["one is missing", "a q above 1", "a k of another study"],
)
def test_evidence(study: Study, change, failed: str) -> None:
    edit(study, FOUND, EVIDENCE, change)
    assert list(complaints(study, FOUND)) == [failed]
