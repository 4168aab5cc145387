"""The CSV: its exact text, the types it comes back with, and values that are easily lost."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aanet_assets.science.selection.consolidate import CSV_COLUMNS, consolidate, read_csv, write_csv
from aanet_assets.science.selection.elbows import FALLING_COLUMNS

FALLING = [10.0, 4.0, 2.0, 1.0, 0.5, 0.2, 0.1]


def metrics_of(losses: list[float], reason: str = "", status: str = "ok") -> pd.DataFrame:
    """Cluster 0 at k = 2..8, both losses the same; without losses unless the status is ok."""
    known = [loss if status == "ok" else None for loss in losses]
    return pd.DataFrame(
        {
            "cluster_id": 0,
            "aanet_k": range(2, 9),
            "aanet_status": status,
            "aanet_reason": reason,
            "aanet_loss": known,
            "aanet_recon_loss": known,
            "aanet_archetypal_loss": known,
            "aanet_extrema_loss": None,
            "n_rows": 500,
            "steps": 321 if status == "ok" else None,
            "heldout_in_simplex": None,
        }
    )


def table_of(metrics: pd.DataFrame, latents: list[int], sae_id: str = "NA") -> pd.DataFrame:
    clusters = pd.DataFrame(
        {
            "cluster_id": [0],
            "n_latents": [len(latents)],
            "latent_indices": [latents],
            "cluster_recon_error": [0.25 if latents else np.nan],
            "decoder_dir_rank": [min(2, len(latents))],
            "activation_pca_rank": [min(3, len(latents))],
            "average_l0": [2.5],
        }
    )
    return consolidate(metrics, clusters, n_clusters=1, sae_id=sae_id)


def test_header_and_first_line(tmp_path: Path) -> None:
    table = table_of(metrics_of(FALLING), [0, 3, 5], "release/layer, width")
    write_csv(table, tmp_path / "table.csv")
    header, first = (tmp_path / "table.csv").read_text().splitlines()[:2]
    further = ["aanet_reason", "n_rows", "steps", "heldout_in_simplex"]
    assert header == ",".join([*CSV_COLUMNS, *FALLING_COLUMNS, *further])
    strength = float(table["aanet_recon_loss_elbow_strength"].iloc[0])
    assert first == (
        '1,0,3,"[0, 3, 5]",2,ok,10.0,10.0,10.0,,"release/layer, width",2.5,0.25,2,3,'
        f"4,{strength},99.0,True,4,{strength},99.0,True,0,True,True,,500,321,"
    )


@pytest.mark.parametrize(
    "table",
    [
        table_of(metrics_of(FALLING), [7, 11]),
        table_of(metrics_of(FALLING, "NA", "empty"), []),
        table_of(metrics_of(FALLING, "", "insufficient_samples"), [4]),
        table_of(metrics_of(FALLING), [7, 11]).iloc[:0],
    ],
    ids=["trained", "empty", "few rows", "no line"],
)
def test_types_are_those_of_the_table_and_survive(table: pd.DataFrame, tmp_path: Path) -> None:
    for column in ("cluster_id", "n_latents", "aanet_k", "k_differential", "steps", "n_rows"):
        assert table.dtypes[column] == pd.Int64Dtype(), column
    for column in ("recon_is_monotonic", "arch_is_monotonic", *FALLING_COLUMNS):
        assert table.dtypes[column] == pd.BooleanDtype(), column
    for column in ("aanet_extrema_loss", "cluster_recon_error", "heldout_in_simplex"):
        assert table.dtypes[column] == np.float64, column
    path = tmp_path / "folder" / "table.csv"
    write_csv(table, path)
    pd.testing.assert_frame_equal(read_csv(path), table, check_exact=True)
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


@settings(max_examples=30, deadline=None)
@given(
    losses=st.lists(st.floats(0, 1e300, allow_nan=False), min_size=7, max_size=7),
    reason=st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=12),
)
def test_any_number_and_reason_survives(
    losses: list[float], reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = table_of(metrics_of(losses, reason), [1])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    write_csv(table, path)
    pd.testing.assert_frame_equal(read_csv(path), table, check_exact=True)


def test_arrays_of_latents_are_written_as_lists(tmp_path: Path) -> None:
    table = table_of(metrics_of(FALLING), [7, 11])
    arrays = table.assign(latent_indices=table["latent_indices"].map(np.array))
    write_csv(arrays, tmp_path / "table.csv")
    pd.testing.assert_frame_equal(read_csv(tmp_path / "table.csv"), table)


def test_a_cluster_twice_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    metrics = metrics_of(FALLING)
    with pytest.raises(ValueError, match="a cluster_id occurs twice"):
        consolidate(metrics, pd.DataFrame({"cluster_id": [0, 0]}), n_clusters=2, sae_id="x")
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "missing.csv")
