"""How large a language model is, from its config alone; nothing of it is loaded."""

from typing import NamedTuple

import torch
from transformers import AutoConfig, PreTrainedConfig

from aanet_assets.science.activations.architecture import body_of, layers_of, load_config, skeleton
from aanet_assets.science.activations.language_model import layers_below
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.study.study import Study


class Size(NamedTuple):
    """Numbers of parameters, and what one token takes on the way through."""

    everything: int
    """Parameters of the whole model, images' part and all; head tied or not counted."""
    read: int
    """Parameters that are loaded: embeddings, and layers up to the hook."""
    multiplied: int
    """Those of them that every token is multiplied with: all but the embeddings."""
    with_head: int
    """Parameters that are loaded for predictions: everything, and a head that is not tied."""
    to_predict: int
    """Those that every token is multiplied with on the way to its prediction."""
    vocabulary: int
    d_model: int
    heads: int
    largest: int
    """Outputs of the widest matrix of a layer."""


def config_of(study: Study) -> PreTrainedConfig:
    """The model's config: of its directory, of the hub's local copy, or as the study states it.

    Raises:
        ValueError: it is on a hub, was never downloaded, and the study states nothing.
    """
    try:
        return load_config(study, local_files_only=True)
    except OSError:
        if study.hub is None:
            raise ValueError(
                f"the model {study.model!r} is not on this machine, and the study does not say "
                "how large it is: make or download it first, or give the study "
                "hub=HubSettings(...), as aanet_assets/defs/gemma_2_9b.py does"
            ) from None
        return AutoConfig.for_model(study.hub.model_type, **study.hub.config)


def size_of(config: PreTrainedConfig, hook: Hook) -> Size:
    """Counts of a model of that config, read at that hook.

    Raises:
        ValueError: its residual stream cannot be read.
    """
    whole = skeleton(config)
    body, text = body_of(whole), config.get_text_config()
    layers = list(layers_of(body))
    in_layers = sum(map(_parameters, layers[: layers_below(hook)]))
    in_all_layers, head = sum(map(_parameters, layers)), text.vocab_size * text.hidden_size
    embeddings, everything = _parameters(body) - in_all_layers, _parameters(whole)
    return Size(
        everything=everything,
        read=embeddings + in_layers,
        multiplied=in_layers,
        with_head=everything + (0 if text.tie_word_embeddings else head),
        to_predict=in_all_layers + head,
        vocabulary=text.vocab_size,
        d_model=text.hidden_size,
        # State-space models have none.
        heads=getattr(text, "num_attention_heads", 0),
        largest=max(max(p.shape) for p in layers[0].parameters() if p.ndim == 2),
    )


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
