"""Damaged metrics, and a CSV file that tells another story than the table."""

import numpy as np
import pandas as pd
import pytest

from aanet_assets.steps.aanets import AANET_METRICS, aanet_metrics
from aanet_assets.steps.metrics import (
    CONSOLIDATED_METRICS,
    CURVES,
    METRICS_CSV,
    consolidated_metrics,
)
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, put
from aanet_assets_tests.outputs import change as edit

METRICS = aanet_metrics.at(n=7, k=3)
CONSOLIDATED = consolidated_metrics.at(n=7)


def of_one_k(study: Study, change) -> dict[str, str]:
    edit(study, METRICS, AANET_METRICS, change)
    return complaints(study, METRICS)


def of_all_ks(study: Study, change) -> dict[str, str]:
    """What is said of a table, leaving out that the CSV file differs from it."""
    edit(study, CONSOLIDATED, CONSOLIDATED_METRICS, change)
    said = complaints(study, CONSOLIDATED)
    said.pop("csv", None)
    return said


def test_good_metrics_pass(study: Study) -> None:
    assert complaints(study, METRICS) == {}
    assert complaints(study, CONSOLIDATED) == {}
    assert complaints(study, consolidated_metrics.at(n=6)) == {}


def test_a_row_is_missing(study: Study) -> None:
    assert of_one_k(study, lambda frame: frame.iloc[:-1]) == {
        "complete": "6 rows (cluster 6 at k 3 missing), 7 expected: one for each of 7 clusters at "
        "k 3"
    }
    said = of_all_ks(study, lambda frame: frame.iloc[1:])
    assert said["complete"].startswith("20 rows (cluster 0 at k 2 missing), 21 expected")


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: pd.concat([frame, frame.iloc[:1]]),
        put("cluster_id", 1),
        put("aanet_k", 4),
        put("n_clusters_total", 6),
    ],
    ids=["twice", "cluster", "k", "n"],
)
def test_rows_of_other_clusters(study: Study, change) -> None:
    assert list(of_one_k(study, change)) == ["complete"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("aanet_extrema_loss", -1e-9),
        ("heldout_loss", np.inf),
        ("aanet_recon_loss", None),
        ("aanet_archetypal_loss", -0.5),
        ("aanet_status", "failed"),
    ],
)
def test_losses(study: Study, column: str, value: object) -> None:
    assert list(of_one_k(study, put(column, value))) == ["losses"]
    assert list(of_all_ks(study, put(column, value))) == ["losses"]


@pytest.mark.parametrize("column", ["aanet_extrema_loss", "heldout_recon_loss"])
def test_losses_that_may_be_null(study: Study, column: str) -> None:
    assert of_one_k(study, put(column, None)) == {}
    assert of_all_ks(study, put(column, None)) == {}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("heldout_in_simplex", 1.5),
        ("heldout_in_simplex", -0.1),
        ("heldout_explained_variance", 1.01),
    ],
)
def test_shares(study: Study, column: str, value: float) -> None:
    said = of_one_k(study, put(column, value))
    assert said["shares"].startswith(f"1 of {column} outside")
    assert list(of_all_ks(study, put(column, value))) == ["shares"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("cluster_recon_error", 1.2), ("recon_pct_decrease", 120.0), ("arch_pct_decrease", -3.0)],
)
def test_shares_of_the_guides_table(study: Study, column: str, value: float) -> None:
    assert list(of_all_ks(study, put(column, value))) == ["shares"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("aanet_recon_loss_elbow_k", 9),
        ("aanet_archetypal_loss_elbow_k", None),
        ("aanet_recon_loss_elbow_strength", -0.1),
        ("aanet_recon_loss_elbow_strength", np.inf),
        ("aanet_archetypal_loss_elbow_strength", None),
        ("arch_elbow_is_falling", None),
    ],
)
def test_elbows(study: Study, column: str, value: object) -> None:
    said = of_all_ks(study, put(column, value))
    assert list(said) == ["elbows"]
    assert "for clusters 0" in said["elbows"]


def test_no_elbow_at_all_is_a_result(study: Study) -> None:
    def without(frame: pd.DataFrame) -> pd.DataFrame:
        elbows = [c for c in frame.columns if "elbow" in c]
        return frame.assign(**dict.fromkeys(elbows, None))

    assert of_all_ks(study, without) == {}


@pytest.mark.parametrize(
    "change",
    [
        put("aanet_loss", 0.123456789),
        put("recon_pct_decrease", None),
        put("n_latents", 99),
        put("aanet_status", "empty"),
        put("recon_is_monotonic", None),
        put("latent_indices", [1, 2]),
    ],
    ids=["number", "null", "whole number", "text", "boolean", "list"],
)
def test_the_csv_differs_from_the_table(study: Study, change) -> None:
    edit(study, CONSOLIDATED, CONSOLIDATED_METRICS, change)
    said = complaints(study, CONSOLIDATED)["csv"]
    assert said.startswith("consolidated_metrics_n7.csv differs from the table in ")


def test_the_csv_has_fewer_rows(study: Study) -> None:
    lines = METRICS_CSV.under(study.paths.root, n=7).read_text().splitlines(keepends=True)
    METRICS_CSV.under(study.paths.root, n=7).write_text("".join(lines[:-1]))
    said = complaints(study, CONSOLIDATED)
    assert said == {"csv": "consolidated_metrics_n7.csv has 20 rows, the table 21"}


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (lambda columns: columns[1:], "cannot be read back"),
        (lambda columns: columns[::-1], "does not begin with the guide's 24 columns"),
        (lambda columns: columns[:-1], "has other columns than the table"),
    ],
)
def test_the_csvs_columns(study: Study, order, message: str) -> None:
    frame = pd.read_csv(METRICS_CSV.under(study.paths.root, n=7), dtype=str, keep_default_na=False)
    frame[order(list(frame.columns))].to_csv(METRICS_CSV.under(study.paths.root, n=7), index=False)
    assert message in complaints(study, CONSOLIDATED)["csv"]


def test_a_training_curve_is_missing(study: Study) -> None:
    lines = CURVES.under(study.paths.root, n=7).read_text().splitlines(keepends=True)
    CURVES.under(study.paths.root, n=7).write_text("".join(lines[1:]))
    said = complaints(study, CONSOLIDATED)
    assert said["curves"].startswith("training_curves_n7.jsonl has 20 lines, 21 expected")
