"""The harder toy: sixteen simplices of two to five vertices among six decoys.

It is for calibration: how well the evidence tells simplices from decoys (disks and balls) and from
null clusters, and how often it finds the right k. Here everything has replicates.
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
    name="toy_large",
    description="22 known components, 16 of them simplices, in a transformer of 620k weights.",
    model="data/inputs/toy_large/model",
    sae=SaeSettings(directory="data/inputs/toy_large/sae"),
    corpus=CorpusSettings(files="data/toy_large/corpus/*.parquet"),
    cache=CacheSettings(
        seq_len=17,
        documents_per_shard=8_000,
        tokens_per_shard=8_000 * 17,
        training_shards=4,
        heldout_shards=1,
        batch_chunks=512,
    ),
    n_clusters=(22,),
    clustering=ClusteringSettings(method="spectral_cooccurrence", cooccurrence="phi"),
    rows=RowSettings(threshold=0.3, threshold_kind="relative", max_rows=20_000),
    selection=SelectionSettings(mode="functional"),
    controls=ControlSettings(replicates=5),
    belief=BeliefSettings(),
    interpretation=InterpretationSettings(),
    vertices=VertexSettings(samples_per_vertex=200),
    truth=TruthSettings(process="union22", n_clusters=22),
)
defs = build_defs(study)
