"""The funnel's picture says the numbers of the funnel."""

import pandas as pd

from aanet_assets.review.funnel_plot import selection_funnel


def test_every_step_has_a_bar_of_what_it_leaves_and_says_how_many_fail() -> None:
    steps = [("elbow", "few", 2, 5), ("elbow", "far", 4, 3), ("geometric", "fits", 6, 1)]
    funnels = pd.DataFrame(steps, columns=["mode", "filter", "failed_here", "remaining"])
    figure = selection_funnel(funnels, "geometric", 7)
    elbow, geometric = figure.axes
    widths = [bar.get_width() for bar in elbow.containers[0]]  # pyright: ignore
    gone = [bar.get_width() for bar in elbow.containers[1]]  # pyright: ignore
    assert (widths, gone) == ([7, 5, 3], [2, 2])
    texts = [text.get_text() for text in elbow.texts]
    assert texts == ["7 left", "5 left, 2 fail it", "3 left, 4 fail it"]
    assert geometric.get_title(loc="left") == "geometric mode, the one in use"
