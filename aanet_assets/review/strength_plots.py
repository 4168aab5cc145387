"""Plots of the elbow strengths of all clusters: distributions, and one against the other."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from aanet_assets.review.canvas import (
    BARS,
    CLIPPED,
    MOST_NAMES,
    blank,
    legend_below,
    mark_mean_and_median,
    name_points,
    note,
    sentence,
    whole_numbers,
)
from aanet_assets.science.selection.rules import STRONGEST_FALL

RECON, ARCH = "aanet_recon_loss_elbow_strength", "aanet_archetypal_loss_elbow_strength"
NO_ELBOWS = "No cluster has elbow metrics:\naanet_status in the table says why."
EDGE = 0.76
"""Where strengths that no falling loss has are drawn: they would flatten all others."""
AXIS_END = 0.78


def elbow_strength_dists(clusters: pd.DataFrame, n_clusters: int) -> Figure:
    """Histograms of the two strengths, with mean and median.

    Strengths that no falling loss has are in one bar at the edge, and in neither of the two.
    """
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
        falling = strengths[strengths <= STRONGEST_FALL]
        text = f"{len(strengths)} clusters with an elbow, {len(clusters) - len(strengths)} without"
        if len(falling) < len(strengths):
            text += f"; {_clipped(strengths)},\n"
            text += "left out of mean and median: no falling loss is so strong"
        note(ax, text)
        _histogram(ax, strengths)
        if len(falling):
            mark_mean_and_median(ax, falling.tolist())
        ax.axvline(
            STRONGEST_FALL,
            color="0.5",
            linestyle=":",
            label="0.707: largest of a loss that never rises",
        )
        legend_below(ax)
        whole_numbers(ax, y=True)
    return figure


def _clipped(strengths: np.ndarray) -> str:
    """In words, how many clusters have strengths that no falling loss has."""
    beyond = (strengths > STRONGEST_FALL).reshape(len(strengths), -1).any(axis=1).sum()
    return f"{beyond} clipped at 0.707 (up to {strengths.max():.3g})"


def _histogram(ax: Axes, strengths: np.ndarray) -> None:
    width = 0.025 if len(strengths) > 50 else 0.05
    falling = strengths[strengths <= STRONGEST_FALL]
    beyond = len(strengths) - len(falling)
    ax.hist(
        falling, bins=np.arange(0, 1 + width / 2, width).tolist(), color=BARS, edgecolor="white"
    )
    ax.set_xlim(0, 0.8)
    if beyond:
        ax.bar(EDGE + 0.01, beyond, width=0.03, color=CLIPPED, label=_clipped(strengths))


def recon_vs_arch_unzoomed(clusters: pd.DataFrame, n_clusters: int) -> Figure:
    """Strength against strength, all clusters, coloured by k_differential.

    Strengths that no falling loss has are drawn at the edge.
    """
    figure, (ax,) = strength_axes(f"Elbow strengths of all clusters, n = {n_clusters}")
    known = clusters.dropna(subset=[RECON, ARCH])
    if known.empty:
        sentence(ax, NO_ELBOWS)
        return figure
    note(ax, f"{len(known)} clusters with elbows, {len(clusters) - len(known)} without")
    handles = scatter(ax, known)
    if len(known) <= MOST_NAMES:
        at = to_the_edge(known)
        name_points(ax, [str(i) for i in known.index], at[RECON].to_numpy(), at[ARCH].to_numpy())
    reach = Rectangle(
        (0, 0),
        STRONGEST_FALL,
        STRONGEST_FALL,
        facecolor="none",
        edgecolor="0.5",
        linestyle=":",
        label="reach of losses that never rise",
    )
    ax.add_patch(reach)
    ax.legend(handles=[*handles, reach], loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    beyond = (known[[RECON, ARCH]] > STRONGEST_FALL).any()
    ax.set_xlim(0, AXIS_END if beyond[RECON] else None)
    ax.set_ylim(0, AXIS_END if beyond[ARCH] else None)
    return figure


def to_the_edge(clusters: pd.DataFrame) -> pd.DataFrame:
    """The clusters with each strength where it is drawn."""
    strengths = clusters[[RECON, ARCH]].astype(float)
    drawn = strengths.mask(strengths > STRONGEST_FALL, EDGE)
    return clusters.assign(**{RECON: drawn[RECON], ARCH: drawn[ARCH]})


def strength_axes(title: str) -> tuple[Figure, list[Axes]]:
    """A figure for reconstruction strength against archetypal strength."""
    figure, axes = blank(title, width=9)
    axes[0].set_xlabel("elbow strength of the reconstruction loss")
    axes[0].set_ylabel("elbow strength of the archetypal loss")
    return figure, axes


def scatter(ax: Axes, clusters: pd.DataFrame) -> list[Artist]:
    """Points coloured by k_differential, 0 in black and on top; legend entries with counts.

    Those at the edge are ringed, with an entry that says how many are clipped.
    """
    beyond = clusters[(clusters[[RECON, ARCH]] > STRONGEST_FALL).any(axis=1)]
    clusters = to_the_edge(clusters)
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
    if len(beyond):
        ringed = ax.scatter(
            clusters.loc[beyond.index, RECON],
            clusters.loc[beyond.index, ARCH],
            s=60,
            marker="s",
            facecolors="none",
            edgecolors=CLIPPED,
            zorder=140,
            label=_clipped(beyond[[RECON, ARCH]].to_numpy(float)),
        )
        entries.append(ringed)
    return entries
