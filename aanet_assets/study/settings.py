"""The settings a study is made of, one group per step of the pipeline.

Here belong names, defaults and allowed values; nothing here reads a file or computes.
Every group is frozen and refuses unknown names, so a typing error fails when the study is built.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    field_validator,
    model_validator,
)

from aanet_assets.study.picks import parse_manual_clusters, parse_manual_k

Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of every settings group: frozen, strict about names, documented field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SaeSettings(Settings):
    """The sparse autoencoder: a SAELens release and id, or a directory written by SAELens."""

    release: str | None = None
    """SAELens release, for example `gemma-scope-9b-pt-res`."""
    id: str | None = None
    """SAE id inside the release, for example `layer_20/width_16k/average_l0_68`."""
    directory: str | None = None
    """Directory with `cfg.json` and `sae_weights.safetensors`, relative to the project's folder."""
    revision: str | None = None
    """Commit at which the release's repository has to be: SAELens loads the newest, and another one
    is refused. Without it, it is the newest when the asset `sae_fit` is made."""

    @model_validator(mode="after")
    def _one_source(self) -> "SaeSettings":
        from_release = self.release is not None and self.id is not None
        if from_release == (self.directory is not None) or (self.release is None) != (
            self.id is None
        ):
            raise ValueError("give either release and id, or directory")
        return self

    @property
    def name(self) -> str:
        """The `sae_id` of every table: `release/id`, or the directory."""
        return self.directory or f"{self.release}/{self.id}"


class HubSettings(Settings):
    """What is known of a model and an SAE on a hub, so that `aanet plan` need not ask it."""

    model_type: str
    """The model's architecture, as its `config.json` names it."""
    config: dict[str, int] = {}
    """Other entries of that file that decide the model's size."""
    hook: str
    """The SAE's hook, for example `blocks.20.hook_resid_post`."""
    latents: Count
    """Latents of the SAE."""
    l0: Positive | None = None
    """Active latents per token, by the SAE's makers."""


class CorpusSettings(Settings):
    """Documents with a text column: a Hugging Face dataset, streamed, or local files."""

    dataset: str | None = None
    """Hugging Face dataset name, for example `HuggingFaceFW/fineweb`, or a folder of one (of its
    files, or as `save_to_disk` writes it), relative to the project's folder."""
    config: str | None = None
    """Configuration of that dataset, for example `sample-10BT`."""
    split: str = "train"
    """Split of that dataset."""
    revision: str | None = None
    """Commit, tag or branch of that dataset. Without one it is the newest commit when the asset
    `sae_fit` is made, which all shards then use: pin it, so that other machines do, too."""
    files: str | None = None
    """Glob of local .parquet, .jsonl or .txt files, relative to the project's folder. All are read
    as UTF-8; of .jsonl files each line is a JSON object, and blank lines are passed over."""
    txt_documents: Literal["line", "file"] = "line"
    """What is a document of .txt files: each of their lines (a blank one is an empty document,
    which gives no tokens), or each file as a whole."""
    text_column: str = "text"
    """Column that holds the text."""
    seed: int = 42
    """Seed of the order in which the files of a Hugging Face dataset take turns."""

    @model_validator(mode="after")
    def _one_source(self) -> "CorpusSettings":
        if (self.dataset is None) == (self.files is None):
            raise ValueError("give either dataset or files")
        return self


class CacheSettings(Settings):
    """How the corpus is cut into chunks and shards, and what of the SAE's codes is kept."""

    seq_len: Annotated[int, Field(ge=2)] = 256
    """Tokens per chunk, BOS included; a shorter remainder of a document is dropped."""
    prepend_bos: Annotated[str, Field(min_length=1)] = "auto"
    """Whether BOS opens each document: `auto`, as the SAE says it was trained; `yes`; `no`; or the
    token that does, as the vocabulary spells it. Where the tokenizer has no BOS, its end-of-text
    token stands in."""
    max_doc_tokens: Count = 3000
    """Documents of `4 * max_doc_tokens` characters or more are dropped."""
    documents_per_shard: Count = 10_000
    """Documents that a shard may take its tokens from: shard s those from
    s * documents_per_shard on, so that each is always made of the same ones."""
    tokens_per_shard: Count = 1_000_000
    """Tokens of a shard, in whole chunks; its documents have to give that many."""
    training_shards: Count = 8
    """Shards whose tokens train the AANets."""
    heldout_shards: Count = 4
    """Shards kept for vertex samples; no AANet ever sees them."""
    batch_chunks: Count = 32
    """Chunks in one forward pass of the language model."""
    activity_threshold: NonNegative = 1e-6
    """A latent is active at a token when its code exceeds this. Codes are in units of the residual
    stream: of an SAE that normalises each token they are scaled back."""

    @model_validator(mode="after")
    def _a_chunk_at_least(self) -> "CacheSettings":
        if self.tokens_per_shard < self.seq_len:
            raise ValueError(
                f"tokens_per_shard is {self.tokens_per_shard} and a chunk has {self.seq_len} "
                "(seq_len): a shard needs one chunk at least"
            )
        return self

    @property
    def chunks_per_shard(self) -> int:
        """Chunks of a shard."""
        return self.tokens_per_shard // self.seq_len


