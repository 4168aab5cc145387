"""Slopes of predictions against exact derivatives, position by position."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from aanet_assets.science.activations.architecture import (
    body_of,
    layers_of,
    stream_into,
    stream_out_of,
)
from aanet_assets.science.activations.effects import prediction_slopes
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets_tests.science.activations.families import written
from aanet_assets_tests.small import small_study

TEXT = np.array([[3, 7, 1, 5], [9, 2, 4, 8]])
# What is predicted at the third token of the second chunk depends on the token before it.
SPECIAL = np.array([[True, False, False, False], [True, False, True, False]])
GROUPS = np.arange(50) % 20


def exact(directory: str, hook: Hook) -> tuple[np.ndarray, np.ndarray]:
    """Mean over counted tokens of the slopes of all log-probabilities of their chunk, and of p."""
    model = AutoModelForCausalLM.from_pretrained(directory).eval().requires_grad_(False)
    layer = layers_of(body_of(model))[hook.layer]
    seen: list[Tensor] = []
    put: list[Tensor] = []

    def before(_: object, inputs: tuple, named: dict) -> tuple | None:
        seen.append(stream_into(inputs, named))
        return ((put[-1], *inputs[1:]), named) if put else None

    def after(_: object, __: object, output: Tensor | tuple) -> Tensor | tuple:
        seen.append(stream_out_of(output))
        if not put:
            return output
        return put[-1] if isinstance(output, Tensor) else (put[-1], *output[1:])

    if hook.side == "pre":
        layer.register_forward_pre_hook(before, with_kwargs=True)
    else:
        layer.register_forward_hook(after)
    slopes, prediction = np.zeros((20, 32)), np.zeros(20)
    for chunk, counted in zip(torch.from_numpy(TEXT), ~SPECIAL, strict=True):
        put.clear()
        model(input_ids=chunk[None], use_cache=False)
        stream = seen[-1].detach()

        def gains(given: Tensor, chunk: Tensor = chunk) -> Tensor:
            put.append(given)
            p = model(input_ids=chunk[None], use_cache=False).logits[0].softmax(-1)
            return torch.stack([p[:, group == GROUPS].sum(1) for group in range(20)], 1).log()

        jacobian = torch.autograd.functional.jacobian(gains, stream)
        assert isinstance(jacobian, Tensor)
        slopes += jacobian[counted][:, :, 0, counted].sum((0, 2)).double().numpy()
        prediction += gains(stream).exp()[counted].sum(0).double().numpy()
    return slopes / 5, prediction / 5


@pytest.mark.parametrize("hook", [Hook(2, "post"), Hook(1, "pre")])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_slopes_are_derivatives_of_all_predictions(family: str, hook: Hook, tmp_path: Path) -> None:
    _, directory = written(tmp_path, family)
    study = small_study(
        model=directory, cache={"seq_len": 4, "batch_chunks": 1, "tokens_per_shard": 8}
    )
    found = prediction_slopes(study, hook, GROUPS, TEXT, SPECIAL)
    slopes, prediction = exact(directory, hook)
    np.testing.assert_allclose(found.slopes, slopes, atol=1e-5)
    np.testing.assert_allclose(found.prediction, prediction, atol=1e-6)
