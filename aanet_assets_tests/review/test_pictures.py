"""The pictures of hidden chains and of a selection made twice show the numbers they are given."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from aanet_assets.review import chain_plot
from aanet_assets.review.chain_plot import MOST, write_chain_plot
from aanet_assets.review.reproducibility_plot import reproducibility_plot
from aanet_assets.science.selection.reproducibility import Agreement


def chains_of(stays: list[float], truth: float | None = None) -> pd.DataFrame:
    """Chains of two vertices; each cluster stays where it is with its own probability."""
    rows = [
        {"cluster_id": i, "from_vertex": a, "to_vertex": b, "stays": stay,
         "probability": stay if a == b else 1 - stay,
         "true_probability": truth if a == b or truth is None else 1 - truth}
        for i, stay in enumerate(stays) for a in (0, 1) for b in (0, 1)
    ]  # fmt: skip
    columns = ["cluster_id", "from_vertex", "to_vertex", "stays", "probability", "true_probability"]
    return pd.DataFrame(rows, columns=columns).astype({"true_probability": float})


def drawn(chains: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure, which is not written."""
    figures: list[Figure] = []
    monkeypatch.setattr(chain_plot, "save", lambda figure, path: figures.append(figure))
    write_chain_plot(Path("chains.png"), chains, 20)
    (figure,) = figures
    return figure


def matrices(figure: Figure) -> dict[str, np.ndarray]:
    """What stands in the cells, by title."""
    return {
        axes.get_title(): np.array([float(text.get_text()) for text in axes.texts]).reshape(2, 2)
        for axes in figure.axes
        if axes.images
    }


def test_the_chains_that_stay_longest_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    stays = [0.5 + 0.02 * (i * 7 % 15) for i in range(MOST + 3)]
    found = matrices(drawn(chains_of(stays), monkeypatch))
    longest = sorted(np.argsort(stays)[-MOST:])
    assert list(found) == [f"cluster {i}" for i in longest]
    for i in longest:
        expected = [[stays[i], 1 - stays[i]], [1 - stays[i], stays[i]]]
        np.testing.assert_allclose(found[f"cluster {i}"], expected, atol=0.0051)


def test_the_true_chain_stands_below(monkeypatch: pytest.MonkeyPatch) -> None:
    found = matrices(drawn(chains_of([0.9], truth=0.75), monkeypatch))
    assert list(found) == ["cluster 0", "truth"]
    np.testing.assert_allclose(found["truth"], [[0.75, 0.25], [0.25, 0.75]])


def test_no_chain_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    (axes,) = drawn(chains_of([]), monkeypatch).axes
    assert [text.get_text() for text in axes.texts] == ["no cluster has a chain"]


def test_a_selection_made_twice_is_three_bars_or_a_sentence() -> None:
    figure = reproducibility_plot(
        [Agreement("elbow", 0, 0, 0, 0), Agreement("geometric", 1, 6, 2, 5)], 20
    )
    empty, bars = figure.axes
    assert [text.get_text() for text in empty.texts] == ["neither selection has a cluster"]
    assert [bar.get_height() for bar in bars.containers[0]] == [1, 6, 2]  # pyright: ignore
    assert bars.get_title(loc="left") == (
        "geometric mode: Jaccard index 0.67; 5 of 6 in both have the same k"
    )
