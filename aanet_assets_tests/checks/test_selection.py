"""Damaged verdicts and funnels."""

import pandas as pd
import pytest

from aanet_assets.steps.checks.selection import check_selection
from aanet_assets.steps.selection import selected_clusters
from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.checks.damage import edit_table, failures, put

PARTITION = selected_clusters.at(n=7)


def checked(paths: StudyPaths, table: str, change) -> dict[str, str]:
    edit_table(paths, table, PARTITION, change)
    return failures(check_selection(paths, 7, (2, 3, 4), "guide"))


def test_a_good_selection_passes(paths: StudyPaths) -> None:
    assert failures(check_selection(paths, 7, (2, 3, 4), "guide")) == {}


def test_that_nothing_is_selected_passes(paths: StudyPaths) -> None:
    findings = check_selection(paths, 6, (2, 3, 4), "guide")
    assert failures(findings) == {}
    assert findings[1].said.startswith("0 of 0 selected clusters lack")


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.iloc[:-1],
        lambda frame: pd.concat([frame, frame.iloc[-1:]]),
        put("reason", "", row=4),
        put("reason", None, row=4),
    ],
    ids=["missing", "twice", "empty reason", "no reason"],
)
def test_verdicts(paths: StudyPaths, change) -> None:
    assert list(checked(paths, "selected_clusters", change)) == ["complete"]


@pytest.mark.parametrize(
    ("column", "value"), [("k", 5), ("k", None), ("category", "E"), ("category", None)]
)
def test_k_and_category_of_a_selected_cluster(
    paths: StudyPaths, column: str, value: object
) -> None:
    said = checked(paths, "selected_clusters", put(column, value))["k_and_category"]
    assert said.startswith("1 of 2 selected clusters lack a k out of 2, 3, 4")
    assert "cluster 0: k " in said


@pytest.mark.parametrize(
    "change",
    [
        put("remaining", 6, row=5),
        put("failed_cumulative", 2, row=3),
        put("failed_here", 3, row=3),
        lambda frame: frame.iloc[:0],
    ],
    ids=["rises", "does not add up", "counts others", "is empty"],
)
def test_funnel(paths: StudyPaths, change) -> None:
    assert list(checked(paths, "selection_funnel", change)) == ["funnel"]


def test_more_clusters_by_the_rules_than_the_funnel_leaves(paths: StudyPaths) -> None:
    failed = checked(paths, "selected_clusters", put("category", "A"))
    assert "and 1 clusters are selected by its rules" in failed["funnel"]


def test_a_funnel_that_was_not_drawn(paths: StudyPaths) -> None:
    (paths.root / "clusters_7" / "plots" / "selection_funnel_n7.png").unlink()
    assert list(failures(check_selection(paths, 7, (2, 3, 4), "guide"))) == ["drawn"]
