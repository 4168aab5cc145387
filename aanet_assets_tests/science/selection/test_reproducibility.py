"""Two selections from disjoint halves, and how far they agree."""

import numpy as np
import pandas as pd
import pytest

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.science.selection.filters import SELECTED, Selection, frame
from aanet_assets.science.selection.reproducibility import (
    agreement,
    elbow_by_replicates,
    geometric_by_rows,
)
from aanet_assets.study.settings import ControlSettings, SelectionSettings


def selection(*chosen: tuple[int, str, int]) -> Selection:
    rows = [(7, i, category, k, "x", 3, *[None] * 5) for i, category, k in chosen]
    return Selection("elbow", frame(rows, SELECTED), pd.DataFrame(), pd.DataFrame(), {})


def test_agreement_counts_clusters_and_ks_but_no_manual_picks() -> None:
    first = selection((0, "A", 3), (1, "B", 4), (2, "S", 3), (5, "M", 2))
    second = selection((1, "B", 4), (2, "A", 5), (4, "D", 3), (5, "M", 2))
    found = agreement("elbow", first, second)
    assert found[1:] == (1, 2, 1, 1)
    assert found.jaccard == pytest.approx(0.5)
    assert agreement("elbow", selection(), selection()).jaccard is None


def test_the_elbow_mode_sees_each_half_of_the_replicates_alone() -> None:
    """In the first half cluster 0 has its elbow at 3, in the second at 4; the others at 3."""
    curves = {3: [9.0, 2, 1.5, 1.4], 4: [9.0, 8, 1, 0.9]}
    rows = [
        (i, k, replicate, loss + i / 10, loss + i / 10 * (k == 3))
        for i in range(4)
        for replicate in range(4)
        for k, loss in zip((2, 3, 4, 5), curves[4 if i == 0 and replicate > 1 else 3], strict=True)
    ]
    columns = ["cluster_id", "k", "replicate", "aanet_recon_loss", "aanet_archetypal_loss"]
    settings = SelectionSettings(d_sd=-10)
    sizes = pd.Series({i: 4 for i in range(4)})
    first, second = elbow_by_replicates(pd.DataFrame(rows, columns=columns), sizes, settings, 4)
    assert first.selected["k"].tolist() == [3, 3, 3, 3]
    assert second.selected["k"].tolist() == [4, 3, 3, 3]
    assert agreement("elbow", first, second).same_k == 3


def test_a_cluster_whose_replicate_failed_has_no_elbow_in_that_half() -> None:
    columns = ["cluster_id", "k", "replicate", "aanet_recon_loss", "aanet_archetypal_loss"]
    rows = [(0, k, r, 9.0 / k, 9.0 / k) for r in (0, 1) for k in (2, 3, 4)]
    table = pd.DataFrame(rows, columns=columns)
    table.loc[0, "aanet_recon_loss"] = np.nan
    first, second = elbow_by_replicates(table, pd.Series({0: 4}), SelectionSettings(), 1)
    assert "elbow metrics missing" in first.verdicts["reason"][0]
    assert "elbow metrics missing" not in second.verdicts["reason"][0]


def test_the_geometric_mode_sees_each_half_of_the_rows_alone() -> None:
    rng = np.random.default_rng(0)
    triangle = rng.dirichlet([0.4] * 3, 4_000)
    disk = rng.standard_normal((4_000, 3))
    disk /= np.linalg.norm(disk, axis=1, keepdims=True)
    mixed = np.empty((4_000, 3))
    mixed[::2], mixed[1::2] = triangle[::2], disk[1::2]
    empty = np.zeros((0, 3))
    rows = [
        ClusterRows(i, np.eye(3, dtype=np.float32), x.astype(np.float32), empty, empty)
        for i, x in enumerate((triangle, mixed, empty))
    ]
    evidence = pd.DataFrame(
        {"cluster_id": [0, 1, 2], "null_cluster": False, "n_latents": 3, "coactivity": 2.0,
         "coactivity_q": 0.01, "simplex_k": pd.array([3, 3, 3], dtype="Int64"),
         "simplex_fit": 0.9}
    )  # fmt: skip
    first, second = geometric_by_rows(
        evidence, rows, (2, 3, 4), SelectionSettings(), ControlSettings(), 3
    )
    assert first.selected["cluster_id"].tolist() == [0, 1]
    assert second.selected["cluster_id"].tolist() == [0]
    assert "no simplex can be fitted" in first.verdicts["reason"][2]
