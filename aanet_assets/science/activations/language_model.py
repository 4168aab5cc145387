"""The language model, run up to the SAE's layer and no further."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from aanet_assets.science.activations.architecture import (
    body_of,
    check_stream,
    class_of,
    layers_of,
    load_config,
    stream_into,
    stream_out_of,
)
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.study.study import Study
from aanet_assets.study.threads import torch_threads

LARGE = 512
"""Widths from which a model on the CPU works on all cores."""


class FarEnough(Exception):  # noqa: N818 - no error: it ends a forward pass
    """All that was asked for has been seen."""


class ResidualReader:
    """Reads the residual stream at one point, or at several of them in one pass.

    `hook_resid_pre` of a layer is what the layer is given, `hook_resid_post` what it returns: an
    embedding's scale, a norm after the embedding, and norms of the layer's own are in it.

    The model is built as its own config says. Weights of the layers above are not loaded, and a
    forward pass ends where the last of the points has been seen.

    Args:
        study: names the model, its dtype and device.
        hook: the point.
        centred: subtract from each vector the mean of its entries. What TransformerLens calls a
            model with centred writing weights has this stream: each of its writes is centred.
        others: further points, for `streams`.

    Raises:
        ValueError: the model cannot be read, lacks the layer or some of its weights.
    """

    def __init__(
        self, study: Study, hook: Hook, centred: bool = False, others: Iterable[Hook] = ()
    ):
        config = load_config(study)
        self.hook, hooks = hook, {hook, *others}
        require_layer(study, config, max(hooks))
        self._last = max(hooks, key=layers_below)
        self.body = _load(study, config, layers_below(self._last))
        self._model, self.device, self.centred = study.model, study.device, centred
        self.threads = threads_for(config)
        self._seen: dict[Hook, Tensor] = {}
        layers = layers_of(self.body)
        for layer in layers[layers_below(self._last) :]:
            layer.register_forward_pre_hook(_end)
        for one in hooks:
            if one.side == "pre":
                # Before `_end`, which the layer above the last point has, too.
                layers[one.layer].register_forward_pre_hook(
                    self._before(one), with_kwargs=True, prepend=True
                )
            else:
                layers[one.layer].register_forward_hook(self._after(one))

    def _before(self, hook: Hook) -> Callable[..., None]:
        def keep(_layer: nn.Module, inputs: tuple, named: dict) -> None:
            self._keep(hook, stream_into(inputs, named))

        return keep

    def _after(self, hook: Hook) -> Callable[..., None]:
        def keep(_layer: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
            self._keep(hook, stream_out_of(output))

        return keep

    def _keep(self, hook: Hook, stream: Tensor) -> None:
        self._seen[hook] = stream
        if hook == self._last:
            raise FarEnough

    def __call__(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
        """Residual stream in float32."""
        return self.streams(tokens)[self.hook]

    @torch.inference_mode()
    def streams(
        self, tokens: Int[Tensor, "batch seq"]
    ) -> dict[Hook, Float[Tensor, "batch seq d_model"]]:
        """Residual streams in float32, at every point.

        Raises:
            ValueError: there is none: tokens alone do not run the layer, or not in one stream; or
                the model does not have one of the tokens.
        """
        words = self.body.config.get_text_config().vocab_size
        if tokens.numel() and int(tokens.max()) >= words:
            raise ValueError(
                f"the tokenizer of {self._model} makes token {int(tokens.max())} of the corpus, "
                f"and the model has tokens 0 to {words - 1}: they are not of the same model, or "
                "tokens were added to the tokenizer alone; get the model's own tokenizer"
            )
        self._seen = {}
        with torch_threads(self.threads), suppress(FarEnough):
            self.body(input_ids=tokens.to(self.device), use_cache=False)
        if self._last not in self._seen:
            raise ValueError(
                f"layer {self._last.layer} of {type(self.body).__name__} does not run on tokens "
                "alone: choose an SAE of another layer"
            )
        streams = {}
        for hook, seen in self._seen.items():
            check_stream(seen, tokens, self.body)
            stream = seen.float()
            streams[hook] = stream - stream.mean(-1, keepdim=True) if self.centred else stream
        return streams


def layers_below(hook: Hook) -> int:
    """Number of layers that run before the residual stream is what it is there."""
    return hook.layer + (hook.side == "post")


def _end(_layer: nn.Module, _inputs: tuple) -> None:
    raise FarEnough


def require_layer(study: Study, config: PreTrainedConfig, hook: Hook) -> None:
    """Refuse a point of a layer that the model does not have.

    Raises:
        ValueError: says which layers it has.
    """
    layers = config.get_text_config().num_hidden_layers
    if hook.layer >= layers:
        raise ValueError(
            f"the SAE reads layer {hook.layer}; {study.model} has layers 0 to {layers - 1}"
        )


def threads_for(config: PreTrainedConfig) -> int | None:
    """Threads on which a model works best on the CPU; None for all."""
    return None if config.get_text_config().hidden_size >= LARGE else 1


def _load(study: Study, config: PreTrainedConfig, count: int) -> PreTrainedModel:
    """The language model with the weights of `count` layers; those above have shapes only."""
    kind = class_of(config)
    body: PreTrainedModel | None = None
    layers, above = nn.ModuleList(), nn.ModuleList()

    def build(self: PreTrainedModel, *args: Any, **named: Any) -> None:
        nonlocal body, layers, above
        kind.__init__(self, *args, **named)
        # Weights of what is not there when they are loaded are not read from the files.
        body = body_of(self)
        layers = layers_of(body)
        above = layers[count:]
        del layers[count:]
        _drop_all_but(self, body)

    # By the name of a class, transformers knows the names of its weights in older files.
    lower: type[PreTrainedModel] = type(
        kind.__name__, (kind,), {"__init__": build, "__module__": kind.__module__}
    )
    load_weights(lower, study, config, lambda _: layers)
    assert body is not None
    body.to(study.device).eval()
    # Their number is as before, whoever counts them, and a point before the first can be read.
    layers.extend(above)
    return body


def load_weights(
    kind: type[PreTrainedModel],
    study: Study,
    config: PreTrainedConfig,
    layers_in: Callable[[PreTrainedModel], nn.ModuleList],
) -> PreTrainedModel:
    """A study's model as one of the classes for its config, in the study's dtype, on the CPU.

    Args:
        kind: the class.
        study: names the model and its dtype.
        config: the model's.
        layers_in: gives the layers of the language model in it.

    Raises:
        ValueError: its files lack some of the weights, have more layers than its config says, or
            cannot be read.
    """
    # PyTorch's fused attention leaves out Gemma 2's soft-capping of scores.
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    # A bar over weights would garble the one over partitions; the weights of the layers above
    # would be reported as unexpected.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        found: Any = kind.from_pretrained(
            **study.pretrained,
            config=config,
            dtype=getattr(torch, study.dtype),
            attn_implementation="eager" if capped else None,
            output_loading_info=True,
        )
    except (ImportError, RuntimeError, SafetensorError) as error:
        # Of weights in other shapes it only says that there is a report, which is not shown.
        why = "they are of other sizes" if "mismatched_sizes" in str(error) else str(error)
        raise ValueError(
            f"the weights of {study.model} are not those that its config.json describes, or cannot "
            f"be read ({' '.join(why.split())}): get the model again"
        ) from None
    (place,) = [name for name, part in found[0].named_modules() if part is layers_in(found[0])]
    _refuse_further_layers(study, config, place, found[1]["unexpected_keys"])
    if missing := sorted(found[1]["missing_keys"]):
        raise ValueError(
            f"the files of {study.model} lack {len(missing)} weights that its config asks for, "
            f"{missing[0]} among them: it would run on random ones; get the model again"
        )
    return found[0]


def _refuse_further_layers(
    study: Study, config: PreTrainedConfig, place: str, unexpected: Iterable[str]
) -> None:
    """Refuse a model whose files hold layers above the last one of its config.

    Without them it predicts something else; and layers may depend on how many there are.
    """
    text = config.get_text_config()
    # Layers that predict further tokens stand behind the last one in some files.
    known = text.num_hidden_layers + (getattr(text, "num_nextn_predict_layers", None) or 0)
    numbers = [
        int(found[1])
        for name in unexpected
        if (found := re.search(rf"(?:^|\.){re.escape(place)}\.(\d+)\.", name))
    ]
    if (most := max(numbers, default=0)) >= known:
        raise ValueError(
            f"the files of {study.model} have weights of layer {most} and its config.json says "
            f"that there are {text.num_hidden_layers} layers: it would run without those above; "
            "get the model's own config.json"
        )


def _drop_all_but(model: nn.Module, body: nn.Module) -> None:
    """Empty all that is not on the way from the model to the language model inside it."""
    for name, child in model.named_children():
        if child is body or model is body:
            continue
        if any(part is body for part in child.modules()):
            _drop_all_but(child, body)
        else:
            setattr(model, name, nn.Identity())
