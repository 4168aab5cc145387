"""The guide's table: one row per cluster and k, everything about them, and its CSV file."""

import json
from pathlib import Path

import pandas as pd

from aanet_assets.science.selection.elbows import FALLING_COLUMNS, elbow_columns
from aanet_assets.storage.files import replacing

CSV_COLUMNS: tuple[str, ...] = (
    "n_clusters_total",
    "cluster_id",
    "n_latents",
    "latent_indices",
    "aanet_k",
    "aanet_status",
    "aanet_loss",
    "aanet_recon_loss",
    "aanet_archetypal_loss",
    "aanet_extrema_loss",
    "sae_id",
    "average_l0",
    "cluster_recon_error",
    "decoder_dir_rank",
    "activation_pca_rank",
    "aanet_recon_loss_elbow_k",
    "aanet_recon_loss_elbow_strength",
    "recon_pct_decrease",
    "recon_is_monotonic",
    "aanet_archetypal_loss_elbow_k",
    "aanet_archetypal_loss_elbow_strength",
    "arch_pct_decrease",
    "arch_is_monotonic",
    "k_differential",
)
"""The columns that come first, in this order."""

CLUSTER_COLUMNS = (
    "n_latents",
    "latent_indices",
    "cluster_recon_error",
    "decoder_dir_rank",
    "activation_pca_rank",
    "average_l0",
)
"""What the table takes from the clusters."""

WHOLE_NUMBERS = (
    "n_clusters_total",
    "cluster_id",
    "n_latents",
    "aanet_k",
    "decoder_dir_rank",
    "activation_pca_rank",
    "aanet_recon_loss_elbow_k",
    "aanet_archetypal_loss_elbow_k",
    "k_differential",
    "n_rows",
    "steps",
)
TEXTS = ("aanet_status", "aanet_reason", "aanet_start", "sae_id")
TYPES = {
    **dict.fromkeys(WHOLE_NUMBERS, "Int64"),
    **dict.fromkeys(("recon_is_monotonic", "arch_is_monotonic", *FALLING_COLUMNS), "boolean"),
    **dict.fromkeys(TEXTS, "string"),
    "latent_indices": "object",
}
"""Types of columns; every other column is float64."""


def consolidate(
    metrics: pd.DataFrame,
    clusters: pd.DataFrame,
    *,
    n_clusters: int,
    sae_id: str,
) -> pd.DataFrame:
    """Join the metrics of all ks with their clusters and the elbows.

    Args:
        metrics: one row per (cluster_id, aanet_k): status, reason, losses, counts of one n.
        clusters: one row per cluster_id with `CLUSTER_COLUMNS`; latent_indices holds lists,
            average_l0 the measured mean number of active latents per token.
        n_clusters: the number of clusters that was asked for.
        sae_id: name of the SAE.

    Returns:
        One row per (cluster_id, aanet_k), in that order: `CSV_COLUMNS`, `FALLING_COLUMNS`, then
        the further columns of `metrics`, which must be numbers but for the two texts `aanet_reason`
        and `aanet_start`. Types are those of `TYPES`; a text is never null but empty.

    Raises:
        ValueError: the two tables do not hold the same clusters, or a row occurs twice.
    """
    if clusters["cluster_id"].duplicated().any():
        raise ValueError("a cluster_id occurs twice in the table of clusters; it must be unique")
    apart = set(metrics["cluster_id"]) ^ set(clusters["cluster_id"])
    if apart:
        raise ValueError(
            f"clusters {sorted(map(int, apart))[:10]} are in only one of metrics and clusters; "
            "both must hold the same clusters: materialise the metrics again for this clustering"
        )
    table = metrics.merge(clusters[["cluster_id", *CLUSTER_COLUMNS]], on="cluster_id")
    table = table.merge(elbow_columns(metrics), on="cluster_id")
    table = table.assign(n_clusters_total=n_clusters, sae_id=sae_id)
    further = [c for c in metrics.columns if c not in CSV_COLUMNS]
    table = table.sort_values(["cluster_id", "aanet_k"]).reset_index(drop=True)
    return _typed(table.loc[:, [*CSV_COLUMNS, *FALLING_COLUMNS, *further]])


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a consolidated table; `latent_indices` as a bracketed list, nulls as empty fields."""
    lists = [json.dumps([int(i) for i in indices]) for indices in table["latent_indices"]]
    with replacing(path) as temporary:
        table.assign(latent_indices=lists).to_csv(temporary, index=False, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Read what `write_csv` wrote, with the same columns and types.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column of the guide is missing.
    """
    columns = pd.read_csv(path, nrows=0).columns
    missing = [c for c in CSV_COLUMNS if c not in columns]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]} ({len(missing)} of the {len(CSV_COLUMNS)} "
            "columns are missing); it must be a consolidated_metrics CSV"
        )
    table = pd.read_csv(
        path,
        dtype={c: TYPES.get(c, "float64") for c in columns if c != "latent_indices"},
        converters={"latent_indices": json.loads},
        # A reason that spells NA is a text.
        keep_default_na=False,
        na_values={c: [""] for c in columns if c not in (*TEXTS, "latent_indices")},
    )
    return _typed(table)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    typed = table.astype({c: TYPES.get(c, "float64") for c in table.columns})
    return typed.fillna({c: "" for c in TEXTS if c in typed})
