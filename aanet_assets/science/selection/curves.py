"""Training curves as JSON lines, one line per cluster and k."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from aanet_assets.storage.files import finite_or_null, write_json_lines

ORIGINAL_NAMES = {
    "loss": "loss",
    "recon_loss": "reconstruction_loss",
    "archetypal_loss": "archetypal_loss",
    "extrema_loss": "extrema_loss",
}
"""The names of the losses in the original pipeline's files, by those in the project's tables."""


def metrics_history(
    histories: Mapping[str, Sequence[float] | Float[np.ndarray, " steps"]],
) -> dict[str, list[float | None]]:
    """Losses of every step under the project's names and the original's.

    `aanet_recon_loss` and `reconstruction_loss`, for example. What is not finite becomes null.
    """
    series = {name: finite_or_null(histories.get(name, ())) for name in ORIGINAL_NAMES}
    return {f"aanet_{name}": values for name, values in series.items()} | {
        ORIGINAL_NAMES[name]: values for name, values in series.items()
    }


def write_curves(curves: pd.DataFrame, path: Path) -> None:
    """Write `cluster_id, aanet_k, metrics_history` per line, by cluster, then k.

    `curves` has `cluster_id`, `aanet_k` and a `<loss>_history` list for each loss.
    """
    ordered = curves.sort_values(["cluster_id", "aanet_k"])
    write_json_lines(
        path,
        (
            {
                "cluster_id": row["cluster_id"],
                "aanet_k": row["aanet_k"],
                "metrics_history": metrics_history(
                    {name: row[f"{name}_history"] for name in ORIGINAL_NAMES}
                ),
            }
            for row in ordered.to_dict("records")
        ),
    )
