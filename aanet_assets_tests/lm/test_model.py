"""The truncated model against the whole one, with all hidden states, on three architectures."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
)

from aanet_assets.lm.model import ResidualReader, layers_of
from aanet_assets.lm.sae import Hook, parse_hook
from aanet_assets_tests.small import small_study

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
    "max_position_embeddings": 32,
}
_CONFIGS = {
    "gpt2": GPT2Config(n_embd=32, n_layer=4, n_head=4, vocab_size=50, n_positions=32),
    "llama": LlamaConfig(**_SIZES),
    "gemma2": Gemma2Config(**_SIZES, head_dim=8, sliding_window=4),
}


@pytest.fixture(params=_CONFIGS)
def whole(request: pytest.FixtureRequest, tmp_path: Path):
    config: PreTrainedConfig = _CONFIGS[request.param]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path)
    return model, str(tmp_path)


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("side", ["pre", "post"])
def test_reads_what_the_whole_model_has_there(whole, layer: int, side: str) -> None:
    model, directory = whole
    tokens = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(1))
    # A hook of its own on the whole model: the last of transformers' hidden states is normalised.
    seen = {}
    layers = model.base_model.h if hasattr(model.base_model, "h") else model.base_model.layers
    for place, block in enumerate(layers):
        block.register_forward_hook(
            lambda _block, _inputs, output, place=place: seen.update(
                {place: output if torch.is_tensor(output) else output[0]}
            )
        )
    with torch.no_grad():
        states = model(tokens, output_hidden_states=True).hidden_states
    expected = states[layer] if side == "pre" else seen[layer]
    read = ResidualReader(
        small_study(model=directory), parse_hook(f"blocks.{layer}.hook_resid_{side}")
    )
    torch.testing.assert_close(read(tokens), expected)


def test_layers_above_the_hook_are_gone(whole) -> None:
    _, directory = whole
    read = ResidualReader(small_study(model=directory), Hook(1, "post"))
    assert len(layers_of(read.body)) == 2
    below = ResidualReader(small_study(model=directory), Hook(2, "pre"))
    assert len(layers_of(below.body)) == 2, "before layer 2 is after layer 1"


def test_a_centred_stream_has_mean_zero(whole) -> None:
    _, directory = whole
    study, hook = small_study(model=directory), Hook(1, "post")
    tokens = torch.randint(0, 50, (2, 5), generator=torch.Generator().manual_seed(1))
    plain = ResidualReader(study, hook)(tokens)
    centred = ResidualReader(study, hook, centred=True)(tokens)
    torch.testing.assert_close(centred, plain - plain.mean(-1, keepdim=True))
    assert plain.mean(-1).abs().max() > 1e-3


def test_soft_capped_attention_is_not_fused(whole) -> None:
    model, directory = whole
    read = ResidualReader(small_study(model=directory), Hook(1, "post"))
    capped = model.config.model_type == "gemma2"
    assert (read.body.config._attn_implementation == "eager") == capped


def test_a_layer_the_model_does_not_have(whole) -> None:
    _, directory = whole
    with pytest.raises(ValueError, match=r"reads layer 4; .* has layers 0 to 3"):
        ResidualReader(small_study(model=directory), Hook(4, "post"))


@pytest.mark.parametrize("name", ["blocks.3.hook_mlp_out", "hook_embed", "blocks.x.hook_resid_pre"])
def test_hooks_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="hook_resid_post are supported"):
        parse_hook(name)
