"""Plots of the ranks of clusters: geometric rank against PCA rank, and how it is distributed."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from aanet_assets.review.canvas import (
    BARS,
    MOST_NAMES,
    blank,
    legend_below,
    mark_mean_and_median,
    name_points,
    note,
    sentence,
    whole_numbers,
)

JITTER = 0.3
MOST_BARS = 60


def pca_vs_geometric_rank(clusters: pd.DataFrame, n_clusters: int) -> Figure:
    """Scatter of the two ranks, coloured by the number of latents, with the diagonal."""
    figure, (ax,) = blank(f"PCA rank against geometric rank, n = {n_clusters} clusters")
    ax.set_xlabel("geometric rank (of the decoder rows)")
    ax.set_ylabel("PCA rank (of the activations, 95% of variance)")
    known = clusters.dropna(subset=["decoder_dir_rank", "activation_pca_rank"])
    if known.empty:
        sentence(ax, "No cluster has both ranks.")
        return figure
    x = known["decoder_dir_rank"].to_numpy(float)
    y = known["activation_pca_rank"].to_numpy(float)
    above, below = int((y > x).sum()), int((y < x).sum())
    note(
        ax,
        f"PCA rank larger in {above} clusters, equal in {len(known) - above - below}, smaller in "
        f"{below} (points scattered by up to {JITTER})",
    )
    jitter = np.random.default_rng(0).uniform(-JITTER, JITTER, (2, len(known)))
    at = x + jitter[0], y + jitter[1]
    # A cluster without latents takes the colour of one.
    sizes = known["n_latents"].to_numpy(float).clip(min=1)
    points = ax.scatter(
        *at,
        c=sizes,
        norm=LogNorm(1, max(sizes.max(), 2)),
        cmap="viridis_r",
        s=30,
        alpha=0.85,
        edgecolors="white",
        linewidths=0.4,
    )
    if len(known) <= MOST_NAMES:
        name_points(ax, [str(i) for i in known.index], *at)
    bar = figure.colorbar(points, ax=ax, label="latents in the cluster")
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 20000) if t <= sizes.max()]
    bar.set_ticks(ticks, labels=[str(t) for t in ticks])
    bar.minorticks_off()
    end = max(x.max(), y.max()) + 1
    ax.plot([0, end], [0, end], color="0.4", linestyle="--", linewidth=1, label="equal ranks")
    ax.set_xlim(-0.6, x.max() + 1)
    ax.set_ylim(-0.6, y.max() * 1.03 + 1)
    whole_numbers(ax, x=True, y=True)
    figure.legend(loc="outside upper right", frameon=False)
    return figure


def decoder_rank_dist(clusters: pd.DataFrame, n_clusters: int) -> Figure:
    """Histogram of the geometric rank, with mean and median."""
    figure, (ax,) = blank(f"Geometric rank of the clusters, n = {n_clusters}", height=5)
    ax.set_xlabel("geometric rank (of the decoder rows)")
    ax.set_ylabel("clusters")
    ranks = clusters["decoder_dir_rank"].dropna().to_numpy(float)
    if len(ranks) == 0:
        sentence(ax, "No cluster has a geometric rank.")
        return figure
    step = int(np.ceil((ranks.max() - ranks.min() + 1) / MOST_BARS))
    edges = np.arange(ranks.min() - 0.5, ranks.max() + 0.5 + step, step)
    heights, _ = np.histogram(ranks, bins=edges)
    bars = ax.bar(edges[:-1], heights, width=step, align="edge", color=BARS, edgecolor="white")
    if len(edges) <= 26:
        counts = [str(height or "") for height in heights]
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        ax.bar_label(bars, labels=counts, fontsize=9, padding=2, zorder=5, bbox=behind)
    mark_mean_and_median(ax, ranks.tolist())
    ax.set_xlim(ranks.min() - 1, ranks.max() + 1)
    note(ax, f"{len(ranks)} clusters, ranks {ranks.min():.0f} to {ranks.max():.0f}")
    whole_numbers(ax, x=True, y=True)
    legend_below(ax)
    return figure
