"""Clusterings side by side: what each found, and how far two of them agree."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score

from aanet_assets.science.selection.rules import MODES

SAME = 0.5
"""Two clusters count as the same where more than this share of their latents is common (Jaccard):
of any cluster there is then at most one such other in a clustering."""


class Clustering(NamedTuple):
    """One n_clusters of a study: a row per cluster, as `clusters_of` has them."""

    study: str
    n: int
    clusters: pd.DataFrame
    """Columns `cluster_id`, `latent_indices`, `coactivity`, `simplex_fit`, `selected`, a category
    of each mode, and where the answer is known `component`, `r2` and `leak`."""


def side_by_side(clusterings: Sequence[Clustering]) -> pd.DataFrame:
    """One row per clustering: sizes, fits, how many each mode takes, and what is right of it.

    `mean_r2` and `largest_leak` are null where the answer is not known.
    """
    return pd.DataFrame([_summary(one) for one in clusterings])


def _summary(one: Clustering) -> dict[str, Any]:
    clusters = one.clusters
    sizes = clusters["latent_indices"].map(len)
    return {
        "study": one.study,
        "n_clusters_total": one.n,
        "latents": int(sizes.sum()),
        "smallest": int(sizes.min()),
        "median_size": float(sizes.median()),
        "largest": int(sizes.max()),
        "median_coactivity": clusters["coactivity"].median(),
        "median_fit": clusters["simplex_fit"].median(),
        **{mode: int(clusters[f"{mode}_category"].notna().sum()) for mode in MODES},
        "selected": int(clusters["selected"].sum()),
        "mean_r2": clusters["r2"].mean(),
        "largest_leak": clusters["leak"].max(),
    }


def pairs_of(clusterings: Sequence[Clustering]) -> list[tuple[Clustering, Clustering]]:
    """What to compare: two studies at the same n_clusters; all pairs where no two are such."""
    pairs = list(combinations(clusterings, 2))
    return [(a, b) for a, b in pairs if a.study != b.study and a.n == b.n] or pairs


def agreement(clusterings: Sequence[Clustering]) -> pd.DataFrame:
    """One row per pair of clusterings, as `pairs_of` has them.

    Columns:
    - latents: in both clusterings; `adjusted_rand` is over these (Hubert and Arabie 1985)
    - same: clusters that are the same in both, by `SAME`
    - of: clusters of the smaller clustering, the most that can be the same
    - selected, other_selected: clusters that are selected in each
    - both_selected: clusters that are the same and selected in both
    """
    rows = []
    for first, second in pairs_of(clusterings):
        pairs = matched(first, second)
        rows.append(
            {
                "study": first.study,
                "n_clusters_total": first.n,
                "other_study": second.study,
                "other_n_clusters_total": second.n,
                **_rand(first, second),
                "same": int((pairs["jaccard"] > SAME).sum()),
                "of": min(len(first.clusters), len(second.clusters)),
                "selected": int(first.clusters["selected"].sum()),
                "other_selected": int(second.clusters["selected"].sum()),
                "both_selected": int(
                    ((pairs["jaccard"] > SAME) & pairs["selected"] & pairs["other_selected"]).sum()
                ),
            }
        )
    return pd.DataFrame(rows)


def matched(first: Clustering, second: Clustering) -> pd.DataFrame:
    """Clusters matched one to one so that the sum of Jaccard indices of their latents is largest.

    One row per pair that has a latent in common.
    """
    ours, theirs = (_members([one], [first, second]) for one in (first, second))
    common = (ours @ theirs.T).toarray()
    union = ours.sum(axis=1)[:, None] + theirs.sum(axis=1)[None] - common
    jaccard = common / np.maximum(union, 1)
    left, right = linear_sum_assignment(jaccard, maximize=True)
    kept = jaccard[left, right] > 0
    left, right = left[kept], right[kept]
    a, b = first.clusters.iloc[left], second.clusters.iloc[right]
    pairs = {
        "study": first.study,
        "n_clusters_total": first.n,
        "cluster_id": a["cluster_id"].to_numpy(),
        "other_study": second.study,
        "other_n_clusters_total": second.n,
        "other_cluster_id": b["cluster_id"].to_numpy(),
        "jaccard": jaccard[left, right],
        "common_latents": common[left, right].astype(np.int64),
        "selected": a["selected"].to_numpy(bool),
        "other_selected": b["selected"].to_numpy(bool),
    }
    for mode in MODES:
        column = f"{mode}_category"
        pairs |= {column: a[column].to_numpy(), f"other_{column}": b[column].to_numpy()}
    return pd.DataFrame(pairs)


def _members(clusterings: Iterable[Clustering], among: Iterable[Clustering]) -> csr_array:
    """Clusters by latents: 1 where a cluster has the latent."""
    width = 1 + max((max(ids, default=0) for one in among for ids in _latents(one)), default=0)
    members = [ids for one in clusterings for ids in _latents(one)]
    rows = np.repeat(np.arange(len(members)), [len(ids) for ids in members])
    columns = np.concatenate([np.asarray(ids, np.int64) for ids in members])
    ones = np.ones(len(rows), np.int64)
    return csr_array((ones, (rows, columns)), shape=(len(members), width))


def _latents(one: Clustering) -> list[list[int]]:
    return [[int(latent) for latent in ids] for ids in one.clusters["latent_indices"]]


def _rand(first: Clustering, second: Clustering) -> dict[str, Any]:
    labels = [
        {int(latent): i for i, ids in enumerate(_latents(one)) for latent in ids}
        for one in (first, second)
    ]
    both = sorted(labels[0].keys() & labels[1].keys())
    known = [[own[latent] for latent in both] for own in labels]
    score = float(adjusted_rand_score(*known)) if both else None
    return {"latents": len(both), "adjusted_rand": score}
