"""The tables of `metrics.duckdb`: their columns and types, and nothing else."""

from collections.abc import Mapping

import pyarrow as pa

from aanet_assets.analysis.consolidate import GUIDE_COLUMNS
from aanet_assets.analysis.elbows import FALLING_COLUMNS
from aanet_assets.trust.evidence import TYPES

FURTHER_COLUMNS = (
    "aanet_reason", "n_rows", "steps", "heldout_loss", "heldout_recon_loss",
    "heldout_archetypal_loss", "heldout_explained_variance", "heldout_in_simplex",
)  # fmt: skip
"""Columns of `consolidated_metrics` after those of the elbows."""

_LOSSES = ("loss", "recon_loss", "archetypal_loss", "extrema_loss")

# A column has the same type in every table; floating point where nothing is said.
_INTEGERS = {
    "n_clusters_total", "cluster_id", "aanet_k", "k", "n_latents", "decoder_dir_rank",
    "activation_pca_rank", "n_rows", "steps", "aanet_recon_loss_elbow_k",
    "aanet_archetypal_loss_elbow_k", "k_differential", "active_tokens", "position",
    "failed_here", "failed_cumulative", "remaining", "vertex_id", "samples", "target",
    "tokens_seen", "true_k", "recon_elbow_k", "arch_elbow_k",
    "tokens", "shard", "first_document", "last_document", "chunks", "counted_tokens", "bytes",
    "document", "document_token", "simplex_k", "elbow_k", "replicate", "replicates",
    "only_first", "both",
    "only_second", "same_k", "calibrated_k",
}  # fmt: skip
_BOOLEANS = {
    "recon_is_monotonic", "arch_is_monotonic", *FALLING_COLUMNS, "selected", "reached_target",
    "is_null",
}  # fmt: skip
_TEXTS = {
    "aanet_status", "aanet_reason", "sae_id", "category", "k_source", "reason", "filter",
    "setting", "extrema_problem", "full_text", "component", "kind",
    "use", "sha256", "made_from", "model_revision", "corpus_revision", "sae_revision",
    "mode", "guide_category", "guide_reason",
    "unavailable",
    "calibrated_category", "calibrated_reason",
}  # fmt: skip
_INTEGER_LISTS = {
    "latent_indices", "chunk_token_ids", "trigger_token_indices", "trigger_token_ids",
    "trigger_word_indices", "elbow_ks",
}  # fmt: skip
_FLOAT_LISTS = {"distances_to_vertex", *(f"{name}_history" for name in _LOSSES)}
_TEXT_LISTS = {"trigger_words"}

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "sae_fit": (
        "sae_id", "tokens", "l0", "unexplained", "bytes_per_token",
        "model_revision", "corpus_revision", "sae_revision",
    ),
    "cache_shards": (
        "shard", "use", "first_document", "last_document", "chunks", "tokens", "counted_tokens",
        "l0", "bytes", "sha256", "made_from", "model_revision", "corpus_revision", "sae_revision",
    ),
    "clusters": (
        "n_clusters_total", "cluster_id", "n_latents", "latent_indices", "cluster_recon_error",
        "decoder_dir_rank", "activation_pca_rank", "average_l0", "active_tokens", "activity_limit",
        "extrema_problem",
    ),
    "aanet_metrics": (
        "n_clusters_total", "cluster_id", "aanet_k", "aanet_status",
        *(f"aanet_{name}" for name in _LOSSES), *FURTHER_COLUMNS,
    ),
    "training_curves": (
        "n_clusters_total", "cluster_id", "aanet_k", *(f"{name}_history" for name in _LOSSES),
    ),
    "consolidated_metrics": (*GUIDE_COLUMNS, *FALLING_COLUMNS, *FURTHER_COLUMNS),
    "null_clusters": (
        "n_clusters_total", "cluster_id", "is_null", "n_latents", "latent_indices",
        "active_tokens", "activity_limit", "extrema_problem",
    ),
    "cluster_shapes": (
        "n_clusters_total", "cluster_id", "is_null", "n_latents", "coactivity", "interior", "k",
        "pca_explained", "occupancy", "fit",
    ),
    "chance_groups": ("n_clusters_total", "is_null", "n_latents", "coactivity"),
    "replicates": (
        "n_clusters_total", "cluster_id", "is_null", "k", "replicate", "aanet_status",
        "aanet_recon_loss", "aanet_archetypal_loss", "heldout_explained_variance",
        "heldout_in_simplex", "heldout_occupancy", "vertex_shift",
    ),
    "evidence": ("n_clusters_total", *TYPES),
    "reproducibility": (
        "n_clusters_total", "mode", "only_first", "both", "only_second", "same_k", "jaccard",
    ),
    "selected_clusters": (
        "n_clusters_total", "cluster_id", "selected", "category", "k", "k_source", "reason",
        "guide_category", "guide_reason", "calibrated_category", "calibrated_k",
        "calibrated_reason",
    ),
    "selection_funnel": (
        "n_clusters_total", "mode", "position", "filter", "setting", "failed_here",
        "failed_cumulative", "remaining",
    ),
    "vertex_stats": (
        "n_clusters_total", "cluster_id", "aanet_k", "category", "vertex_id", "samples", "target",
        "reached_target", "tokens_seen", "distance_threshold",
    ),
    "vertex_samples": (
        "n_clusters_total", "cluster_id", "aanet_k", "category", "vertex_id",
        "document", "document_token",
        "distances_to_vertex", "full_text", "chunk_token_ids", "trigger_token_indices",
        "trigger_token_ids", "trigger_word_indices", "trigger_words",
    ),
    "recovery": (
        "n_clusters_total", "component", "kind", "cluster_id", "r2", "token_r2", "leak", "true_k",
        "recon_elbow_k", "arch_elbow_k", "barycentric_r2", "vertex_purity",
    ),
}  # fmt: skip


def _type(column: str) -> pa.DataType:
    if column in _INTEGERS:
        return pa.int64()
    if column in _BOOLEANS:
        return pa.bool_()
    if column in _TEXTS:
        return pa.string()
    if column in _INTEGER_LISTS:
        return pa.list_(pa.int64())
    if column in _FLOAT_LISTS:
        return pa.list_(pa.float64())
    if column in _TEXT_LISTS:
        return pa.list_(pa.string())
    return pa.float64()


TABLES: Mapping[str, pa.Schema] = {
    table: pa.schema([(column, _type(column)) for column in columns])
    for table, columns in _COLUMNS.items()
}
