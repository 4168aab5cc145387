"""The plots of ranks, against the table that they are drawn from."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from aanet_assets.review.rank_plots import JITTER, decoder_rank_dist, pca_vs_geometric_rank


def clusters(ranks: list[float], pca: list[float], latents: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {"decoder_dir_rank": ranks, "activation_pca_rank": pca, "n_latents": latents}
    )


def test_points_stand_at_their_ranks_and_are_counted() -> None:
    table = clusters([3, 5, 2, np.nan], [4, 5, 1, 2], [4, 9, 0, 3])
    figure = pca_vs_geometric_rank(table, 4)
    ax = figure.axes[0]
    points = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(points, [[3, 4], [5, 5], [2, 1]], atol=JITTER)
    assert ax.get_title(loc="left").startswith(
        "PCA rank larger in 1 clusters, equal in 1, smaller in 1 "
    )
    assert [text.get_text() for text in ax.texts] == ["0", "1", "2"]
    # A cluster without latents has no place on a logarithmic scale; it takes that of one.
    sizes = ax.collections[0].get_array()
    assert sizes is not None
    assert sizes.tolist() == [4, 9, 1]


@pytest.mark.parametrize("ranks", [[2, 2, 3, 7], list(range(1, 200)), [4]])
def test_bars_hold_all_clusters_where_their_ranks_are(ranks: list[float]) -> None:
    table = clusters(ranks, ranks, [1] * len(ranks))
    ax = decoder_rank_dist(table, len(ranks)).axes[0]
    bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    for bar in bars:
        left, right = bar.get_x(), bar.get_x() + bar.get_width()
        assert bar.get_height() == sum(left < rank < right for rank in ranks)
    assert sum(bar.get_height() for bar in bars) == len(ranks)
    assert 0 < len(bars) <= 60


def test_without_ranks_a_sentence_says_so() -> None:
    empty = clusters([np.nan], [2], [1])
    for draw, said in (
        (pca_vs_geometric_rank, "No cluster has both ranks."),
        (decoder_rank_dist, "No cluster has a geometric rank."),
    ):
        assert [text.get_text() for text in draw(empty, 1).axes[0].texts] == [said]
