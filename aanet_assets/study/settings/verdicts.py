"""Settings of which simplices count, by which evidence, and of the text near their vertices."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, field_validator, model_validator

from aanet_assets.study.picks import parse_manual_clusters, parse_manual_k
from aanet_assets.study.settings.base import Count, NonNegative, Positive, Settings, Share


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


class VertexSettings(Settings):
    """Which held-out tokens are samples of a vertex, and how many are gathered."""

    distance: Positive = 0.1
    """Barycentric distance from a vertex under which a token is near it."""
    samples_per_vertex: Count = 1_000
    """Samples (chunks) wanted per vertex."""
    max_tokens: Count = 1_000_000
    """Tokens looked at, at most, per cluster."""


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
