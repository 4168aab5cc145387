"""Damaged verdicts and funnels."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from aanet_assets.steps.selection import (
    FUNNEL_PLOT,
    SELECTED_CLUSTERS,
    SELECTION_FUNNEL,
    selected_clusters,
)
from aanet_assets.storage.table import Table
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, put
from aanet_assets_tests.outputs import change as edit
from aanet_assets_tests.outputs import findings

PARTITION = selected_clusters.at(n=7)


def checked(study: Study, table: Table, change) -> dict[str, str]:
    edit(study, PARTITION, table, change)
    return complaints(study, PARTITION)


def test_a_good_selection_passes(study: Study) -> None:
    assert complaints(study, PARTITION) == {}


def test_that_nothing_is_selected_passes(study: Study) -> None:
    other = selected_clusters.at(n=6)
    assert complaints(study, other) == {}
    assert findings(study, other)["k_and_category"].said.startswith("0 of 0 selected clusters lack")


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
def test_verdicts(study: Study, change) -> None:
    assert list(checked(study, SELECTED_CLUSTERS, change)) == ["complete"]


@pytest.mark.parametrize(
    ("column", "value"), [("k", 5), ("k", None), ("category", "E"), ("category", None)]
)
def test_k_and_category_of_a_selected_cluster(study: Study, column: str, value: object) -> None:
    said = checked(study, SELECTED_CLUSTERS, put(column, value))["k_and_category"]
    assert said.startswith("1 of 2 selected clusters lack a k out of 2, 3, 4")
    assert "cluster 0: k " in said


def one_more(column: str, row: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """What raises one number of a table by one."""
    return lambda frame: frame.assign(**{column: frame[column] + (np.arange(len(frame)) == row)})


@pytest.mark.parametrize(
    "change",
    [
        put("remaining", 6, row=5),
        one_more("failed_cumulative", row=3),
        one_more("failed_here", row=3),
        lambda frame: frame.iloc[:0],
    ],
    ids=["rises", "does not add up", "counts others", "is empty"],
)
def test_funnel(study: Study, change) -> None:
    assert list(checked(study, SELECTION_FUNNEL, change)) == ["funnel"]


def test_more_clusters_by_the_rules_than_the_funnel_leaves(study: Study) -> None:
    failed = checked(study, SELECTED_CLUSTERS, put("category", "A"))
    assert "and 1 clusters are selected by its rules" in failed["funnel"]


def test_a_funnel_that_was_not_drawn(study: Study) -> None:
    FUNNEL_PLOT.under(study.paths.root, n=7).unlink()
    assert list(complaints(study, PARTITION)) == ["drawn"]
