"""GPT-2 small, before layer 8, with a SAELens SAE, on FineWeb: the quickest study with internet."""

from aanet_assets.orchestration.build import build_defs
from aanet_assets.study.settings import CacheSettings, CorpusSettings, HubSettings, SaeSettings
from aanet_assets.study.study import Study

study = Study(
    name="gpt2_small",
    description="GPT-2 small, residual stream before layer 8, 24,576 latents, FineWeb.",
    model="openai-community/gpt2",
    sae=SaeSettings(release="gpt2-small-res-jb", id="blocks.8.hook_resid_pre"),
    # A gpt2 config without further entries is the small one.
    hub=HubSettings(model_type="gpt2", hook="blocks.8.hook_resid_pre", latents=24_576, l0=60),
    corpus=CorpusSettings(
        dataset="HuggingFaceFW/fineweb",
        config="sample-10BT",
        # Its tag v1.4.0.
        revision="9bb295ddab0e05d785b879661af7260fed5140fc",
    ),
    # The SAE was trained on contexts of 128 tokens.
    cache=CacheSettings(
        seq_len=128,
        documents_per_shard=2_000,
        tokens_per_shard=2**17,
        training_shards=4,
        heldout_shards=4,
    ),
    n_clusters=(128, 256, 512, 768),
)
defs = build_defs(study)
