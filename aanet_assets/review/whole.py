"""All that the review page of one n_clusters shows."""

from typing import Any

import pandas as pd

from aanet_assets.review import contents
from aanet_assets.review.details import ClusterFiles, details, shapes_by_cluster
from aanet_assets.review.functional import Asked, functional
from aanet_assets.science.vertices.selected import chosen_of
from aanet_assets.study.study import Study


def page_of(
    study: Study,
    n: int,
    metrics: pd.DataFrame,
    evidence: pd.DataFrame,
    asked: Asked | None,
    shapes: pd.DataFrame,
    verdicts: pd.DataFrame,
    replicates: pd.DataFrame | None,
    files: ClusterFiles,
) -> dict[str, Any]:
    """The contents of the page, given the tables of one n_clusters.

    Args:
        asked: None of a study that asks the model nothing.
    """
    chosen = {one.cluster_id: one.k for one in chosen_of(verdicts)}
    fits = evidence[~evidence["null_cluster"]].dropna(subset="simplex_k")
    best = {int(row["cluster_id"]): int(row["simplex_k"]) for row in fits.to_dict("records")}
    ks_shown = dict(sorted({**best, **chosen}.items()))
    return {
        "summary": (
            f"SAE {study.sae.name}; {len(chosen)} of {n} clusters selected "
            f"({study.selection.mode} mode), compared with "
            f"{int(evidence['null_cluster'].sum())} null clusters"
        ),
        "ks": list(study.ks),
        **contents.settings(study.selection, study.controls, study.belief),
        "clusters": contents.cluster_rows(metrics, evidence, asked and asked.evidence, verdicts),
        "shapes": shapes_by_cluster(shapes),
        "bands": contents.bands(replicates, study.ks),
        "details": details(files, chosen, ks_shown, study.aanet),
        "functional": asked and functional(asked, chosen),
    }
