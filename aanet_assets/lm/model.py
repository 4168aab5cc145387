"""The language model, run up to the SAE's layer and no further."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.utils import logging as transformers_logging

from aanet_assets.lm.sae import Hook
from aanet_assets.study import Study
from aanet_assets.threads import torch_threads

LARGE = 512
"""Widths from which a model on the CPU works on all cores."""


class ResidualReader:
    """Reads one point of the residual stream; the layers above it are not even loaded.

    Args:
        study: names the model, its dtype and device.
        hook: the point.
        centred: subtract from each vector the mean of its entries. What TransformerLens calls a
            model with centred writing weights has this stream: each of its writes is centred.
    """

    def __init__(self, study: Study, hook: Hook, centred: bool = False):
        config = AutoConfig.from_pretrained(**study.pretrained)
        if hook.layer >= config.num_hidden_layers:
            raise ValueError(
                f"the SAE reads layer {hook.layer}; {study.model} has layers 0 to "
                f"{config.num_hidden_layers - 1}"
            )
        # Before a layer is after the one below it, but for the first.
        last = hook.layer - 1 if hook.side == "pre" and hook.layer else hook.layer
        config.num_hidden_layers = last + 1
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: last + 1]
        # PyTorch's fused attention leaves out Gemma 2's soft-capping of scores.
        capped = getattr(config, "attn_logit_softcapping", None) is not None
        # A bar over weights would garble the one over partitions; the weights of the layers above
        # would be reported as unexpected.
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        self.body: nn.Module = (
            AutoModel.from_pretrained(
                **study.pretrained,
                config=config,
                dtype=getattr(torch, study.dtype),
                attn_implementation="eager" if capped else None,
            )
            .to(study.device)
            .eval()
        )
        self.device, self.centred = study.device, centred
        self.threads = None if config.hidden_size >= LARGE else 1
        self._seen: Tensor | None = None
        layer = layers_of(self.body)[last]
        if last == hook.layer and hook.side == "pre":
            layer.register_forward_pre_hook(self._before, with_kwargs=True)
        else:
            layer.register_forward_hook(self._after)

    def _after(self, _layer: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
        self._seen = output if isinstance(output, Tensor) else output[0]

    def _before(self, _layer: nn.Module, inputs: tuple, named: dict) -> None:
        self._seen = inputs[0] if inputs else named["hidden_states"]

    @torch.inference_mode()
    def __call__(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
        """Residual stream in float32."""
        with torch_threads(self.threads):
            self.body(input_ids=tokens.to(self.device), use_cache=False)
        assert self._seen is not None
        seen = self._seen.float()
        return seen - seen.mean(-1, keepdim=True) if self.centred else seen


def layers_of(body: nn.Module) -> nn.ModuleList:
    """The list of transformer blocks, whatever the architecture calls it."""
    for name in ("layers", "h"):
        layers = getattr(body, name, None)
        if isinstance(layers, nn.ModuleList):
            return layers
    raise ValueError(
        f"{type(body).__name__} keeps its blocks neither in 'layers' nor in 'h': "
        "this architecture is not supported"
    )
