"""Plots of the elbow strengths: their distributions, and reconstruction against archetypal."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aanet_assets.analysis.canvas import BARS, blank, legend, mark_mean_and_median, note, sentence
from aanet_assets.analysis.categories import Limits

RECON, ARCH = "aanet_recon_loss_elbow_strength", "aanet_archetypal_loss_elbow_strength"
MOST_MONOTONE = 1 / np.sqrt(2)
LEFT_OUT_PER_AXIS = 2
FEW = 10
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
        legend(ax)
    return figure


def _histogram(ax: Axes, strengths: np.ndarray) -> None:
    width = 0.025 if len(strengths) > 50 else 0.05
    within, beyond = strengths[strengths <= 1], strengths[strengths > 1]
    ax.hist(within, bins=np.arange(0, 1 + width / 2, width).tolist(), color=BARS, edgecolor="white")
    ax.set_xlim(0, 0.8 if strengths.max() < 0.75 else 1.1)
    if len(beyond):
        label = f"above 1: {len(beyond)}, up to {beyond.max():.3g}"
        ax.bar(1.05, len(beyond), width=0.06, color="#d9a441", label=label)


def recon_vs_arch_unzoomed(clusters: pd.DataFrame, n_clusters: int) -> Figure:
    """Strength against strength, all clusters, coloured by k_differential."""
    figure, (ax,) = _strength_axes(f"Elbow strengths of all clusters, n = {n_clusters}")
    known = clusters.dropna(subset=[RECON, ARCH])
    if known.empty:
        sentence(ax, NO_ELBOWS)
        return figure
    note(ax, f"{len(known)} clusters with elbows, {len(clusters) - len(known)} without")
    handles = _scatter(ax, known)
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    return figure


def recon_vs_arch_zoomed(
    clusters: pd.DataFrame,
    categories: dict[int, str | None],
    limits: Limits | None,
    n_clusters: int,
) -> Figure:
    """Strength against strength of the clusters that pass the quality filters.

    `categories` maps these clusters to the category they reach, if any. The two largest strengths
    of each axis are left out and named, unless ten clusters or fewer pass. The axes end where the
    data and the limits of the categories do, at mean + 10 sd of what is shown at most.
    """
    figure, (ax,) = _strength_axes(f"Clusters that pass the quality filters, n = {n_clusters}")
    passed = clusters.loc[list(categories)]
    if passed.empty:
        sentence(ax, f"None of {len(clusters)} clusters passes the quality filters.")
        return figure
    outliers = _outliers(passed) if len(passed) > FEW else []
    shown = passed.drop(index=outliers)
    marks = (
        ((limits.a_recon, limits.b_recon), (limits.a_arch, limits.c_arch)) if limits else ((), ())
    )
    ends = [_end(shown[c], m) for c, m in zip((RECON, ARCH), marks, strict=True)]
    text = f"{len(passed)} of {len(clusters)} clusters pass"
    if beyond := int(((shown[RECON] > ends[0]) | (shown[ARCH] > ends[1])).sum()):
        text += f", {beyond} of them beyond the axes"
    if outliers:
        names = ", ".join(_named(i, categories[i]) for i in outliers)
        text += f"\nleft out, the two largest of each axis: {names}"
    note(ax, text)
    handles = _scatter(ax, shown)
    for cluster_id, recon, arch in zip(shown.index, shown[RECON], shown[ARCH], strict=True):
        if categories[cluster_id]:
            ax.annotate(
                _named(int(cluster_id), categories[cluster_id]),
                (recon, arch),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=8,
                annotation_clip=True,
            )
    if limits:
        handles += _category_lines(ax, limits)
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.set_xlim(_start(shown[RECON]), ends[0])
    ax.set_ylim(_start(shown[ARCH]), ends[1])
    return figure


def _strength_axes(title: str) -> tuple[Figure, list[Axes]]:
    figure, axes = blank(title, width=9)
    axes[0].set_xlabel("elbow strength of the reconstruction loss")
    axes[0].set_ylabel("elbow strength of the archetypal loss")
    return figure, axes


def _scatter(ax: Axes, clusters: pd.DataFrame) -> list[Artist]:
    """Points by k_differential, the smallest on top; legend entries with counts."""
    apart = clusters["k_differential"].astype(int)
    colours = colormaps["plasma"](np.linspace(0.35, 0.95, max(int(apart.max()), 1)))
    entries = []
    for difference in sorted(set(apart)):
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


def _category_lines(ax: Axes, limits: Limits) -> list[Artist]:
    a = {"color": "#2166ac", "linestyle": "--", "linewidth": 1.2}
    d = {"color": "0.55", "linestyle": "-", "linewidth": 0.9}
    ax.axhline(limits.a_arch, **a)
    ax.axhline(limits.d_arch, **d)
    return [
        ax.axvline(limits.a_recon, **a, label="A: beyond both"),
        ax.axvline(limits.d_recon, **d, label="D: beyond both, equal elbows"),
        ax.axvline(limits.b_recon, color="#b2182b", linestyle=":", label="B: right of it"),
        ax.axhline(limits.c_arch, color="#1b7837", linestyle=":", label="C: above it"),
    ]


def _outliers(passed: pd.DataFrame) -> list[int]:
    largest = [passed[c].nlargest(LEFT_OUT_PER_AXIS).index for c in (RECON, ARCH)]
    return sorted({int(i) for i in (*largest[0], *largest[1])})


def _named(cluster_id: int, category: str | None) -> str:
    return f"{cluster_id} {category}" if category else str(cluster_id)


def _start(strengths: pd.Series) -> float:
    return max(0.0, float(strengths.min()) - 0.02)


def _end(strengths: pd.Series, marks: Sequence[float]) -> float:
    end = max([float(strengths.max()), *marks]) + 0.02
    spread = float(strengths.std())
    return min(end, float(strengths.mean()) + 10 * spread) if spread > 0 else end
