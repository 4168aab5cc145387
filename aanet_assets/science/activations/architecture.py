"""What a language model's config says of it, and whether its residual stream can be read.

Here belong questions that need no weights. A language model inside another model (one that looks
at images, too) is found there, and only it is ever run.
"""

from contextlib import suppress
from typing import cast

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from aanet_assets.study.study import Study

_SUPPORTED = (
    "supported are causal language models of transformers, alone or inside a model of images and "
    "text, whose layers run once each and hand on one residual stream"
)


class _FirstLayerReached(Exception):  # noqa: N818 - no error: it ends a forward pass
    """Without weights, there is no more to see."""


def load_config(study: Study, local_files_only: bool = False) -> PreTrainedConfig:
    """The config of a study's model.

    Raises:
        OSError: there is none, or it is on a hub that cannot be reached.
        ValueError: the installed transformers does not know the architecture.
    """
    try:
        return AutoConfig.from_pretrained(
            **study.pretrained, local_files_only=local_files_only, trust_remote_code=False
        )
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"the model {study.model!r} cannot be read: transformers {transformers.__version__} "
            "does not know its architecture, and code that comes with a model is never run "
            f"({_first_line(error)}); {_SUPPORTED}"
        ) from None


def class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class, without a head, of the whole model that the config is of.

    Raises:
        ValueError: it is no causal language model, or runs some layers more than once.
    """
    if config.is_encoder_decoder:
        raise unreadable(config, "it has an encoder and a decoder")
    text = config.get_text_config()
    causal = any(
        type(part) in mapping
        for part in (config, text)
        for mapping in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
    )
    if not causal or type(config) not in MODEL_MAPPING:
        raise unreadable(config, "it is no causal language model")
    # After such a layer, there are as many residual streams as it has runs.
    if loops := [name for name in text.to_dict() if "loop" in name]:
        raise unreadable(config, f"some of its layers run more than once ({', '.join(loops)})")
    return cast(type[PreTrainedModel], MODEL_MAPPING[type(config)])


def class_with_head(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of the whole model that predicts the next token.

    Raises:
        ValueError: its residual stream cannot be read, or it has no such head.
    """
    class_of(config)
    for mapping in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING):
        if type(config) in mapping:
            return cast(type[PreTrainedModel], mapping[type(config)])
    raise unreadable(config, "it has no head that predicts the next token")


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The whole model without a head and without weights: its tensors have shapes only.

    Raises:
        ValueError: its residual stream cannot be read.
    """
    kind = class_of(config)
    try:
        with torch.device("meta"):
            # Of the ways to attend, the one that asks nothing of the values of a mask.
            model = kind._from_config(config, attn_implementation="eager")
    except Exception as error:
        raise unreadable(config, _first_line(error)) from None
    body = body_of(model)
    seen: list[Tensor] = []

    def keep(_layer: nn.Module, inputs: tuple, named: dict) -> None:
        seen.append(stream_into(inputs, named))
        raise _FirstLayerReached

    handle = layers_of(body)[0].register_forward_pre_hook(keep, with_kwargs=True)
    tokens = torch.zeros(1, 3, dtype=torch.long, device="meta")
    # A model that looks at values cannot be run like this; its reader looks at the shape again.
    with suppress(_FirstLayerReached, RuntimeError):
        body(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    handle.remove()
    for stream in seen:
        check_stream(stream, tokens, body)
    return model


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """The language model without a head that a model is, or has inside.

    Raises:
        ValueError: there is none with one list of its layers.
    """
    text = model.config.get_text_config()
    found = [
        part
        for part in model.modules()
        if isinstance(part, PreTrainedModel)
        and type(part.config) is type(text)
        and len(_lists(part)) == 1
    ]
    if len(found) != 1:
        raise unreadable(model.config, "its language model has no single list of layers")
    return found[0]


def layers_of(body: PreTrainedModel) -> nn.ModuleList:
    """The layers of what `body_of` gives, whatever the architecture calls them."""
    (layers,) = _lists(body)
    return layers


def stream_into(inputs: tuple, named: dict) -> Tensor:
    """The residual stream among the arguments of a layer, by place and by name."""
    return inputs[0] if inputs else named["hidden_states"]


def stream_out_of(output: Tensor | tuple) -> Tensor:
    """The residual stream in what a layer returns."""
    return output if isinstance(output, Tensor) else output[0]


def check_stream(stream: Tensor, tokens: Tensor, body: PreTrainedModel) -> None:
    """ValueError if a layer's input or output is not one vector per token."""
    expected = (*tokens.shape, body.config.hidden_size)
    if stream.shape != expected:
        raise unreadable(
            body.config,
            f"its layers hand on values of shape {tuple(stream.shape)} in place of one vector per "
            f"token, {expected}",
        )


def _lists(body: PreTrainedModel) -> list[nn.ModuleList]:
    number = getattr(body.config, "num_hidden_layers", None)
    return [
        child
        for child in body.children()
        if isinstance(child, nn.ModuleList) and len(child) == number
    ]


def unreadable(config: PreTrainedConfig, why: str) -> ValueError:
    """The error that says of a model why it cannot be read."""
    names = ", ".join(config.architectures or [type(config).__name__])
    return ValueError(
        f"the model is a {names} ({config.model_type}), which cannot be read: {why}; {_SUPPORTED}"
    )


def _first_line(error: Exception) -> str:
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
