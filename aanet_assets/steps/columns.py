"""Columns that several tables have."""

from aanet_assets.storage.table import flag, integer, listed, number, text

N_CLUSTERS_TOTAL = integer("n_clusters_total", "Number of clusters that was asked for.")
CLUSTER_ID = integer(
    "cluster_id", "The cluster, from 0 on; null clusters are numbered on their own."
)
AANET_K = integer("aanet_k", "Number of archetypes, k.")
K = integer("k", "Number of archetypes, k.")
NULL_CLUSTER = flag(
    "null_cluster", "Whether it is a null cluster, made by chance.", formerly="is_null"
)
N_LATENTS = integer("n_latents", "Latents of the cluster.")
LATENT_INDICES = listed(integer("latent_indices", "Which latents of the SAE they are."))
SAE_ID = text("sae_id", "The SAE: release and id, or its directory.")
AVERAGE_L0 = number("average_l0", "Mean number of active latents per training token.")
CLUSTER_RECON_ERROR = number(
    "cluster_recon_error", "Share of the unit decoder rows that their rank leaves unexplained."
)
DECODER_DIR_RANK = integer("decoder_dir_rank", "Rank of the cluster's unit decoder rows.")
ACTIVATION_PCA_RANK = integer(
    "activation_pca_rank", "Principal components of the cluster's rows that reach 95% of variance."
)
AANET_STATUS = text("aanet_status", "ok, or why there is no model.")
AANET_REASON = text("aanet_reason", "What a status other than ok means here; else empty.")
LOSS_NAMES = ("loss", "recon_loss", "archetypal_loss", "extrema_loss")
_LOSS_WORDS = {
    "loss": "Total loss",
    "recon_loss": "Reconstruction loss, mean squared error per row and coordinate of d_model",
    "archetypal_loss": "Archetypal loss, by which rows lie outside the simplex",
    "extrema_loss": "Extrema loss, by which extrema do not lie at the vertices",
}
AANET_LOSSES = tuple(
    number(f"aanet_{name}", f"{words}; median over the last recorded steps.")
    for name, words in _LOSS_WORDS.items()
)
LOSS_HISTORIES = tuple(
    listed(number(f"{name}_history", f"{words}, step by step."))
    for name, words in _LOSS_WORDS.items()
)
TRAINING = (
    AANET_REASON,
    integer("n_rows", "Training and held-out rows of the model together."),
    integer("steps", "Steps of training."),
    number("heldout_loss", "Total loss without noise on held-out rows."),
    number("heldout_recon_loss", "Reconstruction loss without noise on held-out rows."),
    number("heldout_archetypal_loss", "Archetypal loss without noise on held-out rows."),
    number("heldout_explained_variance", "Share of the variance of held-out rows explained."),
    number("heldout_in_simplex", "Share of held-out rows inside the simplex."),
    text(
        "aanet_start", "Where training started: linear, or random and why; empty without a model."
    ),
)
"""Columns of metrics after the losses."""
ELBOWS = (
    integer("aanet_recon_loss_elbow_k", "k at the elbow of the reconstruction loss."),
    number("aanet_recon_loss_elbow_strength", "Its distance from the straight line."),
    number("recon_pct_decrease", "Fall of the reconstruction loss up to its elbow, in per cent."),
    flag("recon_is_monotonic", "Whether the reconstruction loss never rises up to its elbow."),
    integer("aanet_archetypal_loss_elbow_k", "k at the elbow of the archetypal loss."),
    number("aanet_archetypal_loss_elbow_strength", "Its distance from the straight line."),
    number("arch_pct_decrease", "Fall of the archetypal loss up to its elbow, in per cent."),
    flag("arch_is_monotonic", "Whether the archetypal loss never rises up to its elbow."),
    integer("k_differential", "Distance between the two elbows."),
)
FALLING = (
    flag("recon_elbow_is_falling", "Whether a falling reconstruction loss can have this strength."),
    flag("arch_elbow_is_falling", "Whether a falling archetypal loss can have this strength."),
)
REVISIONS = (
    text("model_revision", "Commit of a model that is on a hub."),
    text("corpus_revision", "Commit of a dataset that is on a hub."),
    text("sae_revision", "Commit of an SAE that is on a hub."),
)
CATEGORY = text("category", "Category: A to D, M for a manual pick, S by evidence.")
