"""Training curves as JSON lines, one line per cluster and k."""

import json
import math
from pathlib import Path

import pandas as pd

from aanet_assets.files import write_text

_HISTORIES = ("loss", "recon_loss", "archetypal_loss", "extrema_loss")


def write_curves(curves: pd.DataFrame, path: Path) -> None:
    """Write `cluster_id, aanet_k, metrics_history` per line, by cluster, then k.

    `curves` has `cluster_id`, `aanet_k` and a `<loss>_history` list for each loss; a value that is
    not finite becomes null.
    """
    lines = []
    for row in curves.sort_values(["cluster_id", "aanet_k"]).to_dict("records"):
        history = {f"aanet_{name}": _finite(row[f"{name}_history"]) for name in _HISTORIES}
        line = {"cluster_id": row["cluster_id"], "aanet_k": row["aanet_k"]}
        lines.append(json.dumps({**line, "metrics_history": history}, allow_nan=False))
    write_text(path, "".join(f"{line}\n" for line in lines))


def _finite(values: list[float]) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]
