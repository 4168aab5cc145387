"""Damaged rows of clusters."""

import numpy as np
import pandas as pd
import pytest

from aanet_assets.steps.checks.rows import check_rows
from aanet_assets.steps.clusters import ROWS, cluster_rows
from aanet_assets.study.layout import StudyPaths
from aanet_assets.study.settings import RowSettings
from aanet_assets_tests.checks.damage import edit_arrays, edit_table, failures, put
from aanet_assets_tests.conftest import Finished

PARTITION = cluster_rows.at(n=7)


@pytest.fixture
def settings(finished: Finished) -> RowSettings:
    return finished.study.rows


def test_good_rows_pass(paths: StudyPaths, settings: RowSettings) -> None:
    findings = check_rows(paths, 7, settings)
    assert failures(findings) == {}
    assert "7 clusters with 14,000 rows, 0 have rows that are not finite" in findings[2].said


def test_a_cluster_without_rows(paths: StudyPaths, settings: RowSettings) -> None:
    edit_arrays(ROWS.under(paths.root, n=7), lambda arrays: arrays.pop("3.extrema"))
    said = failures(check_rows(paths, 7, settings))
    assert said["complete"].startswith("6 of 7 clusters have rows")


@pytest.mark.parametrize(
    "change",
    [lambda frame: frame.iloc[1:], lambda frame: pd.concat([frame, frame.iloc[:1]])],
    ids=["missing", "twice"],
)
def test_the_table_does_not_match(paths: StudyPaths, settings: RowSettings, change) -> None:
    edit_table(paths, "clusters", PARTITION, change)
    said = failures(check_rows(paths, 7, settings))
    assert "must have one for each cluster" in said["complete"]


@pytest.mark.parametrize("array", ["train", "heldout", "extrema"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_single_value_that_is_not_finite(
    paths: StudyPaths, settings: RowSettings, array: str, value: float
) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays[f"4.{array}"][-1, -1] = value

    edit_arrays(ROWS.under(paths.root, n=7), spoil)
    failed = failures(check_rows(paths, 7, settings))
    assert list(failed) == ["rows_finite"]
    assert "1 have rows that are not finite (clusters 4)" in failed["rows_finite"]


def test_rows_of_another_subspace(paths: StudyPaths, settings: RowSettings) -> None:
    def narrow(arrays: dict[str, np.ndarray]) -> None:
        for name in ("train", "heldout", "extrema"):
            arrays[f"4.{name}"] = np.ascontiguousarray(arrays[f"4.{name}"][:, 1:])

    edit_arrays(ROWS.under(paths.root, n=7), narrow)
    assert list(failures(check_rows(paths, 7, settings))) == ["row_widths"]


def test_too_few_rows(paths: StudyPaths, settings: RowSettings) -> None:
    def lose_one(arrays: dict[str, np.ndarray]) -> None:
        arrays["4.heldout"] = arrays["4.heldout"][1:]

    edit_arrays(ROWS.under(paths.root, n=7), lose_one)
    failed = failures(check_rows(paths, 7, settings))
    assert list(failed) == ["row_counts"]
    assert "(clusters 4)" in failed["row_counts"]


def test_more_rows_than_active_tokens(paths: StudyPaths, settings: RowSettings) -> None:
    edit_table(paths, "clusters", PARTITION, put("active_tokens", 100))
    assert list(failures(check_rows(paths, 7, settings))) == ["row_counts"]