class FitSettings(Settings):
    """What an SAE that belongs to model, layer and dtype does on the corpus's first tokens."""

    tokens: Count = 8_192
    """Tokens it is tried on."""
    min_l0: Positive = 1.0
    """Least number of active latents per token, on average."""
    max_l0: Positive = 1_000.0
    """Largest."""
    max_l0_share: Share = 0.25
    """Largest number of active latents per token, as a share of all latents: codes in which more
    of them are active are not sparse. Shards of the activation cache are held to it, too."""
    max_unexplained: Positive = 0.5
    """Largest share of the residual stream's variance that its reconstruction leaves."""
    max_median_unexplained: Positive = 0.5
    """Largest share that it leaves of a token's squared distance from the mean, for the median
    token. Variance can be that of a few tokens of huge norm; this cannot."""
    max_largest_share: Share = 0.5
    """Share of the squared distances from the mean above which the largest 1% of tokens are said
    to decide what variance there is; only warns."""
    neighbour_ratio: Annotated[float, Field(ge=0, le=1)] = 0.75
    """The SAE is refused where the residual stream of a layer beside the hook leaves the median
    token a share unexplained that is less than this times the hook's own; 0 refuses none."""


class PredictionSettings(Settings):
    """How the language model's predictions at held-out tokens are kept."""

    groups: Annotated[int, Field(ge=4)] = 1_024
    """Groups of tokens into which probabilities are summed: the half of them are one frequent token
    each, and the other half hold all other tokens. A vocabulary that is no larger is kept whole.
    Each takes two bytes per held-out token."""


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


class SelectionSettings(Settings):
    """Quality filters, categories and manual picks of stage 2."""

    mode: Literal["elbow", "geometric", "functional"] = "elbow"
    """`elbow`: by the guide's filters and categories. `geometric`: by the evidence, whose
    thresholds are in the study's `controls`. `functional`: by what the model does with the simplex,
    with thresholds in the study's `belief`, without which there is no such mode. Of the settings
    below only `min_latents` and the manual ones matter to these two. The verdicts of all modes are
    in the table, whichever is used."""
    min_latents: Count = 2
    """Least number of latents."""
    recon_monotonic: bool = True
    """The reconstruction loss must not rise up to its elbow. Where it may, a strength above
    sqrt(1/2), which no falling loss has, counts in no mean, standard deviation or category."""
    arch_monotonic: bool = True
    """The archetypal loss must not rise up to its elbow; where it may, likewise."""
    min_recon_pct_decrease: Annotated[float, Field(ge=0, le=100)] = 20.0
    """Least decrease of the reconstruction loss, in per cent."""
    min_arch_pct_decrease: Annotated[float, Field(ge=0, le=100)] = 20.0
    """Least decrease of the archetypal loss, in per cent."""
    max_k_differential: Annotated[int, Field(ge=0)] = 1
    """Largest distance between the two elbows."""
    a_sd: FiniteFloat = 1.0
    """Category A: both strengths above mean + this many standard deviations."""
    b_sd: FiniteFloat = 3.0
    """Category B: reconstruction strength above mean + this many."""
    c_sd: FiniteFloat = 3.0
    """Category C: archetypal strength above mean + this many."""
    d_sd: FiniteFloat = 0.0
    """Category D: equal elbows and both strengths above mean + this many."""
    k_from: Literal["archetypal", "reconstruction"] = "archetypal"
    """Elbow that gives the k of stage 3."""
    manual_clusters: str = ""
    """Clusters taken whatever the filters say (category M), as `512:23,45;768:100`."""
    manual_k: str = ""
    """k of stage 3 for single clusters, as `512:261=3`; several are split by `;`."""

    @field_validator("mode", mode="before")
    @classmethod
    def _mode_of_today(cls, mode: object) -> object:
        renamed = {"guide": "elbow", "calibrated": "geometric"}
        if isinstance(mode, str) and (now := renamed.get(mode)):
            raise ValueError(f"this mode is called {now!r} now: set mode={now!r}")
        return mode

    @field_validator("manual_clusters")
    @classmethod
    def _manual_clusters_parse(cls, text: str) -> str:
        parse_manual_clusters(text)
        return text

    @field_validator("manual_k")
    @classmethod
    def _manual_k_parse(cls, text: str) -> str:
        parse_manual_k(text)
        return text


