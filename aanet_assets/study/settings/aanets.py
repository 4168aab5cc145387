"""Settings of stage 1, and of what stage 3 trains as it does: clusterings, rows and AANets."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aanet_assets.study.settings.base import Count, NonNegative, Positive, Settings, Share

CLUSTERING_METHODS = Literal[
    "kmeans",
    "k_subspaces",
    "spectral_decoder",
    "spectral_cooccurrence",
    "spectral_effect",
    "leiden",
    "labels",
]
COOCCURRENCE = Literal["jaccard", "dice", "overlap", "phi", "mutual_information"]


class ClusteringSettings(Settings):
    """How latents are grouped, and how the rank of a group is counted."""

    method: CLUSTERING_METHODS = "kmeans"
    """`kmeans` and `k_subspaces` on decoder rows, `spectral_decoder` on the cosine between them,
    `spectral_cooccurrence` on how latents fire together, `spectral_effect` on what they do to
    the model's predictions, `leiden` on the pairs that fire together more often
    than chance, or less, `labels` from a file."""
    cooccurrence: COOCCURRENCE = "phi"
    """Affinity of `spectral_cooccurrence`; `phi` is used by its absolute value."""
    backbone: Literal["together", "apart"] = "together"
    """Pairs that `leiden` goes by: latents that fire together, as those of one component do where
    one speaks at a time; or that avoid each other, as where all speak at once."""
    effect_tokens: Count = 2_000
    """Training tokens, in whole chunks, at which `spectral_effect` sees what latents do: a backward
    pass over them for each group of tokens."""
    labels_file: str | None = None
    """For `labels`: an .npy file of one integer per latent, -1 for unassigned; `{n}` in the name
    stands for n_clusters."""
    min_activity_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Latents active at a smaller share of tokens are left out (label -1)."""
    duplicate_cosine: Share = 0.995
    """Of latents whose decoder rows have a larger |cosine|, only the first is kept."""
    variance_share: Share = 0.95
    """Share of squared singular values that the variance rank must reach."""
    gap_ratio: Annotated[float, Field(gt=1)] = 2.0
    """Ratio of consecutive singular values that ends the gap rank."""
    max_rounds: Count = 20
    """Rounds of `k_subspaces`."""
    seed: int = 42
    """Seed of the clustering."""

    @model_validator(mode="after")
    def _labels_need_a_file(self) -> "ClusteringSettings":
        if (self.method == "labels") != (self.labels_file is not None):
            raise ValueError("labels_file goes with method 'labels' and with no other")
        return self


