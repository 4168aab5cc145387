"""A picture of two selections of the same clusters."""

from matplotlib.figure import Figure

from aanet_assets.review.canvas import BARS, blank, note, sentence, whole_numbers
from aanet_assets.science.selection.reproducibility import Agreement


def reproducibility_plot(found: list[Agreement], n_clusters: int) -> Figure:
    """A panel per mode."""
    title = f"The same selection made twice, n = {n_clusters} clusters"
    figure, panels = blank(title, len(found), width=5.5 * len(found), height=4.5)
    for ax, own in zip(panels, found, strict=True):
        if own.jaccard is None:
            sentence(ax, "neither selection has a cluster")
            note(ax, f"{own.mode} mode")
            continue
        bars = (own.only_first, own.both, own.only_second)
        ax.bar(["only the first", "both", "only the second"], bars, color=["0.75", BARS, "0.75"])
        ax.set_ylabel("clusters selected")
        whole_numbers(ax, y=True)
        note(
            ax,
            f"{own.mode} mode: Jaccard index {own.jaccard:.2f}; {own.same_k} of {own.both} in both "
            "have the same k",
        )
    return figure
