"""Damaged rows of clusters."""

import numpy as np
import pandas as pd
import pytest

from aanet_assets.steps.clusters import CLUSTERS, ROWS, cluster_rows
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, edit_arrays, put
from aanet_assets_tests.outputs import change as edit
from aanet_assets_tests.outputs import findings

PARTITION = cluster_rows.at(n=7)


def test_good_rows_pass(study: Study) -> None:
    assert complaints(study, PARTITION) == {}
    said = findings(study, PARTITION)["rows_finite"].said
    assert "7 clusters with 14,000 rows, 0 have rows that are not finite" in said


def test_a_cluster_without_rows(study: Study) -> None:
    edit_arrays(ROWS.under(study.paths.root, n=7), lambda arrays: arrays.pop("3.extrema"))
    said = complaints(study, PARTITION)
    assert said["complete"].startswith("6 of 7 clusters have rows")


@pytest.mark.parametrize(
    "change",
    [lambda frame: frame.iloc[1:], lambda frame: pd.concat([frame, frame.iloc[:1]])],
    ids=["missing", "twice"],
)
def test_the_table_does_not_match(study: Study, change) -> None:
    edit(study, PARTITION, CLUSTERS, change)
    said = complaints(study, PARTITION)
    assert "must have one for each cluster" in said["complete"]


@pytest.mark.parametrize("array", ["train", "heldout", "extrema"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_single_value_that_is_not_finite(study: Study, array: str, value: float) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays[f"4.{array}"][-1, -1] = value

    edit_arrays(ROWS.under(study.paths.root, n=7), spoil)
    failed = complaints(study, PARTITION)
    assert list(failed) == ["rows_finite"]
    assert "1 have rows that are not finite (clusters 4)" in failed["rows_finite"]


def test_rows_of_another_subspace(study: Study) -> None:
    def narrow(arrays: dict[str, np.ndarray]) -> None:
        for name in ("train", "heldout", "extrema"):
            arrays[f"4.{name}"] = np.ascontiguousarray(arrays[f"4.{name}"][:, 1:])

    edit_arrays(ROWS.under(study.paths.root, n=7), narrow)
    assert list(complaints(study, PARTITION)) == ["row_widths"]


def test_too_few_rows(study: Study) -> None:
    def lose_one(arrays: dict[str, np.ndarray]) -> None:
        arrays["4.heldout"] = arrays["4.heldout"][1:]

    edit_arrays(ROWS.under(study.paths.root, n=7), lose_one)
    failed = complaints(study, PARTITION)
    assert list(failed) == ["row_counts"]
    assert "(clusters 4)" in failed["row_counts"]


def test_more_rows_than_active_tokens(study: Study) -> None:
    edit(study, PARTITION, CLUSTERS, put("active_tokens", 100))
    assert list(complaints(study, PARTITION)) == ["row_counts"]
