"""What a small step of the residual stream does to a model's predictions."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor, nn

from aanet_assets.science.activations.architecture import layers_of, stream_into, stream_out_of
from aanet_assets.science.activations.groups import GroupedPredictions
from aanet_assets.science.activations.language_model import require_layer, threads_for
from aanet_assets.science.activations.predictions import chunks_at_once
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.science.activations.upper import WholeModel
from aanet_assets.study.progress import Progress
from aanet_assets.study.study import Study
from aanet_assets.study.threads import torch_threads


class Slopes(NamedTuple):
    """Predictions and their slopes, each the mean over tokens."""

    slopes: Float64[np.ndarray, "groups d_model"]
    """Nats that log-probabilities gain, here and at later tokens, per unit of the stream."""
    prediction: Float64[np.ndarray, " groups"]
    """Probability of each group of tokens to come next."""


def prediction_slopes(
    study: Study,
    hook: Hook,
    groups: Int[np.ndarray, " vocab"],
    tokens: Int[np.ndarray, "chunks seq"],
    special: Bool[np.ndarray, "chunks seq"],
) -> Slopes:
    """Slopes of the log-probability of each group of tokens, by a backward pass for each.

    Args:
        study: names the model.
        hook: where the stream is read.
        groups: the group of each token of the vocabulary.
        tokens: ids of the text.
        special: positions that do not count: neither what is predicted there, nor the stream.

    Raises:
        ValueError: the model cannot be read, or lacks the layer.
    """
    whole = WholeModel(study)
    require_layer(study, whole.config, hook)
    model, sums = whole.model.requires_grad_(False), GroupedPredictions(groups, study.device)
    seen: list[Tensor] = []

    def watched(stream: Tensor) -> Tensor:
        seen.append(stream.detach().requires_grad_())
        return seen[-1]

    def before(_layer: nn.Module, inputs: tuple, named: dict[str, Any]) -> tuple[tuple, dict]:
        stream = watched(stream_into(inputs, named))
        if inputs:
            return (stream, *inputs[1:]), named
        return inputs, {**named, "hidden_states": stream}

    def after(_layer: nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        stream = watched(stream_out_of(output))
        return stream if isinstance(output, Tensor) else (stream, *output[1:])

    layer = layers_of(whole.body)[hook.layer]
    if hook.side == "pre":
        layer.register_forward_pre_hook(before, with_kwargs=True)
    else:
        layer.register_forward_hook(after)
    slopes, prediction = 0.0, 0.0
    progress = Progress(tokens.size, "tokens", "slopes of predictions")
    size = chunks_at_once(study, whole.vocabulary)
    for start in range(0, len(tokens), size):
        ids = torch.from_numpy(tokens[start : start + size].astype(np.int64)).to(study.device)
        counted = torch.from_numpy(~special[start : start + size]).to(study.device)
        with torch.enable_grad(), torch_threads(threads_for(whole.config)):
            logits = model(input_ids=ids, use_cache=False).logits.float()
            probabilities = sums(logits)
            # Of a group of probability 0 the logarithm would have no slope.
            gains = probabilities[counted].clamp_min(torch.finfo().tiny).log().sum(0)
            stream = seen.pop()
            own = [
                torch.autograd.grad(gain, stream, retain_graph=True)[0][counted].double().sum(0)
                for gain in gains
            ]
        slopes = slopes + torch.stack(own).cpu().numpy()
        prediction = prediction + probabilities[counted].detach().double().sum(0).cpu().numpy()
        progress.advance(ids.numel())
    number = int((~special).sum())
    return Slopes(np.asarray(slopes) / number, np.asarray(prediction) / number)
