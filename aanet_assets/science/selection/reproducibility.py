"""Would the same clusters be selected again? Twice, from disjoint halves of what is random."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.science.selection.elbows import elbow_columns
from aanet_assets.science.selection.filters import Selection, select_clusters
from aanet_assets.science.selection.rules import ELBOW, GEOMETRIC
from aanet_assets.science.selection.shapes import shapes_of
from aanet_assets.science.selection.verdicts import select_by_table
from aanet_assets.study.settings import ControlSettings, SelectionSettings
from aanet_assets.study.study import Study


class Agreement(NamedTuple):
    """How far two selections agree."""

    mode: str
    only_first: int
    both: int
    only_second: int
    same_k: int
    """Of those in both, those with the same k."""

    @property
    def jaccard(self) -> float | None:
        """Share of the clusters in either that are in both; None where nothing is selected."""
        either = self.only_first + self.both + self.only_second
        return self.both / either if either else None


def elbow_by_replicates(
    replicates: pd.DataFrame, sizes: pd.Series, settings: SelectionSettings, n_clusters: int
) -> tuple[Selection, Selection]:
    """The elbow mode's selection from the mean losses of two disjoint sets of replicates.

    `replicates` holds real clusters alone, `sizes` their n_latents by cluster_id. Of an odd number
    of replicates the last is left out.
    """
    half = int(replicates["replicate"].max() + 1) // 2
    losses = ["aanet_recon_loss", "aanet_archetypal_loss"]
    found = []
    for first in (0, half):
        own = replicates[replicates["replicate"].between(first, first + half - 1)]
        # A cluster with a replicate that failed has no mean, and so no elbow.
        means = own.groupby(["cluster_id", "k"])[losses].agg(lambda v: v.mean(skipna=False))
        means = means.reset_index().rename(columns={"k": "aanet_k"})
        table = means.merge(elbow_columns(means), on="cluster_id").assign(
            n_clusters_total=n_clusters,
            n_latents=means["cluster_id"].map(sizes),
            aanet_status="ok",
        )
        found.append(select_clusters(table, settings, n_clusters))
    return found[0], found[1]


def geometric_by_rows(
    evidence: pd.DataFrame,
    rows: list[ClusterRows],
    ks: tuple[int, ...],
    settings: SelectionSettings,
    controls: ControlSettings,
    n_clusters: int,
) -> tuple[Selection, Selection]:
    """The geometric selection from two disjoint halves of each cluster's rows.

    It depends on no AANet: what is random about it is which tokens are looked at.
    """
    real = evidence[~evidence["null_cluster"]].set_index("cluster_id")
    found = []
    for half in (0, 1):
        table = real.copy()
        for cluster in rows:
            shapes = shapes_of(cluster.train[half::2], ks, half, controls)
            best = max(shapes, key=lambda shape: shape.fit, default=None)
            table.loc[cluster.cluster_id, "simplex_k"] = best.k if best else pd.NA
            table.loc[cluster.cluster_id, "simplex_fit"] = best.fit if best else np.nan
        own = table.reset_index()
        found.append(select_by_table(GEOMETRIC, own, settings, controls, n_clusters))
    return found[0], found[1]


def agreement(mode: str, first: Selection, second: Selection) -> Agreement:
    """Compare two selections; manual picks are in both and say nothing, so they are left out."""
    one, other = (
        {
            int(row["cluster_id"]): int(row["k"])
            for row in selection.selected.to_dict("records")
            if row["category"] != "M"
        }
        for selection in (first, second)
    )
    both = one.keys() & other.keys()
    same_k = sum(one[i] == other[i] for i in both)
    return Agreement(mode, len(one.keys() - both), len(both), len(other.keys() - both), same_k)


def agreement_table(
    replicates: pd.DataFrame,
    evidence: pd.DataFrame,
    rows: list[ClusterRows],
    study: Study,
    n_clusters: int,
) -> list[Agreement]:
    """The elbow and the geometric mode's agreement with themselves, at one n_clusters."""
    real = evidence[~evidence["null_cluster"]]
    sizes = real.set_index("cluster_id")["n_latents"]
    own = replicates[~replicates["null_cluster"]]
    by_elbow = elbow_by_replicates(own, sizes, study.selection, n_clusters)
    geometric = geometric_by_rows(
        evidence, rows, study.ks, study.selection, study.controls, n_clusters
    )
    return [agreement(ELBOW, *by_elbow), agreement(GEOMETRIC, *geometric)]
