"""Small stand-ins for the studies that need the hub: same architectures, dtypes and SAE formats."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig, StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config

from aanet_assets.science.activations.build import build_shard
from aanet_assets.science.activations.corpus import load_tokenizer
from aanet_assets.science.activations.shards import read_shard
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study

WIDTH, LATENTS = 32, 48
_GEMMA = Gemma2Config(
    hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, vocab_size=32, max_position_embeddings=32, sliding_window=8,
)  # fmt: skip
_GPT2 = GPT2Config(n_embd=WIDTH, n_layer=4, n_head=4, vocab_size=32, n_positions=32)


def stand_in(folder: Path, config, sae, dtype: str) -> Study:
    """A study of a random model of this architecture, with the toy's tokenizer, and this SAE."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder / "model")
    load_tokenizer(small_study()).save_pretrained(folder / "model")
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sae.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        if name == "threshold":
            parameter.data = parameter.data.abs()
    sae.save_model(folder / "sae")
    letters = " ".join(f"a{1 + i % 3} b{1 + i % 2}" for i in range(40))
    (folder / "corpus.txt").write_text("\n".join([letters] * 6))
    return small_study(
        model=str(folder / "model"),
        dtype=dtype,
        sae={"directory": str(folder / "sae")},
        corpus={"files": str(folder / "corpus.txt")},
        truth=None,
        selection={},
        cache={
            "seq_len": 16, "documents_per_shard": 6, "tokens_per_shard": 320, "batch_chunks": 8,
            "training_shards": 1, "heldout_shards": 1,
        },
    )  # fmt: skip


def metadata(hook: str, **more) -> SAEMetadata:
    return SAEMetadata(model_name="stand-in", hook_name=hook, **more)


@pytest.mark.parametrize("kind", ["gemma_scope", "gpt2_res_jb", "topk"])
def test_codes_are_those_of_the_sae_on_the_whole_models_stream(kind: str, tmp_path: Path) -> None:
    centring = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    match kind:
        case "gemma_scope":
            config, dtype, layer = _GEMMA, "bfloat16", 3
            about = metadata("blocks.2.hook_resid_post", prepend_bos=True)
            sae = JumpReLUSAE(
                JumpReLUSAEConfig(WIDTH, LATENTS, apply_b_dec_to_input=False, metadata=about)
            )
        case "gpt2_res_jb":
            config, dtype, layer = _GPT2, "float32", 2
            about = metadata("blocks.2.hook_resid_pre", prepend_bos=True, **centring)
            sae = StandardSAE(
                StandardSAEConfig(WIDTH, LATENTS, apply_b_dec_to_input=True, metadata=about)
            )
        case _:
            config, dtype, layer = _GPT2, "float32", 3
            about = metadata("blocks.2.hook_resid_post", prepend_bos=False)
            sae = TopKSAE(
                TopKSAEConfig(WIDTH, LATENTS, k=5, apply_b_dec_to_input=True, metadata=about)
            )
    study = stand_in(tmp_path, config, sae, dtype)
    build_shard(study, 0, tmp_path / "shard", "digest", 50.0)
    shard = read_shard(tmp_path / "shard")
    assert (shard.tokens[0, 0] == load_tokenizer(study).bos_token_id) == (kind != "topk")

    model = AutoModelForCausalLM.from_pretrained(study.model, attn_implementation="eager").eval()
    weights = {name: value.float() for name, value in sae.state_dict().items()}
    with torch.no_grad():
        tokens = torch.from_numpy(shard.tokens).long()
        stream = model(tokens, output_hidden_states=True).hidden_states[layer].float()
        if kind == "gpt2_res_jb":
            stream = stream - stream.mean(-1, keepdim=True)
        inside = stream if kind == "gemma_scope" else stream - weights["b_dec"]
        codes = torch.relu(inside @ weights["W_enc"] + weights["b_enc"])
        if kind == "gemma_scope":
            codes = codes * (codes > weights["threshold"])
        if kind == "topk":
            codes = codes * (codes >= codes.topk(5, dim=-1).values[..., -1:])
        codes[torch.from_numpy(shard.special)] = 0
    expected = codes.flatten(0, 1).numpy()
    found = shard.codes.toarray()
    assert shard.codes.nnz > 1_000
    # A code at the very threshold may fall on either side of it.
    both = (expected > 1e-3) & (found > 1e-3)
    assert (both == ((expected > 1e-3) | (found > 1e-3))).mean() > 0.999
    np.testing.assert_allclose(found[both], expected[both], rtol=2e-3, atol=2e-3)
