"""Clusterings side by side, on clusterings whose agreement is known by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from aanet_assets.science.selection.comparison import (
    Clustering,
    agreement,
    matched,
    pairs_of,
    side_by_side,
)


def clustering(
    study: str, members: list[list[int]], selected: tuple[int, ...] = (), n: int | None = None
) -> Clustering:
    ids = range(len(members))
    clusters = pd.DataFrame(
        {
            "cluster_id": list(ids),
            "latent_indices": members,
            "coactivity": 1.0,
            "simplex_fit": [0.5 + i / 10 for i in ids],
            "selected": [i in selected for i in ids],
            "elbow_category": [None for _ in ids],
            "geometric_category": ["S" if i in selected else None for i in ids],
            "functional_category": [None for _ in ids],
            "r2": None,
            "leak": None,
        }
    )
    return Clustering(study, n or len(members), clusters)


def test_equal_clusterings_under_other_numbers_agree_wholly():
    first = clustering("a", [[0, 1, 2], [3, 4], [5]], selected=(0, 1))
    second = clustering("b", [[5], [0, 1, 2], [3, 4]], selected=(1,))
    row = agreement([first, second]).iloc[0]
    assert row["adjusted_rand"] == 1.0
    assert (row["same"], row["of"], row["latents"]) == (3, 3, 6)
    assert (row["selected"], row["other_selected"], row["both_selected"]) == (2, 1, 1)
    pairs = matched(first, second)
    assert dict(zip(pairs["cluster_id"], pairs["other_cluster_id"], strict=True)) == {
        0: 1,
        1: 2,
        2: 0,
    }
    assert pairs["jaccard"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("seed", range(4))
def test_matching_is_the_best_of_all_matchings(seed: int):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, (2, 20))
    first, second = (
        clustering(name, [np.flatnonzero(own == c).tolist() for c in range(4)])
        for name, own in zip("ab", labels, strict=True)
    )

    def jaccard(ours: list[int], theirs: list[int]) -> float:
        both = set(ours) | set(theirs)
        return len(set(ours) & set(theirs)) / len(both) if both else 0.0

    lists = [one.clusters["latent_indices"].tolist() for one in (first, second)]
    best = max(
        sum(jaccard(lists[0][i], lists[1][j]) for i, j in enumerate(order))
        for order in itertools.permutations(range(4))
    )
    pairs = matched(first, second)
    assert pairs["jaccard"].sum() == pytest.approx(best)
    for row in pairs.to_dict("records"):
        expected = jaccard(lists[0][row["cluster_id"]], lists[1][row["other_cluster_id"]])
        assert row["jaccard"] == pytest.approx(expected)
    found = agreement([first, second])["adjusted_rand"][0]
    assert found == pytest.approx(adjusted_rand_score(*labels))


def test_latents_that_only_one_clustering_has_count_for_nothing_in_the_index():
    first = clustering("a", [[0, 1], [2, 3], [8, 9]])
    second = clustering("b", [[0, 1, 7], [2, 3]])
    row = agreement([first, second]).iloc[0]
    assert (row["latents"], row["adjusted_rand"]) == (4, 1.0)
    assert (row["same"], row["of"]) == (2, 2)


def test_neither_half_of_a_cluster_is_the_same_as_the_whole():
    whole, halves = clustering("a", [[0, 1, 2, 3]]), clustering("b", [[0, 1], [2, 3]])
    assert agreement([whole, halves])["same"][0] == 0


def test_clusterings_without_a_common_latent_have_no_agreement_and_no_pairs():
    first, second = clustering("a", [[0], [1]]), clustering("b", [[2], [3]])
    row = agreement([first, second]).iloc[0]
    assert pd.isna(row["adjusted_rand"])
    assert row["same"] == 0
    assert matched(first, second).empty


def test_studies_are_compared_at_equal_numbers_of_clusters_and_one_study_with_itself():
    a2, a3 = clustering("a", [[0], [1]]), clustering("a", [[0], [1], [2]])
    b2 = clustering("b", [[0], [1]])
    assert pairs_of([a2, a3, b2]) == [(a2, b2)]
    assert pairs_of([a2, a3]) == [(a2, a3)]


def test_a_clustering_is_summed_up_in_one_row():
    row = side_by_side([clustering("a", [[0, 1, 2], [3], [4, 5]], selected=(2,))]).iloc[0]
    assert (row["latents"], row["smallest"], row["median_size"], row["largest"]) == (6, 1, 2.0, 3)
    assert (row["elbow"], row["geometric"], row["functional"], row["selected"]) == (0, 1, 0, 1)
    assert row["median_fit"] == pytest.approx(0.6)
    assert pd.isna(row["mean_r2"])
