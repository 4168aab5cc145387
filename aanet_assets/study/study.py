"""The study: one frozen object that says everything the pipeline needs to know.

A study module builds one (`Study(...)`) and hands it to `build_defs`. Checks that need no file
happen here, when the study is built; those that read the model or the SAE are in
`science/activations/preflight.py`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from aanet_assets.study.layout import StudyPaths, data_root
from aanet_assets.study.picks import parse_manual_clusters, parse_manual_k
from aanet_assets.study.settings import (
    AANetSettings,
    BeliefSettings,
    CacheSettings,
    ClusteringSettings,
    ControlSettings,
    CorpusSettings,
    ExtremaSettings,
    FitSettings,
    HubSettings,
    InterpretationSettings,
    LocalSettings,
    PredictionSettings,
    RefitSettings,
    RowSettings,
    SaeSettings,
    SelectionSettings,
    Settings,
    TruthSettings,
    VertexSettings,
    refuse_old_names,
)

_REMOTE = r"^s3://[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9._-]+)*$"


class Activations(Settings):
    """A language model, an SAE on one of its layers and a corpus: where sparse codes come from.

    They have a folder and assets of their own, `sae_fit` and `activation_cache` among them, which
    several studies may share.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Prefix of the asset keys and name of the folder under `data/`."""
    model: str
    """A Hugging Face causal language model: a name, or a directory relative to the project's
    folder."""
    revision: str | None = None
    """Commit, tag or branch of a model on the hub, its tokenizer included. Without one it is the
    newest commit when the asset `sae_fit` is made, which all later work then uses, too."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type in which the language model runs."""
    remote: Annotated[str, Field(pattern=_REMOTE)] | None = None
    """Where results are kept, as `s3://bucket` or `s3://bucket/prefix`, in a folder for each study;
    `data/` is then a cache of it. None: they are kept in `data/`."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the language model, the SAE and the AANets run."""
    sae: SaeSettings
    """The sparse autoencoder."""
    hub: HubSettings | None = None
    """How large the model and the SAE are, where they are on a hub."""
    corpus: CorpusSettings
    """The documents."""
    cache: CacheSettings = CacheSettings()
    """Chunks and shards."""
    fit: FitSettings = FitSettings()
    """What an SAE that fits does; one that does not is refused before any shard is made."""
    predictions: PredictionSettings = PredictionSettings()
    """What is kept of the model's next-token distributions."""
    truth: TruthSettings | None = None
    """Set when the answer is known: of a process that the corpus is sampled from, or by a file."""
    local: LocalSettings | None = None
    """Set when model, corpus and SAE are made on this machine."""

    @property
    def activations_name(self) -> str:
        """Name under which the activations are made and kept."""
        return self.name

    @property
    def alone(self) -> "Study":
        """A study of nothing but these: it has their assets, and no clusters."""
        description = f"Activations of {self.model} by {self.sae.name}, for studies to share."
        return self.sharing(self.name, description=description).model_copy(
            update={"n_clusters": ()}
        )

    def sharing(self, name: str, **fields: Any) -> "Study":
        """A study on these activations: what they are is made once, for all that share them.

        Args:
            name: of the study.
            fields: its own settings, as those of `Study`; the defaults, and not this study's, hold
                where none are given (`n_clusters=mine.n_clusters`).

        Raises:
            ValueError: a field belongs to the activations, which are shared.
        """
        if shared := sorted(fields.keys() & Activations.model_fields.keys()):
            raise ValueError(
                f"study {name!r} shares the activations of {self.activations_name!r}, and so its "
                f"{', '.join(shared)}: leave them out, or give the study activations of its own"
            )
        alike = {field: getattr(self, field) for field in Activations.model_fields}
        return Study(**{**alike, "name": name, "activations": self.activations_name, **fields})


