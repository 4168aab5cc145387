"""How much a model's predictions answer to each direction of its residual stream."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from aanet_assets.activations.architecture import layers_of, stream_into, stream_out_of
from aanet_assets.activations.language_model import require_layer, threads_for
from aanet_assets.activations.predictions import chunks_at_once
from aanet_assets.activations.sae import Hook
from aanet_assets.activations.upper import WholeModel
from aanet_assets.study.progress import Progress
from aanet_assets.study.study import Study
from aanet_assets.study.threads import torch_threads


def fisher_information(
    study: Study,
    hook: Hook,
    tokens: np.ndarray,
    special: np.ndarray,
    seed: int,
) -> Float64[np.ndarray, "d_model d_model"]:
    """Fisher information of the model's predictions in the residual stream, mean over tokens.

    F = E[g g^T], where g is the gradient, at one token's residual stream, of the log-probability of
    a next token drawn from the model's own prediction at every token of the chunk: a small step x
    of the stream changes predictions, here and later, by x F x / 2 nats. In squared nats per
    squared unit of the stream. One draw per token.

    Args:
        study: names the model.
        hook: where the stream is read.
        tokens: (chunks, seq) token ids.
        special: (chunks, seq), positions that do not count.
        seed: of the draws.

    Raises:
        ValueError: the model cannot be read, or lacks the layer.
    """
    whole = WholeModel(study)
    require_layer(study, whole.config, hook)
    model, seen = whole.model.requires_grad_(False), []

    def watched(stream: Tensor) -> Tensor:
        seen.append(stream.detach().requires_grad_())
        return seen[-1]

    def before(_layer: nn.Module, inputs: tuple, named: dict[str, Any]) -> tuple[tuple, dict]:
        stream = watched(stream_into(inputs, named))
        return (
            ((stream, *inputs[1:]), named) if inputs else ((), {**named, "hidden_states": stream})
        )

    def after(_layer: nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        stream = watched(stream_out_of(output))
        return stream if isinstance(output, Tensor) else (stream, *output[1:])

    layer = layers_of(whole.body)[hook.layer]
    if hook.side == "pre":
        layer.register_forward_pre_hook(before, with_kwargs=True)
    else:
        layer.register_forward_hook(after)
    draws = torch.Generator().manual_seed(seed)
    total, counted = 0, int((~special).sum())
    progress = Progress(tokens.size, "tokens", "gradients of predictions")
    size = chunks_at_once(study, whole.vocabulary)
    for start in range(0, len(tokens), size):
        ids = torch.from_numpy(tokens[start : start + size].astype(np.int64))
        with torch.enable_grad(), torch_threads(threads_for(whole.config)):
            logits = model(input_ids=ids.to(study.device), use_cache=False).logits.float()
            own = logits.log_softmax(-1)
            drawn = torch.multinomial(own.detach().exp().flatten(0, 1).cpu(), 1, generator=draws)
            likelihood = own.gather(-1, drawn.view(*ids.shape, 1).to(own.device)).sum()
            (gradient,) = torch.autograd.grad(likelihood, seen.pop())
        kept = gradient.cpu()[torch.from_numpy(~special[start : start + size])].double()
        total = total + kept.T @ kept
        progress.advance(ids.numel())
    return (torch.as_tensor(total) / counted).numpy()
