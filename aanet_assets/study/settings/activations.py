"""Settings of what a study looks at: SAE, corpus, their cache, and what is known of the tokens."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from aanet_assets.study.settings.base import Count, NonNegative, Positive, Settings, Share


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
    config: dict[str, int] = Field(default_factory=dict)
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
    shards_per_run: Count = 1
    """Shards that one run of a backfill makes, one after the other: more than one where starting a
    run, which takes some seconds, is more than a small part of a shard's time."""
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
    """The process: one of `science/toy/process.py`, by default `union7`; a JSON file of hidden
    Markov models, relative to the project's folder (docs/toy.md); or `module:Class`, a class of a
    module there (docs/truth.md)."""
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
