"""Small tables and pictures for Dagit's metadata; the full ones are on disk.

Kept small on purpose: all metadata goes into Dagster's event database.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from aanet_assets.science.aanet.data import TrainedAANet

_ROWS = 20
_WIDTH = 420
_CURVES = 12


def table(frame: "pd.DataFrame") -> dg.MetadataValue:
    """The first rows of a table as markdown, so that it reads well in Dagit."""

    def cell(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")

    shown = frame.head(_ROWS)
    lines = ["| " + " | ".join(shown.columns) + " |", "|" + "---|" * len(shown.columns)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in shown.itertuples(index=False)]
    if len(frame) > _ROWS:
        lines.append(f"\n{len(frame) - _ROWS} more rows in SQL.")
    return dg.MetadataValue.md("\n".join(lines))


def thumbnail(png: Path) -> dg.MetadataValue:
    """A picture on disk, scaled down to a few kilobytes."""
    from PIL import Image

    with Image.open(png) as image:
        small = image.convert("RGB")
        small.thumbnail((_WIDTH, _WIDTH))
        return _embed(small.quantize(64), png.name)


def losses(models: Sequence["TrainedAANet"]) -> dg.MetadataValue:
    """Total loss over steps of the first clusters of a stack."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    for model in models[:_CURVES]:
        if "loss" in model.history:
            axes.plot(model.history["loss"], linewidth=0.7, label=f"{model.cluster_id}")
    axes.set(xlabel="step", ylabel="total loss", yscale="log")
    return _figure(figure, "total loss over steps")


def elbow_curves(metrics: "pd.DataFrame") -> dg.MetadataValue:
    """Reconstruction loss against k of the clusters with the strongest elbows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    falling = metrics[metrics["recon_elbow_is_falling"].fillna(False)]
    strongest = falling.drop_duplicates("cluster_id").nlargest(
        _CURVES, "aanet_recon_loss_elbow_strength"
    )
    for cluster_id in strongest["cluster_id"]:
        curve = metrics[metrics["cluster_id"] == cluster_id]
        loss = curve["aanet_recon_loss"].astype(float)
        axes.plot(curve["aanet_k"], loss / loss.max(), marker=".", label=f"{cluster_id}")
    ks = sorted(metrics["aanet_k"].unique())
    axes.set(xlabel="k", ylabel="reconstruction loss (largest = 1)", xticks=ks)
    if len(strongest):
        axes.legend(title="cluster", fontsize=6, title_fontsize=7, ncols=2)
    return _figure(figure, "elbow curves")


def _figure(figure: "Figure", name: str) -> dg.MetadataValue:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    # `savefig` would draw twice, and write a file that is only read again.
    canvas = FigureCanvasAgg(figure)
    figure.dpi = 90
    canvas.draw()
    pixels = Image.frombytes("RGBA", canvas.get_width_height(), canvas.buffer_rgba().tobytes())
    return _embed(pixels.convert("RGB").quantize(64), name)


def _embed(image, name: str) -> dg.MetadataValue:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{encoded})")
