"""What the plots share: blank figures, plain sentences where there is nothing to draw, files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aanet_assets.storage.files import replacing

MOST_NAMES = 30
"""Where a plot has more points than this, their names would cover one another."""

BARS, MEAN, MEDIAN, CLIPPED = "#7a9cc6", "#b2182b", "#1a1a1a", "#d9a441"


def blank(
    title: str, panels: int = 1, width: float = 8.0, height: float = 6.0
) -> tuple[Figure, list[Axes]]:
    """A titled figure with panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    figure.suptitle(title, fontsize=14, x=0.02, ha="left")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def sentence(ax: Axes, text: str) -> None:
    """Say in words why there is nothing to draw."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(
        0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, fontsize=13, wrap=True
    )


def note(ax: Axes, text: str) -> None:
    """Small print under the title."""
    ax.set_title(text, fontsize=10, color="0.3", loc="left")


def legend_below(ax: Axes) -> None:
    """A legend under the axes, where it covers nothing."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False, fontsize=10)


def name_points(
    ax: Axes,
    names: Sequence[str],
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    colour: str = "0.25",
) -> None:
    """Write a name beside each point."""
    for name, *at in zip(names, x, y, strict=True):
        ax.annotate(
            name,
            (at[0], at[1]),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
            color=colour,
            zorder=160,
        )


def whole_numbers(ax: Axes, *, x: bool = False, y: bool = False) -> None:
    """Ticks at whole numbers only."""
    for wanted, axis in ((x, ax.xaxis), (y, ax.yaxis)):
        if wanted:
            axis.set_major_locator(MaxNLocator(integer=True))


def mark_mean_and_median(ax: Axes, values: Sequence[float]) -> None:
    """Vertical lines at the mean and the median, their values in the legend."""
    mean, median = float(np.mean(values)), float(np.median(values))
    ax.axvline(mean, color=MEAN, linewidth=2, label=f"mean {mean:.3g}")
    ax.axvline(median, color=MEDIAN, linewidth=2, linestyle="--", label=f"median {median:.3g}")


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG whose bytes depend on the picture alone."""
    figure.dpi = 130
    with replacing(path) as temporary:
        # `savefig` gives the same, and draws everything twice for it.
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
    return path
