"""Plots of the elbow strengths of all clusters: distributions, and one against the other."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from aanet_assets.analysis.canvas import (
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

RECON, ARCH = "aanet_recon_loss_elbow_strength", "aanet_archetypal_loss_elbow_strength"
MOST_MONOTONE = 1 / np.sqrt(2)
NO_ELBOWS = "No cluster has elbow metrics:\naanet_status in the table says why."


def elbow_strength_dists(clusters: pd.DataFrame, n_clusters: int) -> Figure:
    """Histograms of the two strengths, with mean and median; all strengths above 1 in one bar."""
    figure, axes = blank(
        f"Elbow strengths of the clusters, n = {n_clusters}", panels=2, width=12, height=5
    )
    for ax, column, loss in zip(axes, (RECON, ARCH), ("reconstruction", "archetypal"), strict=True):
        strengths = clusters[column].dropna().to_numpy(float)
        ax.set_xlabel(f"elbow strength of the {loss} loss")
        ax.set_ylabel("clusters")
        if len(strengths) == 0:
            sentence(ax, NO_ELBOWS)
            continue
        note(
            ax, f"{len(strengths)} clusters with an elbow, {len(clusters) - len(strengths)} without"
        )
        _histogram(ax, strengths)
        mark_mean_and_median(ax, strengths.tolist())
        ax.axvline(
            MOST_MONOTONE,
            color="0.5",
            linestyle=":",
            label="0.707: largest of a loss that never rises",
        )
        legend_below(ax)
        whole_numbers(ax, y=True)
    return figure


def _histogram(ax: Axes, strengths: np.ndarray) -> None:
    width = 0.025 if len(strengths) > 50 else 0.05
    within, beyond = strengths[strengths <= 1], strengths[strengths > 1]
    ax.hist(within, bins=np.arange(0, 1 + width / 2, width).tolist(), color=BARS, edgecolor="white")
    ax.set_xlim(0, 0.8 if strengths.max() < 0.75 else 1.1)
    if len(beyond):
        label = f"above 1: {len(beyond)} clusters, up to {beyond.max():.3g}"
        ax.bar(1.05, len(beyond), width=0.06, color="#d9a441", label=label)


def recon_vs_arch_unzoomed(clusters: pd.DataFrame, n_clusters: int) -> Figure:
    """Strength against strength, all clusters, coloured by k_differential."""
    figure, (ax,) = strength_axes(f"Elbow strengths of all clusters, n = {n_clusters}")
    known = clusters.dropna(subset=[RECON, ARCH])
    if known.empty:
        sentence(ax, NO_ELBOWS)
        return figure
    note(ax, f"{len(known)} clusters with elbows, {len(clusters) - len(known)} without")
    handles = scatter(ax, known)
    if len(known) <= MOST_NAMES:
        name_points(
            ax, [str(i) for i in known.index], known[RECON].to_numpy(), known[ARCH].to_numpy()
        )
    reach = Rectangle(
        (0, 0),
        MOST_MONOTONE,
        MOST_MONOTONE,
        facecolor="none",
        edgecolor="0.5",
        linestyle=":",
        label="reach of losses that never rise",
    )
    ax.add_patch(reach)
    ax.legend(handles=[*handles, reach], loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    return figure


def strength_axes(title: str) -> tuple[Figure, list[Axes]]:
    """A figure for reconstruction strength against archetypal strength."""
    figure, axes = blank(title, width=9)
    axes[0].set_xlabel("elbow strength of the reconstruction loss")
    axes[0].set_ylabel("elbow strength of the archetypal loss")
    return figure, axes


def scatter(ax: Axes, clusters: pd.DataFrame) -> list[Artist]:
    """Points coloured by k_differential, 0 in black and on top; legend entries with counts."""
    apart = clusters["k_differential"].to_numpy(int)
    colours = colormaps["plasma"](np.linspace(0.35, 0.95, max(int(apart.max()), 1)))
    entries = []
    for difference in np.unique(apart):
        part = clusters[apart == difference]
        entries.append(
            ax.scatter(
                part[RECON],
                part[ARCH],
                color="black" if difference == 0 else colours[difference - 1],
                s=26,
                alpha=0.85,
                edgecolors="white",
                linewidths=0.3,
                zorder=100 - difference,
                label=f"k_differential {difference} ({len(part)})",
            )
        )
    return entries
