"""The hidden chains of a clustering: transitions between vertices, beside the truth on toys."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aanet_assets.review.canvas import save, sentence

MOST = 12
"""Clusters that are drawn, at most: those whose chains stay active longest."""


def write_chain_plot(path: Path, chains: pd.DataFrame, n: int) -> None:
    """Draw a matrix of transition probabilities per cluster; below it the true one, if known.

    Args:
        chains: the table `belief_chains` of one n_clusters.
    """
    stays = chains.groupby("cluster_id")["stays"].mean()
    ranked = stays.sort_values(ascending=False, kind="stable").index[:MOST]
    names = ["probability", "true_probability"][: 1 + chains["true_probability"].notna().any()]
    columns = max(len(ranked), 1)
    figure = Figure(figsize=(2.2 * columns + 1, 2.4 * len(names) + 0.8), layout="constrained")
    axes = np.asarray(figure.subplots(len(names), columns, squeeze=False))
    for axis in axes.ravel():
        axis.set_axis_off()
    if ranked.empty:
        sentence(axes[0, 0], "no cluster has a chain")
    for column, cluster_id in enumerate(sorted(ranked)):
        own = chains[chains["cluster_id"] == cluster_id]
        for axis, name in zip(axes[:, column], names, strict=True):
            values = own.pivot(index="from_vertex", columns="to_vertex", values=name)
            if values.notna().all(axis=None):
                title = f"cluster {cluster_id}" if name == "probability" else "truth"
                _matrix(axis, values.to_numpy(np.float64), title)
    figure.suptitle(f"Hidden chains, from row to column (n_clusters {n})", x=0.02, ha="left")
    save(figure, path)


def _matrix(axis: Axes, values: Float[np.ndarray, "k k"], title: str) -> None:
    axis.set_axis_on()
    axis.imshow(values, vmin=0, vmax=1, cmap="Blues")
    axis.set_title(title, fontsize=9)
    axis.set_xticks(range(len(values)))
    axis.set_yticks(range(len(values)))
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if value > 0.5 else "black"
        axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