class RowSettings(Settings):
    """Which tokens become training rows of a cluster, and how many of them are kept."""

    threshold: NonNegative = 1e-6
    """A cluster is active at a token when its latents' summed activation exceeds this."""
    threshold_kind: Literal["absolute", "relative"] = "absolute"
    """`relative`: the threshold is a multiple of the 95th percentile of the positive sums."""
    all_off: bool = False
    """Tokens at which a cluster is not active are rows, too, at the origin or near it: of latents
    that exclude one another, the state in which all are off can be a vertex. `threshold` then only
    says at which tokens coactivity counts."""
    max_norm_ratio: Annotated[float, Field(gt=1)] | None = None
    """No cluster is active at tokens whose residual stream is longer than this times the median
    length over training tokens: they are no rows, and no vertex samples. None leaves out none."""
    max_rows: Count = 50_000
    """Rows kept per cluster, drawn at random where there are more."""
    heldout_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of those rows kept out of training, for the held-out losses."""
    pca_rows: Count = 100_000
    """Rows used at most for `activation_pca_rank`."""
    seed: int = 42
    """Seed of every draw of rows."""

    @model_validator(mode="after")
    def _off_is_not_long(self) -> "RowSettings":
        if self.all_off and self.max_norm_ratio is not None:
            raise ValueError(
                f"all_off is True and max_norm_ratio is {self.max_norm_ratio}: tokens that are "
                "left out for their length look like such at which all latents are off; set one "
                "of the two"
            )
        return self


class ExtremaSettings(Settings):
    """Diffusion extrema, the warm start of the archetypes."""

    knn: Count = 150
    """Neighbours in the kNN graph (fewer where the sample is small)."""
    max_rows: Count = 1_000
    """Rows sampled for the graph."""
    variance_share: Share = 0.95
    """Share of variance kept by the PCA before it."""


class AANetSettings(Settings):
    """Network, losses, optimiser and stopping of an AANet."""

    widths: tuple[Count, Count] = (64, 32)
    """Hidden widths of the encoder; the decoder mirrors them."""
    noise: NonNegative = 0.05
    """Standard deviation of the bottleneck noise, in training only."""
    simplex_scale: Positive = 1.0
    """Scale of the simplex."""
    recon_weight: NonNegative = 1.0
    """Weight of the reconstruction loss."""
    archetypal_weight: NonNegative = 4.0
    """Weight of the archetypal loss."""
    extrema_weight: NonNegative = 2.0
    """Weight of the extrema loss, at the start."""
    extrema_fade: NonNegative = 2.0
    """Power by which that weight fades: after t steps it is (1 - t / max_steps) to this power of
    what it was at first; 0 keeps it."""
    start: Literal["linear", "random"] = "linear"
    """Where training starts. `linear`: at the best affine map onto the smallest simplex around
    the rows; where there is none, at random, and `aanet_start` says why. `random`: as PyTorch
    starts its layers, which is the original's."""
    start_pull: NonNegative = 3.0
    """Decay of the weights towards a linear start, in units of the learning rate: each step closes
    so much of the distance. The network then bends where the rows ask for it alone."""
    lr: Positive = 0.01
    """Learning rate of Adam, at its highest."""
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of `max_steps` over which the learning rate rises to that (`cosine` only)."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Adam's decay of second moments."""
    weight_decay: NonNegative = 1e-5
    """L2 term added to the gradient."""
    clip_norm: Positive = 1.0
    """Gradient norm per model above which the gradient is scaled down."""
    schedule: Literal["cosine", "plateau"] = "cosine"
    """How the learning rate falls. `cosine`: along half a cosine to zero, over `max_steps` steps.
    `plateau`: on plateaus of the loss of single steps, until early stopping
    (docs/engine.md has the original's settings)."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor of the learning rate on a plateau."""
    plateau_patience: Annotated[int, Field(ge=0)] = 30
    """Steps without improvement that make a plateau."""
    min_lr: NonNegative = 1e-6
    """Learning rate under which plateaus no longer act."""
    batch_size: Count = 256
    """Rows of one step; a cluster with fewer rows uses all of them."""
    max_steps: Count = 450
    """Steps; with the `plateau` schedule, steps at most."""
    smoothing_window: Annotated[int, Field(ge=8)] = 20
    """Steps over which the loss is averaged for early stopping and for the reported medians."""
    stop_patience: Count = 250
    """Steps without improvement of the averaged loss that end training early (`plateau` only)."""
    stop_min_delta: NonNegative = 1e-6
    """Least improvement that counts."""
    min_rows: Count = 32
    """A cluster with fewer rows than this, or than k, is `insufficient_samples`."""
    seed: int = 43
    """Seed that, with study, n_clusters, cluster and k, fixes a model's randomness."""
    export_pt: bool = True
    """Write every model as a full-width .pt file too (1.6 MB each at d_model 3584). Trains nothing:
    switched on, the next run writes the files from what is trained; switched off, it removes them.
    """


class RefitSettings(Settings):
    """How stage 3 gets the model of a selected cluster."""

    mode: Literal["retrain", "stage1"] = "retrain"
    """`retrain` trains afresh with extrema of its own; `stage1` takes the model of stage 1."""
    extrema: ExtremaSettings = ExtremaSettings(max_rows=10_000)
    """Extrema of `retrain`."""
