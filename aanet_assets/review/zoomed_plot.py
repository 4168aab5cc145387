"""The plot that selection is judged by: clusters that pass the filters, limits and categories."""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aanet_assets.review.canvas import MOST_NAMES, name_points, note, sentence
from aanet_assets.review.strength_plots import (
    ARCH,
    AXIS_END,
    RECON,
    scatter,
    strength_axes,
    to_the_edge,
)
from aanet_assets.science.selection.categories import Limits, limit_name
from aanet_assets.science.selection.rules import ELBOW, MODES, STRONGEST_FALL, Category
from aanet_assets.science.selection.wording import said

LEFT_OUT_PER_AXIS = 2
FEW = 10
COLOURS = {"A": "#2166ac", "B": "#b2182b", "C": "#1b7837", "D": "#e08214"}
STYLES = {"A": {"linestyle": "--"}, "D": {"linewidth": 1}}
"""Of the lines at the limits of categories; others are dotted."""
WHERE: dict[tuple[str, ...], str] = {("recon",): "right of the line", ("arch",): "above the line"}
"""Where the clusters of a category lie, by the strengths that it tests."""


def recon_vs_arch_zoomed(
    clusters: pd.DataFrame,
    categories: dict[int, str | None],
    limits: Limits,
    n_clusters: int,
) -> Figure:
    """Strength against strength of the clusters that pass the quality filters.

    `categories` maps these clusters to the category they reach, if any: ringed in its colour and
    named by their id (D, and those in no category, only where few clusters pass). The two largest
    strengths of each axis are left out and listed, unless ten clusters or fewer pass. The axes end
    where the data and the limits of the categories do, at mean + 10 sd of what is shown at most,
    and where no falling loss can lie: what is stronger is drawn at that edge.
    """
    figure, (ax,) = strength_axes(f"Clusters that pass the quality filters, n = {n_clusters}")
    passed = clusters.loc[list(categories)]
    if passed.empty:
        sentence(ax, f"None of {len(clusters)} clusters passes the quality filters.")
        return figure
    outliers = _outliers(passed) if len(passed) > FEW else []
    shown = passed.drop(index=outliers)
    recon_end = _end(shown[RECON].to_numpy(float), limits, "recon")
    arch_end = _end(shown[ARCH].to_numpy(float), limits, "arch")
    drawn = to_the_edge(shown)
    recon, arch = drawn[RECON].to_numpy(float), drawn[ARCH].to_numpy(float)
    ax.set_xlim(max(0, recon.min() - 0.02), recon_end)
    ax.set_ylim(max(0, arch.min() - 0.02), arch_end)

    text = f"{len(passed)} of {len(clusters)} clusters pass"
    beyond = int(((recon > recon_end) | (arch > arch_end)).sum())
    if beyond:
        text += f", {beyond} of them beyond the axes"
    if limits["n_passing"] < 2:
        text += ": too few for categories, which need a standard deviation"
    if outliers:
        names = ", ".join(f"{i} ({categories[i]})" if categories[i] else str(i) for i in outliers)
        text += f"\nleft out, the two largest of each axis: {names}"
    note(ax, text)

    handles = scatter(ax, shown)
    if limits["n_passing"] >= 2:
        handles += _limit_lines(ax, limits, list(categories.values()))
    _ring_and_name(ax, drawn, categories)
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def _ring_and_name(ax: Axes, shown: pd.DataFrame, categories: dict[int, str | None]) -> None:
    for category in (None, *COLOURS):
        part = shown[[categories[i] == category for i in shown.index]]
        recon, arch = part[RECON].to_numpy(float), part[ARCH].to_numpy(float)
        colour = COLOURS[category] if category else "0.25"
        if category:
            ax.scatter(recon, arch, s=64, facecolors="none", edgecolors=colour, zorder=150)
        if category in ("A", "B", "C") or len(shown) <= MOST_NAMES:
            name_points(ax, [str(i) for i in part.index], recon, arch, colour)


def _limit_lines(ax: Axes, limits: Limits, reached: list[str | None]) -> list[Artist]:
    def line(category: Category, strength: str) -> Line2D:
        draw = ax.axvline if strength == "recon" else ax.axhline
        style = STYLES.get(category.name, {"linestyle": ":"})
        return draw(limits[limit_name(category, strength)], color=COLOURS[category.name], **style)

    categories = MODES[ELBOW].categories
    for category in categories:
        for strength, _ in category.tests[1:]:
            line(category, strength)
    handles = []
    for category in categories:
        tested = tuple(strength for strength, _ in category.tests)
        both = f"beyond both{', equal elbows' if category.equal_elbows else ' lines'}"
        label = f"{category.name} ({reached.count(category.name)}): {WHERE.get(tested, both)}"
        at = [limits[limit_name(category, strength)] for strength in tested]
        # Out of reach of the axes, a line would be missed.
        if max(at) > AXIS_END:
            label += f", at {' and '.join(map(said, at))}"
        handles.append(line(category, tested[0]))
        handles[-1].set_label(label)
    return handles


def _outliers(passed: pd.DataFrame) -> list[int]:
    largest = [
        passed[c].sort_values(kind="stable").index[-LEFT_OUT_PER_AXIS:] for c in (RECON, ARCH)
    ]
    return sorted({int(i) for i in (*largest[0], *largest[1])})


def _end(strengths: np.ndarray, limits: Limits, name: str) -> float:
    """Where an axis ends; limits may be NaN, where there are none."""
    if strengths.max() > STRONGEST_FALL:
        return AXIS_END
    at = [
        limits[limit_name(category, name)]
        for category in MODES[ELBOW].categories
        if name in dict(category.tests) and not category.equal_elbows
    ]
    end = float(np.nanmax([strengths.max(), *at])) + 0.02
    # A single cluster has no spread, and equal strengths have none to zoom to.
    spread = float(strengths.std(ddof=1)) if len(strengths) > 1 else 0.0
    end = min(end, float(strengths.mean()) + 10 * spread) if spread > 0 else end
    return min(end, AXIS_END)
