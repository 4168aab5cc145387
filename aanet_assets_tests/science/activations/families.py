"""Small random models of every family with SAEs."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
)

LAYERS = 3
_SIZES = {
    "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "vocab_size": 50,
    "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GATED = {**_SIZES, "intermediate_size": 64, "num_key_value_heads": 2}
_WINDOW = {"head_dim": 8, "sliding_window": 4}
_MIXED = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_GPT = {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "vocab_size": 50, "n_positions": 32}
_LATENT = {
    **_GATED, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8, "v_head_dim": 8,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
}  # fmt: skip
_EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": _GPT,
    "gpt_neo": {
        **_SIZES, "num_layers": LAYERS, "num_heads": 4, "intermediate_size": 64, "window_size": 4,
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
    "bloom": {"hidden_size": 32, "n_layer": LAYERS, "n_head": 4, "vocab_size": 50},
    "opt": {**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 16},
    "falcon": _SIZES,
    "stablelm": {**_GATED, "partial_rotary_factor": 0.5},
    "cohere": _GATED,
    "granite": {**_GATED, "embedding_multiplier": 12.0, "residual_multiplier": 0.2},
    "smollm3": _GATED,
    "mamba": {"hidden_size": 32, "num_hidden_layers": LAYERS, "vocab_size": 50, "state_size": 8},
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
WRAPPED: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": FAMILIES["gemma3_text"], "vision_config": _SIGHT, "mm_tokens_per_image": 4,
        "image_token_index": 49, "boi_token_index": 47, "eoi_token_index": 48,
    },
    "llava": {
        "text_config": {**_GATED, "model_type": "llama"}, "image_token_index": 49,
        "vision_config": {**_SIGHT, "model_type": "clip_vision_model", "projection_dim": 16},
    },
    "mistral3": {
        "text_config": {**FAMILIES["mistral"], "model_type": "mistral"}, "image_token_index": 49,
        "vision_config": {**_SIGHT, "model_type": "pixtral", "head_dim": 8},
    },
    "paligemma": {
        "text_config": {**FAMILIES["gemma"], "model_type": "gemma"}, "image_token_index": 49,
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
TOKENS = torch.randint(3, 46, (2, 12), generator=torch.Generator().manual_seed(1))
"""Longer than the windows."""


def written(folder: Path, family: str, **saving: Any) -> tuple[PreTrainedModel, str]:
    """A random model of a family, whole, and where it is written."""
    config = AutoConfig.for_model(family, **{**FAMILIES, **WRAPPED}[family])
    kind = AutoModelForImageTextToText if family in WRAPPED else AutoModelForCausalLM
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
