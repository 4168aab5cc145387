"""Trained AANets as rows of tables."""

from collections.abc import Sequence

import pandas as pd

from aanet_assets.science.aanet.data import LOSSES, TrainedAANet

_HELDOUT = ("loss", "recon_loss", "archetypal_loss", "explained_variance", "in_simplex")


def curve_rows(n: int, k: int, models: Sequence[TrainedAANet]) -> pd.DataFrame:
    """The losses of every step, a row per cluster, of the AANets of one n_clusters and k."""
    return pd.DataFrame(
        {
            "n_clusters_total": n,
            "cluster_id": model.cluster_id,
            "aanet_k": k,
            **{f"{name}_history": model.history.get(name, []) for name in LOSSES},
        }
        for model in models
    )


def metric_rows(n: int, k: int, models: Sequence[TrainedAANet]) -> pd.DataFrame:
    """Status and losses, a row per cluster, of the AANets of one n_clusters and k."""
    rows = []
    for model in models:
        losses, heldout = model.losses or {}, model.heldout or {}
        rows.append(
            {
                "n_clusters_total": n,
                "cluster_id": model.cluster_id,
                "aanet_k": k,
                "aanet_status": model.status,
                "aanet_reason": model.reason,
                **{f"aanet_{name}": losses.get(name) for name in LOSSES},
                "n_rows": model.n_rows,
                "steps": model.steps,
                **{f"heldout_{name}": heldout.get(name) for name in _HELDOUT},
                "aanet_start": model.start,
            }
        )
    return pd.DataFrame(rows)
