"""The funnel of a selection as a picture: what each filter leaves, and what it turns away."""

from itertools import pairwise

import pandas as pd
from matplotlib.figure import Figure

from aanet_assets.review.canvas import BARS, blank, note


def selection_funnel(funnels: pd.DataFrame, used: str, n_clusters: int) -> Figure:
    """One panel per mode; `funnels` has the columns of `FUNNEL` and `mode`."""
    modes = list(dict.fromkeys(funnels["mode"]))
    title = f"What each filter turned away, n = {n_clusters} clusters"
    figure, panels = blank(title, len(modes), width=7.5 * len(modes), height=5.0)
    for ax, mode in zip(panels, modes, strict=True):
        steps = funnels[funnels["mode"] == mode].to_dict("records")
        names = ["all clusters", *(step["filter"] for step in steps)]
        left = [n_clusters, *(int(step["remaining"]) for step in steps)]
        places = range(len(names))
        ax.barh(places, left, color=BARS)
        gone = [before - after for before, after in pairwise(left)]
        ax.barh(list(places)[1:], gone, left=left[1:], color="0.85")
        for place, (count, step) in enumerate(zip(left, [None, *steps], strict=True)):
            turned = f", {step['failed_here']} fail it" if step else ""
            ax.text(n_clusters * 1.02, place, f"{count} left{turned}", va="center", fontsize=9)
        ax.set_yticks(list(places), names, fontsize=9)
        ax.set_xlim(0, n_clusters * 1.35)
        ax.invert_yaxis()
        ax.set_xlabel("clusters (grey: turned away here)")
        note(ax, f"{mode} mode{', the one in use' if mode == used else ''}")
    return figure
