"""How large a language model is, from its config alone; nothing of it is loaded."""

from typing import NamedTuple

import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig

from aanet_assets.lm.model import layers_of
from aanet_assets.lm.sae import Hook
from aanet_assets.study import Study


class Size(NamedTuple):
    """Numbers of parameters, and what one token takes on the way through."""

    everything: int
    """Parameters of the whole model, head tied or not counted."""
    read: int
    """Parameters that are loaded: embeddings, and layers up to the hook."""
    multiplied: int
    """Those of them that every token is multiplied with: all but the embeddings."""
    d_model: int
    heads: int
    largest: int
    """Outputs of the widest matrix of a layer."""


def config_of(study: Study) -> PretrainedConfig:
    """The model's config: of its directory, of the hub's local copy, or as the study states it.

    Raises:
        ValueError: it is on a hub, was never downloaded, and the study states nothing.
    """
    try:
        return AutoConfig.from_pretrained(**study.pretrained, local_files_only=True)
    except OSError:
        if study.hub is None:
            raise ValueError(
                f"the model {study.model!r} is not on this machine, and the study does not say "
                "how large it is: make or download it first, or give the study "
                "hub=HubSettings(...), as aanet_assets/studies/gemma_2_9b.py does"
            ) from None
        return AutoConfig.for_model(study.hub.model_type, **study.hub.config)


def size_of(config: PretrainedConfig, hook: Hook) -> Size:
    """Counts of a model of that config, read at that hook."""
    with torch.device("meta"):
        body = AutoModel.from_config(config)
    layers = list(layers_of(body))
    below = layers[: hook.layer + (hook.side == "post")]
    in_layers = sum(map(_parameters, below))
    embeddings = _parameters(body) - sum(map(_parameters, layers))
    return Size(
        everything=_parameters(body),
        read=embeddings + in_layers,
        multiplied=in_layers,
        d_model=config.hidden_size,
        heads=config.num_attention_heads,
        largest=max(max(p.shape) for p in layers[0].parameters() if p.ndim == 2),
    )


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
