"""The picture of the toy: true belief simplices beside the simplices that were found."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from aanet_assets.science.activations.targets import Targets
from aanet_assets.science.toy.scores import BarycentricOf, vertex_beliefs
from aanet_assets.storage.files import replacing

DOTS = 6_000  # more hide each other
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])


def write_recovery_plot(
    path: Path,
    heldout: Targets,
    recovery: pd.DataFrame,
    barycentric_of: BarycentricOf,
) -> None:
    """Draw each three-state component: its beliefs above, the AANet's coordinates at k = 3 below.

    Held-out tokens have the same colour in both, the belief as red, green and blue; tokens of other
    components at which the cluster is active too are grey. Vertices are turned so that each lies
    where its best state does. `recovery` is the table of `recovery.recover`.
    """
    triangles = [factor for factor in heldout.factors if factor.true_k == 3]
    figure = Figure(figsize=(4.2 * max(len(triangles), 1), 7.8), layout="constrained")
    figure.dpi = 110
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(2, max(len(triangles), 1), squeeze=False)
    if not triangles:
        _say(axes[0, 0], "no component has three states")
        _say(axes[1, 0], "")
    for column, (name, _, _, known, belief) in enumerate(triangles):
        row = recovery[recovery["component"] == name].iloc[0]
        own = np.flatnonzero(known)[:DOTS]
        _triangle(axes[0, column], f"{name}\ntrue beliefs")
        _dots(axes[0, column], belief[own, :3], belief[own, :3])
        found = None if pd.isna(row["cluster_id"]) else barycentric_of(int(row["cluster_id"]), 3)
        if found is None:
            _say(axes[1, column], f"no AANet with 3 archetypes\nfor {name}")
            continue
        tokens, coordinates = found
        own = known[tokens]
        shown = np.where(own[:, None], belief[tokens, :3], 0.0)
        vertex_of_state = _turn(vertex_beliefs(coordinates, shown))
        turned = coordinates[:, vertex_of_state]
        r2 = row["barycentric_r2"]
        quality = "" if pd.isna(r2) else f", R² to the beliefs {r2:.3f}"
        _triangle(axes[1, column], f"cluster {row['cluster_id']}\nbarycentric coordinates{quality}")
        other = np.flatnonzero(~own)[:DOTS]
        _dots(axes[1, column], turned[other], np.full((len(other), 3), 0.75))
        own = np.flatnonzero(own)[:DOTS]
        _dots(axes[1, column], turned[own], shown[own])
    with replacing(path) as temporary:
        # `savefig` gives the same, and draws everything twice for it.
        canvas.print_png(temporary, metadata={"Software": None})


def _turn(means: Float[np.ndarray, "k states"]) -> Int[np.ndarray, " states"]:
    """The vertex that stands for each state, one to one."""
    return linear_sum_assignment(means.T, maximize=True)[1]


def _triangle(axes: Axes, title: str) -> None:
    """An empty simplex with its states named."""
    outline = CORNERS[[0, 1, 2, 0]]
    axes.plot(outline[:, 0], outline[:, 1], color="0.3", linewidth=1, zorder=1)
    offsets = np.array([[-0.05, -0.05], [0.05, -0.05], [0.0, 0.05]])
    for state, (x, y) in enumerate(CORNERS + offsets, start=1):
        axes.text(x, y, f"state {state}", ha="center", va="center", fontsize=9, color="0.3")
    axes.set_title(title, fontsize=11)
    axes.set_aspect("equal")
    axes.set_xlim(-0.18, 1.18)
    axes.set_ylim(-0.12, 0.97)
    axes.axis("off")


def _dots(
    axes: Axes,
    barycentric: Float[np.ndarray, "tokens k"],
    colours: Float[np.ndarray, "tokens rgb"],
) -> None:
    """Tokens at their barycentric coordinates."""
    x, y = (barycentric @ CORNERS).T
    axes.scatter(x, y, c=np.clip(colours, 0, 1), s=4, linewidths=0, zorder=2)


def _say(axes: Axes, sentence: str) -> None:
    """A sentence in place of a picture."""
    axes.axis("off")
    axes.text(0.5, 0.5, sentence, ha="center", va="center", transform=axes.transAxes)
