"""The published toy: five components that all speak at every token, in letters of 432.

Three components have 3 hidden states, two are quantum decoys whose beliefs fill a disk. Latents of
one component exclude one another; what they do to predictions tells which belong together. How far
each clustering gets is in docs/toy.md.
"""

from aanet_assets.orchestration.build import build_defs
from aanet_assets.study.settings import (
    CacheSettings,
    ClusteringSettings,
    ControlSettings,
    CorpusSettings,
    FitSettings,
    RowSettings,
    SaeSettings,
    SelectionSettings,
    TruthSettings,
    VertexSettings,
)
from aanet_assets.study.study import Study

study = Study(
    name="toy_product",
    description="Five known components at once, three of them simplices, in 206k weights.",
    model="data/inputs/toy_product/model",
    sae=SaeSettings(directory="data/inputs/toy_product/sae"),
    corpus=CorpusSettings(files="data/toy_product/corpus/*.parquet"),
    cache=CacheSettings(
        seq_len=17,
        documents_per_shard=8_000,
        tokens_per_shard=8_000 * 17,
        training_shards=4,
        heldout_shards=1,
        batch_chunks=512,
    ),
    # One latent of each component at every token: 5 of 17.
    fit=FitSettings(max_l0_share=0.5),
    n_clusters=(5, 6, 7, 8),
    clustering=ClusteringSettings(method="spectral_effect"),
    # Of three states, one may be that in which the cluster's two latents are off.
    rows=RowSettings(threshold=0.3, threshold_kind="relative", max_rows=20_000, all_off=True),
    # As in the toy of turns: too few clusters for limits of three standard deviations.
    selection=SelectionSettings(
        b_sd=0.0,
        arch_monotonic=False,
        max_k_differential=6,
        k_from="reconstruction",
    ),
    controls=ControlSettings(chance=500, replicates=1),
    vertices=VertexSettings(samples_per_vertex=200),
    truth=TruthSettings(process="product5", n_clusters=5),
)
defs = build_defs(study)