class ControlSettings(Settings):
    """What clusters are compared with, null clusters and replicates, and how much is enough."""

    nulls: Count = 100
    """Null clusters, at least; they come in whole shuffles, each as many as there are clusters."""
    chance: Count = 2_000
    """Chance groups, at least, with which coactivities are compared. They are made like null
    clusters, but get no rows and no AANets, so that there can be many, and even a few clusters
    among hundreds can be told from chance."""
    replicates: Count = 5
    """AANets per cluster and k, each with a seed of its own; of as many null clusters as well, so
    that all take twice this many times what stage 1 does. With 1 there are only those of stage 1,
    and elbows are not compared with null clusters'."""
    max_q: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest q-value at which latents count as firing together."""
    min_fit: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Least fit of a simplex; docs/calibration.md says where it comes from."""
    near_share: Share = 0.03
    """Share of a cluster's rows, those nearest to a vertex, that should stand there: the fit counts
    how near they come to it."""
    shape_rows: Count = 4_000
    """Rows of a cluster that simplices are fitted to, at most; drawn at random where there are
    more."""
    hinge_weight: Positive = 100.0
    """Of the smallest simplex around rows: weight of the hinge, which is the mean negative
    barycentric coordinate, against the log volume. Higher takes in more of the rows that stick
    out, and makes the vertices lonelier."""
    hinge_smoothing: Positive = 0.02
    """Negative barycentric coordinates up to this count by their square."""
    seed: int = 44
    """Seed of the null clusters."""


_CONTROLS_TODAY = (
    "is called controls now: set controls=ControlSettings(...), or in YAML the group controls"
)


