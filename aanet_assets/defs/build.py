"""`build_defs`: everything Dagster needs to know about one study."""

import sys

import dagster as dg

from aanet_assets.defs import (
    automation,
    local,
    review,
    shapes,
    stage1_aanets,
    stage1_latents,
    stage2,
    stage3,
    trust,
    truth,
)
from aanet_assets.defs.materialise import build_asset
from aanet_assets.study import Study, require_own_module

_ASSETS = (
    (stage1_latents.sae_fit, "1a_activations", {"huggingface", "pytorch"}),
    (stage1_latents.activation_cache, "1a_activations", {"huggingface", "pytorch"}),
    (stage1_latents.clustering, "1b_clusters", {"scikitlearn"}),
    (stage1_latents.cluster_rows, "1b_clusters", {"numpy"}),
    (stage1_aanets.aanet_models, "1c_aanets", {"pytorch"}),
    (stage1_aanets.aanet_exports, "1c_aanets", {"pytorch"}),
    (stage1_aanets.aanet_metrics, "1c_aanets", {"parquet", "duckdb"}),
    (stage1_aanets.consolidated_metrics, "1d_metrics", {"csv", "duckdb"}),
    (shapes.null_clusters, "1e_trust", {"numpy"}),
    (shapes.cluster_shapes, "1e_trust", {"numpy", "duckdb"}),
    (trust.evidence, "1e_trust", {"scipy", "duckdb"}),
    (stage1_aanets.analysis_plots, "2_review", {"matplotlib"}),
    (stage2.selected_clusters, "2_review", {"pandas", "duckdb"}),
    (stage3.refit_models, "3_vertices", {"pytorch"}),
    (stage3.vertex_samples, "3_vertices", {"json", "duckdb"}),
    (review.review_page, "3_vertices", {"plotly"}),
)
_REPLICATE_ASSETS = (
    (trust.replicates, "1e_trust", {"pytorch", "duckdb"}),
    (trust.reproducibility, "2_review", {"matplotlib", "duckdb"}),
)
_LOCAL_ASSETS = (
    (local.language_model, "0_local", {"huggingface"}),
    (local.prose, "0_local", {"parquet"}),
    (local.sae, "0_local", {"pytorch"}),
)
_TRUTH_ASSETS = (
    (truth.corpus, "1a_activations", {"parquet"}),
    (truth.recovery, "truth", {"pandas", "duckdb"}),
)


def build_defs(study: Study) -> dg.Definitions:
    """Assets, jobs, sensors and schedules of a study, as one code location.

    Raises:
        ValueError: the study of a module, as Dagster loads it, has not the module's name.
    """
    caller = sys._getframe(1).f_globals
    if caller.get("study") is study and caller["__name__"] != "__main__":
        require_own_module(study, caller["__name__"])
    assets = [*_ASSETS]
    if study.trust.replicates > 1:
        assets += _REPLICATE_ASSETS
    if study.local is not None:
        assets += _LOCAL_ASSETS
    if study.truth is not None:
        assets += _TRUTH_ASSETS
    return dg.Definitions(
        assets=[build_asset(study, work, group, kinds) for work, group, kinds in assets],
        jobs=automation.jobs(study),
        sensors=[automation.stage3_sensor(study), automation.reselect_sensor(study)],
        schedules=automation.gap_schedules(study),
        # A process per step would import torch and sae-lens anew each time.
        executor=dg.in_process_executor,
    )
