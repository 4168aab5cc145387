"""The language model, run up to the SAE's layer and no further."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from aanet_assets.lm.sae import Hook
from aanet_assets.study import Study


class ResidualReader:
    """Reads one point of the residual stream; the layers above it are not there at all."""

    def __init__(self, study: Study, hook: Hook):
        # Its bar over weights would garble the one over partitions.
        transformers_logging.disable_progress_bar()
        causal = AutoModelForCausalLM.from_pretrained(
            study.model_source, dtype=getattr(torch, study.dtype)
        )
        self.device = study.device
        self.body: nn.Module = causal.base_model.to(study.device).eval()
        layers = _layers(self.body)
        if hook.layer >= len(layers):
            raise ValueError(
                f"the SAE reads layer {hook.layer}; {study.model} has layers 0 to {len(layers) - 1}"
            )
        del layers[hook.layer + 1 :]
        self._seen: Tensor | None = None
        if hook.side == "post":
            layers[hook.layer].register_forward_hook(self._after)
        else:
            layers[hook.layer].register_forward_pre_hook(self._before, with_kwargs=True)

    def _after(self, _layer: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
        self._seen = output if isinstance(output, Tensor) else output[0]

    def _before(self, _layer: nn.Module, inputs: tuple, named: dict) -> None:
        self._seen = inputs[0] if inputs else named["hidden_states"]

    @torch.inference_mode()
    def __call__(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
        """Residual stream in float32."""
        self.body(input_ids=tokens.to(self.device), use_cache=False)
        assert self._seen is not None
        return self._seen.float()


def _layers(body: nn.Module) -> nn.ModuleList:
    """The list of transformer blocks, whatever the architecture calls it."""
    for name in ("layers", "h"):
        layers = getattr(body, name, None)
        if isinstance(layers, nn.ModuleList):
            return layers
    raise ValueError(
        f"{type(body).__name__} keeps its blocks neither in 'layers' nor in 'h': "
        "this architecture is not supported"
    )