class Study(Activations):
    """Activations, and how to look for simplices in them."""

    activations: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    """Name of the activations, or of the study whose they are; the study's own where None.
    `sharing` sets it."""
    description: str = ""
    """One sentence for people."""
    n_clusters: tuple[Annotated[int, Field(ge=1)], ...] = (128, 256, 512, 768)
    """Numbers of clusters, each a clustering of its own."""
    ks: tuple[Annotated[int, Field(ge=2)], ...] = (2, 3, 4, 5, 6, 7, 8)
    """Numbers of archetypes."""
    clustering: ClusteringSettings = ClusteringSettings()
    """How latents are grouped."""
    rows: RowSettings = RowSettings()
    """Which tokens train an AANet."""
    extrema: ExtremaSettings = ExtremaSettings()
    """Warm start of stage 1."""
    aanet: AANetSettings = AANetSettings()
    """Network and training."""
    selection: SelectionSettings = SelectionSettings()
    """Stage 2."""
    controls: ControlSettings = ControlSettings()
    """Null clusters, replicates and evidence."""
    belief: BeliefSettings | None = None
    """Whether the model uses the simplices; None asks nothing of it beyond its activations."""
    interpretation: InterpretationSettings | None = None
    """Names for vertices; None gives them none."""
    refit: RefitSettings = RefitSettings()
    """Models of stage 3."""
    vertices: VertexSettings = VertexSettings()
    """Vertex samples of stage 3."""

    _refuse_old_names = model_validator(mode="before")(refuse_old_names)

    @field_validator("n_clusters", "ks")
    @classmethod
    def _ascending(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not values or list(values) != sorted(set(values)):
            raise ValueError(f"{values} must be one or more different numbers in ascending order")
        return values

    @model_validator(mode="after")
    def _one_origin(self) -> "Study":
        if self.process is not None and self.local is not None:
            raise ValueError("give truth.process or local, not both: each makes the corpus")
        if self.truth is not None and self.truth.targets and self.corpus.files is None:
            raise ValueError(
                "truth.targets says what is known of tokens of local files: set corpus.files"
            )
        return self

    @model_validator(mode="after")
    def _names_need_belief(self) -> "Study":
        if self.interpretation is not None and self.belief is None:
            raise ValueError(
                "interpretation needs belief, in whose simplices vertices are: set "
                "belief=BeliefSettings()"
            )
        return self

    @model_validator(mode="after")
    def _limits_of_the_mode(self) -> "Study":
        if self.selection.mode == "functional" and self.belief is None:
            raise ValueError(
                "selection.mode is 'functional', which selects by what the model does, and this "
                "study asks nothing of it: set belief=BeliefSettings(), or another mode"
            )
        return self

    @model_validator(mode="after")
    def _manual_picks_exist(self) -> "Study":
        picks = parse_manual_clusters(self.selection.manual_clusters)
        manual_ks = parse_manual_k(self.selection.manual_k)
        named = [("manual_clusters", n, c) for n, ids in picks.items() for c in ids]
        named += [("manual_k", *pair) for pair in manual_ks]
        for setting, n, cluster_id in named:
            if n not in self.n_clusters:
                raise ValueError(
                    f"selection.{setting} names n_clusters {n}; this study has n_clusters "
                    f"{', '.join(map(str, self.n_clusters))}"
                )
            if cluster_id >= n:
                raise ValueError(
                    f"selection.{setting} names cluster {cluster_id} of n_clusters {n}; its ids "
                    f"run from 0 to {n - 1}"
                )
        for (n, cluster_id), k in manual_ks.items():
            if k not in self.ks:
                raise ValueError(
                    f"selection.manual_k of cluster {cluster_id} of {n} is {k}; this study has "
                    f"the ks {', '.join(map(str, self.ks))}"
                )
        return self

    @property
    def process(self) -> str | None:
        """The process that the corpus is sampled from; None of studies that have a corpus."""
        return None if self.truth is None else self.truth.process

    @property
    def sampled_from(self) -> str:
        """The process that the corpus is sampled from, of studies that sample it.

        Raises:
            ValueError: this study does not.
        """
        if self.process is None:
            raise ValueError(f"study {self.name!r} has no truth.process: it samples no corpus")
        return self.process

    @property
    def makes_corpus(self) -> bool:
        """Whether the corpus is made by the study, and so is not there before it is run."""
        return self.process is not None or self.local is not None

    @property
    def shown_n_clusters(self) -> int:
        """The clustering that summaries show."""
        wanted = None if self.truth is None else self.truth.n_clusters
        return wanted if wanted in self.n_clusters else self.n_clusters[-1]

    @property
    def known_truth(self) -> TruthSettings:
        """What is known of the tokens, of studies whose answer is known.

        Raises:
            ValueError: this study has none.
        """
        if self.truth is None:
            raise ValueError(f"study {self.name!r} has no truth: its answer is not known")
        return self.truth

    @property
    def made_locally(self) -> LocalSettings:
        """How model, corpus and SAE are made, of studies that make them.

        Raises:
            ValueError: this study does not.
        """
        if self.local is None:
            raise ValueError(f"study {self.name!r} has no local: it makes no model, corpus or SAE")
        return self.local

    @property
    def belief_settings(self) -> BeliefSettings:
        """What is asked of the model, of studies that ask it.

        Raises:
            ValueError: this study does not.
        """
        if self.belief is None:
            raise ValueError(f"study {self.name!r} has no belief: it asks nothing of the model")
        return self.belief

    @property
    def names_asked(self) -> InterpretationSettings:
        """How vertices are named, of studies that name them.

        Raises:
            ValueError: this study does not.
        """
        if self.interpretation is None:
            raise ValueError(f"study {self.name!r} has no interpretation: it names no vertices")
        return self.interpretation

    @property
    def revisions(self) -> dict[str, str | None]:
        """Commits of what is on a hub, by the names of the tables' columns."""
        return {
            "model_revision": self.revision,
            "corpus_revision": self.corpus.revision,
            "sae_revision": self.sae.revision,
        }

    @property
    def paths(self) -> StudyPaths:
        """Where this study's files lie."""
        return StudyPaths(data_root() / self.name)

    @property
    def activations_name(self) -> str:
        """Name of the study whose activations these are."""
        return self.activations or self.name

    @property
    def model_source(self) -> str:
        """What transformers loads: the model's directory where there is one, else its name."""
        directory = resolve(self.model)
        return str(directory) if directory.is_dir() else self.model

    @property
    def pretrained(self) -> dict[str, Any]:
        """What every `from_pretrained` of the model, its config and its tokenizer is given."""
        source = {"pretrained_model_name_or_path": self.model_source}
        return source if self.revision is None else source | {"revision": self.revision}

    @property
    def shards(self) -> range:
        """All shards."""
        return range(self.cache.training_shards + self.cache.heldout_shards)

    @property
    def training_shards(self) -> range:
        """Shards whose tokens train."""
        return range(self.cache.training_shards)

    @property
    def heldout_shards(self) -> range:
        """Shards no AANet sees."""
        return range(self.cache.training_shards, self.shards.stop)


def resolve(path: str) -> Path:
    """A path of a study, taken relative to the project's folder."""
    return data_root().parent / path


def process_path(process: str) -> Path:
    """The file of a process that is not shipped: a JSON file, or the module of `module:Class`."""
    module, is_class, _ = process.partition(":")
    if process.endswith(".json") or not is_class:
        return resolve(process)
    package = resolve(module.replace(".", "/"))
    inside = package / "__init__.py"
    return inside if inside.is_file() else package.with_suffix(".py")


def require_module_name(study: Study, module: str) -> None:
    """Refuse a study whose name is not its module's.

    Modules have different names, so studies have: two of one name would share a folder.

    Raises:
        ValueError: says what to do.
    """
    own = module.rpartition(".")[2]
    if own != study.name:
        raise ValueError(
            f"the module {module} builds a study named {study.name!r}, whose folder "
            f"data/{study.name} is that of the module {study.name}: two studies in one folder "
            f"would overwrite each other. Set name={own!r} in it, or rename the module to "
            f"{study.name} if there is no other of that name"
        )
