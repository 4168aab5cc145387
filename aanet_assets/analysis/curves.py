"""Training curves as JSON lines, one line per cluster and k."""

from pathlib import Path

import pandas as pd

from aanet_assets.files import finite_or_null, write_json_lines

_HISTORIES = ("loss", "recon_loss", "archetypal_loss", "extrema_loss")


def write_curves(curves: pd.DataFrame, path: Path) -> None:
    """Write `cluster_id, aanet_k, metrics_history` per line, by cluster, then k.

    `curves` has `cluster_id`, `aanet_k` and a `<loss>_history` list for each loss; a value that is
    not finite becomes null.
    """
    ordered = curves.sort_values(["cluster_id", "aanet_k"])
    write_json_lines(
        path,
        (
            {
                "cluster_id": row["cluster_id"],
                "aanet_k": row["aanet_k"],
                "metrics_history": {
                    f"aanet_{name}": finite_or_null(row[f"{name}_history"]) for name in _HISTORIES
                },
            }
            for row in ordered.to_dict("records")
        ),
    )