def __getattr__(name: str) -> object:
    """Tell a study of an earlier version, which imports the group by its old name, the new one."""
    if name == "TrustSettings":
        raise ImportError(f"the group trust=TrustSettings(...) {_CONTROLS_TODAY}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def refuse_old_names(cls: Any, given: Any) -> Any:
    """Refuse a group of a study that has another name today, by saying which.

    Raises:
        ValueError: there is one.
    """
    if isinstance(given, dict) and "trust" in given:
        raise ValueError(f"the group trust {_CONTROLS_TODAY}")
    return given


class BeliefSettings(Settings):
    """Whether the model uses a simplex as beliefs: what is looked at, and how much is enough."""

    tokens: Count = 200_000
    """Held-out tokens that are looked at, at most: those of the first whole chunks."""
    scored_tokens: Count = 6_000
    """Tokens of a cluster that mixtures are fitted to and judged by, at most."""
    pairs: Count = 200
    """Times that a token must follow one of a cluster's, with the cluster active again, to have an
    operator of its own."""
    edited_tokens: Count = 150
    """Tokens of a cluster at which its coordinates are replaced."""
    edit_points: Count = 25
    """Points of its simplex that take their place."""
    near_tokens: Count = 100
    """Tokens nearest to each vertex that are steered to the others, at most."""
    min_kl_explained: Annotated[float, Field(le=1)] = 0.95
    """Least share of the divergence of predictions from their mean that a mixture explains."""
    min_prediction_r2: Annotated[float, Field(le=1)] = 0.95
    """Least R^2 of next-token probabilities by the chain's operators."""
    min_two_step_r2: Annotated[float, Field(le=1)] = 0.9
    """Least R^2 of coordinates two tokens later by two operators."""
    min_int_r2: Annotated[float, Field(le=1)] = 0.9
    """Least R^2 of predictions under edits by those at the vertices."""
    max_context: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of their variance that may be due to the token that was edited."""
    min_moved: NonNegative = 0.01
    """Least mean divergence, in nats, by which edits must move predictions."""
    seed: int = 45
    """Seed of all that is drawn."""


class InterpretationSettings(Settings):
    """Names for vertices, from a language model behind an OpenAI-compatible address or from words.

    It needs the study's `belief`.
    """

    endpoint: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """Address of the API, such as `http://localhost:8000/v1`; without one, vertices are named by
    the words that stand near them and not near the others."""
    explainer: str = ""
    """Name of the model that names vertices."""
    scorer: str | None = None
    """Name of the model that is asked which passages fit a name; the explainer if None."""
    key_variable: str = "OPENAI_API_KEY"
    """Variable of the environment that holds the key; it may be unset."""
    examples: Count = 12
    """Passages from which a vertex is named."""
    scored: Count = 20
    """Passages by which its name is scored, and as many hard others."""
    timeout: Positive = 60.0
    """Seconds that an answer may take."""
    seed: int = 46
    """Seed of the passages, handed to the endpoint, too."""

    @model_validator(mode="after")
    def _a_model(self) -> "InterpretationSettings":
        if self.endpoint and not self.explainer:
            raise ValueError("an endpoint needs the name of a model: set explainer")
        return self


class RefitSettings(Settings):
    """How stage 3 gets the model of a selected cluster."""

    mode: Literal["retrain", "stage1"] = "retrain"
    """`retrain` trains afresh with extrema of its own; `stage1` takes the model of stage 1."""
    extrema: ExtremaSettings = ExtremaSettings(max_rows=10_000)
    """Extrema of `retrain`."""


class VertexSettings(Settings):
    """Which held-out tokens are samples of a vertex, and how many are gathered."""

    distance: Positive = 0.1
    """Barycentric distance from a vertex under which a token is near it."""
    samples_per_vertex: Count = 1_000
    """Samples (chunks) wanted per vertex."""
    max_tokens: Count = 1_000_000
    """Tokens looked at, at most, per cluster."""


class LocalSettings(Settings):
    """Model, corpus and SAE of a study that makes them itself, on this machine and without a hub.

    The study's `model`, `corpus` and `sae` name the places where they are put.
    """

    package: str
    """Installed Python package that carries the language model as a GGUF file."""
    characters: Count = 20_000_000
    """Characters of prose gathered at most."""
    layer: Annotated[int, Field(ge=0)]
    """The SAE reads the residual stream after this layer."""
    latents: Count
    """Latents of the SAE."""
    active: Count = 32
    """Latents active per token, on average."""
    sae_tokens: Count = 1_000_000
    """Tokens that train the SAE; their activations are held in memory in half precision."""
    sae_steps: Count = 2_500
    """Steps of 2,048 tokens that train the SAE."""
    seed: int = 42
    """Seed of the corpus's order and of the SAE."""


_PROCESS = r"^(union7|union22|product5|.+\.json|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$"


class TruthSettings(Settings):
    """What is known of the tokens: a process that the corpus is sampled from, or a file."""

    process: Annotated[str, Field(pattern=_PROCESS)] | None = None
    """The process: one of `toy/process.py`, by default `union7`; a JSON file of hidden Markov
    models, relative to the project's folder (docs/toy.md); or `module:Class`, a class of a module
    there (docs/truth.md)."""
    targets: str | None = None
    """In place of a process, for any corpus of local files: a Parquet file of what is known of each
    token, relative to the project's folder (docs/truth.md)."""
    seed: int = 7
    """Seed of the documents."""
    n_clusters: Count = 7
    """The clustering whose recovery the summary shows; the largest where the study has it not."""

    @model_validator(mode="before")
    @classmethod
    def _the_toy_by_default(cls, given: Any) -> Any:
        is_open = isinstance(given, dict) and not given.keys() & {"process", "targets"}
        return {**given, "process": "union7"} if is_open else given

    @model_validator(mode="after")
    def _one_truth(self) -> "TruthSettings":
        if (self.process is None) == (self.targets is None):
            raise ValueError("give either process or targets")
        return self
