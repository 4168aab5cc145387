"""The review page of one n_clusters."""

from typing import TYPE_CHECKING

import dagster as dg

from aanet_assets.steps.aanets import STACK, TRAINING_CURVES, aanet_models
from aanet_assets.steps.belief import (
    BARYCENTRIC_PREDICTION,
    BELIEF_CHAINS,
    BELIEF_UPDATE,
    barycentric_prediction,
    belief_update,
    uses_belief,
)
from aanet_assets.steps.clusters import CLUSTERING, ROWS, cluster_rows, clustering
from aanet_assets.steps.edits import (
    INTERVENTIONAL_MIXTURE,
    VERTEX_STEERING,
    interventional_mixture,
    vertex_steering,
)
from aanet_assets.steps.evidence import (
    CLUSTER_SHAPES,
    EVIDENCE,
    REPLICATES,
    cluster_shapes,
    evidence,
    has_replicates,
    replicates,
)
from aanet_assets.steps.functional import FUNCTIONAL_EVIDENCE, functional_evidence
from aanet_assets.steps.metrics import CONSOLIDATED_METRICS, consolidated_metrics
from aanet_assets.steps.responses import DOSE_RESPONSE, SIMPLEX_TOKENS, simplex_responses
from aanet_assets.steps.selection import SELECTED_CLUSTERS, selected_clusters
from aanet_assets.steps.vertices import MODEL, VERTEX_SAMPLES, refit_models, vertex_samples
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.study.layout import File

if TYPE_CHECKING:
    import pandas as pd

    from aanet_assets.review.details import ClusterFiles
    from aanet_assets.review.functional import Asked

PAGE = File("clusters_{n}/review_n{n}.html")


@step(
    ByN,
    group="3_vertices",
    job="stage3",
    kinds=("plotly",),
    reads=(clustering, cluster_rows, aanet_models, consolidated_metrics, cluster_shapes, replicates,
           evidence, barycentric_prediction, belief_update, interventional_mixture, vertex_steering,
           functional_evidence, simplex_responses, selected_clusters, refit_models,
           vertex_samples),
    settings=("ks", "selection", "controls", "belief"),
    files=(PAGE,),
    code_version="7",
)  # fmt: skip
def review_page(run: Run[ByN]) -> Outcome:
    """One HTML page to look at all clusters and at thresholds; opens without server and network.

    Interactive plots, each cluster's evidence, the verdicts of all modes and the simplex of its
    best k; what the model does with it, where the study asks; for selected clusters the text near
    its vertices.
    """
    from aanet_assets.review.page import write_page
    from aanet_assets.review.whole import page_of

    study, n, path, verdicts = run.study, run.at.n, run.path(PAGE), run.read(SELECTED_CLUSTERS)
    read = (CONSOLIDATED_METRICS, EVIDENCE, CLUSTER_SHAPES)
    metrics, known, shapes = map(run.read, read)
    repeated = run.read(REPLICATES) if has_replicates(study) else None
    asked, files = _asked(run) if uses_belief(study) else None, _files(run, verdicts)
    page = page_of(study, n, metrics, known, asked, shapes, verdicts, repeated, files)
    write_page(path, f"{study.name}, {n} clusters", page)
    how = f"aanet review {study.name} --n-clusters {n}"
    url = dg.MetadataValue.url(path.as_uri())
    return Outcome([path], {"dagster/row_count": n, "page": url, "to open it": how})


def _asked(run: Run[ByN]) -> "Asked":
    from aanet_assets.review.functional import Asked

    statistics = (BARYCENTRIC_PREDICTION, BELIEF_UPDATE, INTERVENTIONAL_MIXTURE)
    others = (BELIEF_CHAINS, VERTEX_STEERING, SIMPLEX_TOKENS, DOSE_RESPONSE)
    return Asked(
        run.read(FUNCTIONAL_EVIDENCE), list(map(run.read, statistics)), *map(run.read, others)
    )


def _files(run: Run[ByN], verdicts: "pd.DataFrame") -> "ClusterFiles":
    from aanet_assets.review.details import ClusterFiles
    from aanet_assets.science.vertices.selected import chosen_of

    return ClusterFiles(
        run.path(ROWS),
        run.path(CLUSTERING),
        lambda k: run.path(STACK, k=k),
        lambda k: run.read(TRAINING_CURVES, k=k),
        run.read(VERTEX_SAMPLES),
        {one.cluster_id: run.path(MODEL, **one.named) for one in chosen_of(verdicts)},
    )


@review_page.checks(
    whole="The page holds every cluster.",
    size="The page is smaller than 7 MB.",
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.review import check_page

    return check_page(run.path(PAGE), run.at.n)
