"""Gemma 2 9B, layer 20, with a Gemma Scope SAE, on FineWeb: the guide's own study.

Every setting that is not named here has the guide's value as its default.
"""

from aanet_assets.orchestration.build import build_defs
from aanet_assets.study.settings import CacheSettings, CorpusSettings, HubSettings, SaeSettings
from aanet_assets.study.study import Study

study = Study(
    name="gemma_2_9b",
    description="Gemma 2 9B, residual stream after layer 20, Gemma Scope 16k, FineWeb.",
    model="google/gemma-2-9b",
    dtype="bfloat16",
    device="cuda",
    sae=SaeSettings(release="gemma-scope-9b-pt-res", id="layer_20/width_16k/average_l0_68"),
    hub=HubSettings(
        model_type="gemma2",
        config={
            "hidden_size": 3584,
            "intermediate_size": 14336,
            "num_hidden_layers": 42,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "vocab_size": 256_000,
        },
        hook="blocks.20.hook_resid_post",
        latents=16_384,
        l0=68,
    ),
    corpus=CorpusSettings(
        dataset="HuggingFaceFW/fineweb",
        config="sample-10BT",
        # Its tag v1.4.0.
        revision="9bb295ddab0e05d785b879661af7260fed5140fc",
    ),
    cache=CacheSettings(
        documents_per_shard=4_000, tokens_per_shard=2**18, training_shards=4, heldout_shards=4
    ),
    n_clusters=(128, 256, 512, 768),
    ks=(2, 3, 4, 5, 6, 7, 8),
)
defs = build_defs(study)
