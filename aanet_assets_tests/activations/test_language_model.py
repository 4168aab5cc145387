"""What is read of a model's lower layers against the whole model, on every family with SAEs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
)

from aanet_assets.activations.architecture import layers_of
from aanet_assets.activations.language_model import ResidualReader
from aanet_assets.activations.sae import Hook, parse_hook
from aanet_assets.activations.size import size_of
from aanet_assets_tests.small import small_study

_LAYERS = 3
_SIZES = {
    "hidden_size": 32, "num_hidden_layers": _LAYERS, "num_attention_heads": 4, "vocab_size": 50,
    "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GATED = {**_SIZES, "intermediate_size": 64, "num_key_value_heads": 2}
_WINDOW = {"head_dim": 8, "sliding_window": 4}
_MIXED = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_GPT = {"n_embd": 32, "n_layer": _LAYERS, "n_head": 4, "vocab_size": 50, "n_positions": 32}
_LATENT = {
    **_GATED, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8, "v_head_dim": 8,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
}  # fmt: skip
_EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
_FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": _GPT,
    "gpt_neo": {
        **_SIZES, "num_layers": _LAYERS, "num_heads": 4, "intermediate_size": 64, "window_size": 4,
        "attention_types": [[["global", "local", "global"], 1]],
    },
    "gpt_neox": {**_SIZES, "intermediate_size": 64},
    "gptj": {**_GPT, "rotary_dim": 4},
    "llama": _GATED,
    "mistral": {**_GATED, **_WINDOW},
    "mixtral": {**_GATED, "num_local_experts": 4},
    "qwen2": {**_GATED, "sliding_window": 4, "use_sliding_window": True, **_MIXED},
    "qwen3": {**_GATED, "head_dim": 8},
    "qwen3_moe": {**_GATED, **_EXPERTS, "head_dim": 8, "num_experts": 4},
    "gemma": {**_GATED, "head_dim": 8},
    "gemma2": {**_GATED, **_WINDOW, **_MIXED, "query_pre_attn_scalar": 8},
    "gemma3_text": {**_GATED, **_WINDOW, **_MIXED, "query_pre_attn_scalar": 8},
    "gemma4_text": {
        **_GATED, **_WINDOW, "num_kv_shared_layers": 1, "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 50, "global_head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    },
    "gpt_oss": {**_GATED, **_WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2, **_MIXED},
    "phi": {**_GATED, "partial_rotary_factor": 0.5},
    "phi3": _GATED,
    "olmo": _GATED,
    "olmo2": _GATED,
    "olmo3": {**_GATED, "sliding_window": 4, **_MIXED},
    "olmoe": {**_GATED, "num_experts": 4, "num_experts_per_tok": 2},
    "minicpm3": {**_LATENT, "scale_depth": 1.4, "scale_emb": 12, "dim_model_base": 16},
    "deepseek_v3": {
        **_LATENT, **_EXPERTS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "bloom": {"hidden_size": 32, "n_layer": _LAYERS, "n_head": 4, "vocab_size": 50},
    "opt": {**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 16},
    "falcon": _SIZES,
    "stablelm": {**_GATED, "partial_rotary_factor": 0.5},
    "cohere": _GATED,
    "granite": {**_GATED, "embedding_multiplier": 12.0, "residual_multiplier": 0.2},
    "smollm3": _GATED,
    "mamba": {"hidden_size": 32, "num_hidden_layers": _LAYERS, "vocab_size": 50, "state_size": 8},
}  # fmt: skip
_SIGHT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
_SIGHT_QWEN = {
    "depth": 1, "hidden_size": 16, "out_hidden_size": 32, "num_heads": 2, "patch_size": 14,
    "intermediate_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 16,
}  # fmt: skip
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
_WRAPPED: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": _FAMILIES["gemma3_text"], "vision_config": _SIGHT, "mm_tokens_per_image": 4,
        "image_token_index": 49, "boi_token_index": 47, "eoi_token_index": 48,
    },
    "llava": {
        "text_config": {**_GATED, "model_type": "llama"}, "image_token_index": 49,
        "vision_config": {**_SIGHT, "model_type": "clip_vision_model", "projection_dim": 16},
    },
    "mistral3": {
        "text_config": {**_FAMILIES["mistral"], "model_type": "mistral"}, "image_token_index": 49,
        "vision_config": {**_SIGHT, "model_type": "pixtral", "head_dim": 8},
    },
    "paligemma": {
        "text_config": {**_FAMILIES["gemma"], "model_type": "gemma"}, "image_token_index": 49,
        "vision_config": {**_SIGHT, "model_type": "siglip_vision_model"}, "projection_dim": 32,
    },
    "idefics3": {
        "text_config": {**_GATED, "model_type": "llama"}, "image_token_id": 49,
        "vision_config": _SIGHT,
    },
    "qwen2_vl": {
        "text_config": {**_GATED, "rope_parameters": _ROPE}, "image_token_id": 49,
        "vision_config": {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
    },
    "qwen3_vl": {
        "text_config": {**_GATED, "head_dim": 8, "rope_parameters": _ROPE}, "image_token_id": 49,
        "vision_config": _SIGHT_QWEN,
    },
}  # fmt: skip
_TOKENS = torch.randint(3, 46, (2, 12), generator=torch.Generator().manual_seed(1))
"""Longer than the windows."""


def written(folder: Path, family: str, **saving: Any) -> tuple[PreTrainedModel, str]:
    """A random model of a family, whole, and where it is written."""
    config = AutoConfig.for_model(family, **{**_FAMILIES, **_WRAPPED}[family])
    kind = AutoModelForImageTextToText if family in _WRAPPED else AutoModelForCausalLM
    torch.manual_seed(0)
    model = kind.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Each layer counts: as they are drawn, most writes are a thousandth of the stream.
            if parameter.ndim >= 2:
                parameter.mul_(4)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, **saving)
    return model, str(folder)


def whole_streams(model: nn.Module, tokens: Tensor) -> dict[Hook, Tensor]:
    """What each layer of a whole model is given and returns, by hooks of their own.

    The last of transformers' hidden states is normalised, and Mamba's are those after a layer.
    """
    (layers,) = (
        part
        for name, part in model.named_modules()
        if isinstance(part, nn.ModuleList)
        and len(part) == _LAYERS
        and re.fullmatch(
            r"((model|transformer|backbone|decoder|gpt_neox|language_model|text_model)\.)*(h|layers)",
            name,
        )
    )
    seen: dict[Hook, Tensor] = {}

    def before(place: int) -> Callable[..., None]:
        return lambda _, inputs: seen.update({Hook(place, "pre"): inputs[0]})

    def after(place: int) -> Callable[..., None]:
        return lambda _, inputs, output: seen.update(
            {Hook(place, "post"): output if torch.is_tensor(output) else output[0]}
        )

    handles = []
    for place, layer in enumerate(layers):
        handles += [
            layer.register_forward_pre_hook(before(place)),
            layer.register_forward_hook(after(place)),
        ]
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("family", [*_FAMILIES, *_WRAPPED])
def test_every_layer_of_every_family_is_read_as_in_the_whole_model(
    family: str, tmp_path: Path
) -> None:
    model, directory = written(tmp_path, family)
    study = small_study(model=directory)
    expected = whole_streams(model, _TOKENS)
    assert len(expected) == 2 * _LAYERS
    # The layers above are gone from the one; the other has all of them, and all points.
    below = ResidualReader(study, Hook(1, "post"))(_TOKENS)
    torch.testing.assert_close(below, expected[Hook(1, "post")], rtol=1e-5, atol=1e-5)
    streams = ResidualReader(study, Hook(0, "pre"), others=expected).streams(_TOKENS)
    assert streams.keys() == expected.keys()
    for hook, stream in expected.items():
        torch.testing.assert_close(streams[hook], stream, rtol=1e-5, atol=1e-5)


def loaded(module: nn.Module) -> set[str]:
    """Parameters that are more than a shape."""
    return {name for name, parameter in module.named_parameters() if not parameter.is_meta}


@pytest.mark.parametrize("side", ["pre", "post"])
@pytest.mark.parametrize("layer", range(_LAYERS))
def test_weights_above_the_point_are_not_loaded(layer: int, side: str, tmp_path: Path) -> None:
    model, directory = written(tmp_path, "llama")
    hook = parse_hook(f"blocks.{layer}.hook_resid_{side}")
    read = ResidualReader(small_study(model=directory), hook)
    layers = layers_of(read.body)
    assert len(layers) == _LAYERS, "whoever counts them finds as many as the config says"
    assert [bool(loaded(one)) for one in layers] == [
        place < layer + (side == "post") for place in range(_LAYERS)
    ]
    assert torch.equal(read(_TOKENS), whole_streams(model, _TOKENS)[hook])


def test_only_the_text_part_of_a_wrapper_is_loaded(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "gemma3")
    read = ResidualReader(small_study(model=directory), Hook(0, "post"))
    parameters = sum(p.numel() for p in read.body.parameters() if not p.is_meta)
    size = size_of(AutoConfig.from_pretrained(directory), Hook(0, "post"))
    # Beside embeddings and layers, the last norm.
    assert size.read == parameters
    assert size.everything > parameters + size.multiplied
    assert (size.d_model, size.heads) == (32, 4)


@pytest.mark.parametrize("how", ["shards", "bin", "bfloat16", "other names"])
def test_checkpoints_of_every_make(how: str, tmp_path: Path) -> None:
    family = "gemma3" if how == "other names" else "gemma2"
    model, directory = written(
        tmp_path, family, max_shard_size="20KB" if how == "shards" else "1GB"
    )
    weights = tmp_path / "model.safetensors"
    if how == "shards":
        # Nothing of the topmost layer is read: what stands there may be broken.
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
        assert len(set(index.values())) > 3
        for name, file in index.items():
            kept = load_file(tmp_path / file)
            if f"layers.{_LAYERS - 1}." in name:
                save_file({**kept, name: torch.zeros(1)}, tmp_path / file, {"format": "pt"})
    if how == "bin":
        torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
        weights.unlink()
    if how == "other names":
        renamed = {
            key.replace("language_model.model.", "model.language_model."): value
            for key, value in load_file(weights).items()
        }
        assert renamed.keys() != load_file(weights).keys()
        save_file(renamed, weights, {"format": "pt"})
    dtype = "bfloat16" if how == "bfloat16" else "float32"
    if how == "bfloat16":
        # As transformers loads it, which leaves the angles of rotary embeddings in float32.
        model = type(model).from_pretrained(directory, dtype=torch.bfloat16)
    expected = whole_streams(model, _TOKENS)[Hook(1, "post")]
    found = ResidualReader(small_study(model=directory, dtype=dtype), Hook(1, "post"))(_TOKENS)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "llama")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    study = small_study(model=directory)
    with pytest.raises(ValueError, match=r"lack 1 weights .* layers\.1\.mlp\.up_proj\.weight"):
        ResidualReader(study, Hook(1, "post"))
    ResidualReader(study, Hook(1, "pre"))


def test_nothing_above_the_point_runs(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "llama")
    read = ResidualReader(small_study(model=directory), Hook(1, "post"))
    norm = read.body.get_submodule("norm")
    norm.register_forward_hook(lambda *_: pytest.fail("the last norm was run"))
    read(_TOKENS)


def test_a_centred_stream_has_mean_zero(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "gpt2")
    study, hook = small_study(model=directory), Hook(1, "post")
    plain = ResidualReader(study, hook)(_TOKENS)
    centred = ResidualReader(study, hook, centred=True)(_TOKENS)
    torch.testing.assert_close(centred, plain - plain.mean(-1, keepdim=True))
    assert plain.mean(-1).abs().max() > 1e-3


@pytest.mark.parametrize(("family", "capped"), [("gemma2", True), ("gemma3", False)])
def test_soft_capped_attention_is_not_fused(family: str, capped: bool, tmp_path: Path) -> None:
    _, directory = written(tmp_path, family)
    read = ResidualReader(small_study(model=directory), Hook(1, "post"))
    assert (read.body.config._attn_implementation == "eager") == capped


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_a_layer_the_model_does_not_have(family: str, tmp_path: Path) -> None:
    _, directory = written(tmp_path, family)
    with pytest.raises(ValueError, match=r"reads layer 3; .* has layers 0 to 2"):
        ResidualReader(small_study(model=directory), Hook(3, "post"))


@pytest.mark.parametrize("name", ["blocks.3.hook_mlp_out", "hook_embed", "blocks.x.hook_resid_pre"])
def test_hooks_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="hook_resid_post are supported"):
        parse_hook(name)
