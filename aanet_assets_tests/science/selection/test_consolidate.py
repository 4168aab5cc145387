"""The guide's table: its columns in order, its types, its CSV."""

from pathlib import Path

import pandas as pd
import pytest

from aanet_assets.science.selection.consolidate import CSV_COLUMNS, consolidate, read_csv, write_csv
from aanet_assets_tests.science.selection.tables import consolidated

IN_ORDER = (
    "n_clusters_total, cluster_id, n_latents, latent_indices, aanet_k, aanet_status, aanet_loss, "
    "aanet_recon_loss, aanet_archetypal_loss, aanet_extrema_loss, sae_id, average_l0, "
    "cluster_recon_error, decoder_dir_rank, activation_pca_rank, aanet_recon_loss_elbow_k, "
    "aanet_recon_loss_elbow_strength, recon_pct_decrease, recon_is_monotonic, "
    "aanet_archetypal_loss_elbow_k, aanet_archetypal_loss_elbow_strength, arch_pct_decrease, "
    "arch_is_monotonic, k_differential"
)


def test_columns_are_the_guides() -> None:
    assert ", ".join(CSV_COLUMNS) == IN_ORDER


def test_one_row_per_cluster_and_k_in_order() -> None:
    table = consolidated(5, failed=1)
    assert list(table.columns[: len(CSV_COLUMNS)]) == list(CSV_COLUMNS)
    keys = list(zip(table["cluster_id"], table["aanet_k"], strict=True))
    assert keys == [(c, k) for c in range(5) for k in range(2, 9)]
    failed = table[table["cluster_id"] == 4]
    assert failed["aanet_recon_loss_elbow_k"].isna().all()
    assert set(failed["aanet_status"]) == {"empty"}


def test_the_csv_gives_the_table_back(tmp_path: Path) -> None:
    table = consolidated(6, failed=2)
    path = tmp_path / "consolidated_metrics_n6.csv"
    write_csv(table, path)
    pd.testing.assert_frame_equal(read_csv(path), table)
    first = path.read_bytes()
    write_csv(table, path)
    assert path.read_bytes() == first
    line = path.read_text().splitlines()[1]
    assert f'"{table["latent_indices"].iloc[0]}"'.replace("'", "") in line


def test_a_csv_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has no column n_clusters_total"):
        read_csv(tmp_path / "x.csv")


def test_tables_of_different_clusters_are_refused() -> None:
    table = consolidated(3)
    metrics = table[["cluster_id", "aanet_k", "aanet_recon_loss", "aanet_archetypal_loss"]]
    clusters = table.drop_duplicates("cluster_id").head(2)[
        ["cluster_id", "n_latents", "latent_indices"]
    ]
    with pytest.raises(ValueError, match=r"clusters \[2\] are in only one"):
        consolidate(metrics, clusters, n_clusters=3, sae_id="")
