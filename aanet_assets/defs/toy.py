"""The toy: a small transformer on a process whose hidden simplices are known.

Seven components take turns: three with 3 hidden states, one with 2, one with 4, and two quantum
decoys whose beliefs fill a disk. The pipeline gets text, model and SAE, and has to find them.
"""

from aanet_assets.orchestration.build import build_defs
from aanet_assets.study.settings import (
    BeliefSettings,
    CacheSettings,
    ClusteringSettings,
    ControlSettings,
    CorpusSettings,
    InterpretationSettings,
    RowSettings,
    SaeSettings,
    SelectionSettings,
    TruthSettings,
    VertexSettings,
)
from aanet_assets.study.study import Study

study = Study(
    name="toy",
    description="Seven known components, five of them simplices, in a transformer of 154k weights.",
    model="data/inputs/toy/model",
    sae=SaeSettings(directory="data/inputs/toy/sae"),
    corpus=CorpusSettings(files="data/toy/corpus/*.parquet"),
    # A document is BOS and 16 letters: the whole context of the toy's transformer.
    cache=CacheSettings(
        seq_len=17,
        documents_per_shard=8_000,
        tokens_per_shard=8_000 * 17,
        training_shards=4,
        heldout_shards=1,
        batch_chunks=512,
    ),
    n_clusters=(6, 7, 8, 12),
    # Latents of one component fire together; their decoder rows need not be close.
    clustering=ClusteringSettings(method="spectral_cooccurrence", cooccurrence="phi"),
    # Faint activations of other components' tokens would blur the simplex and move its elbow.
    rows=RowSettings(threshold=0.3, threshold_kind="relative", max_rows=20_000),
    # What follows the mode is for the elbow mode's verdict, which stands beside: seven clusters are
    # too few for limits of three standard deviations, so that a reconstruction elbow stronger than
    # the average one is enough (category B). The archetypal loss of a simplex that fits is close to
    # zero, and its elbow and order are noise: they decide nothing here.
    selection=SelectionSettings(
        mode="functional",
        b_sd=0.0,
        arch_monotonic=False,
        max_k_differential=6,
        k_from="reconstruction",
    ),
    # Replicates of so many null clusters would take longer than all the rest.
    controls=ControlSettings(chance=500, replicates=1),
    belief=BeliefSettings(),
    interpretation=InterpretationSettings(),
    vertices=VertexSettings(samples_per_vertex=200),
    truth=TruthSettings(process="union7"),
)
defs = build_defs(study)
