"""The Fisher information of predictions against exact derivatives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from aanet_assets.activations.architecture import body_of, layers_of, stream_into, stream_out_of
from aanet_assets.activations.fisher import fisher_information
from aanet_assets.activations.sae import Hook
from aanet_assets_tests.activations.families import written
from aanet_assets_tests.small import small_study

TEXT = np.array([[3, 7, 1], [9, 2, 4]])
SPECIAL = np.array([[True, False, False]] * 2)


def exact(directory: str, hook: Hook) -> np.ndarray:
    """Mean over counted tokens of J^T (diag p - p p^T) J, over all predictions of the chunk."""
    model = AutoModelForCausalLM.from_pretrained(directory).eval().requires_grad_(False)
    layer = layers_of(body_of(model))[hook.layer]
    total = np.zeros((32, 32))
    for chunk in torch.from_numpy(TEXT):
        kept: list[Tensor] = []
        put: list[Tensor] = []

        def before(_: object, inputs: tuple, named: dict, kept=kept, put=put) -> tuple | None:
            kept.append(stream_into(inputs, named))
            return ((put[-1], *inputs[1:]), named) if put else None

        def after(_: object, __: tuple, output: object, kept=kept, put=put) -> object:
            kept.append(stream_out_of(output))  # pyright: ignore[reportArgumentType]
            if not put:
                return output
            return put[-1] if isinstance(output, Tensor) else (put[-1], *output[1:])  # pyright: ignore

        if hook.side == "pre":
            handle = layer.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = layer.register_forward_hook(after)
        model(input_ids=chunk[None], use_cache=False)
        stream = kept[0].detach()

        def logits(given: Tensor, chunk=chunk, put=put) -> Tensor:
            put.append(given)
            return model(input_ids=chunk[None], use_cache=False).logits[0]

        slopes = torch.autograd.functional.jacobian(logits, stream)[:, :, 0].double().numpy()
        p = logits(stream).softmax(-1).double().numpy()
        handle.remove()
        for position in (1, 2):
            for row in range(3):
                own = slopes[row, :, position]
                total += own.T @ (np.diag(p[row]) - np.outer(p[row], p[row])) @ own
    return total / 4


@pytest.mark.parametrize("hook", [Hook(2, "post"), Hook(1, "pre")])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_it_is_the_covariance_of_exact_scores(family: str, hook: Hook, tmp_path: Path) -> None:
    _, directory = written(tmp_path, family)
    study = small_study(model=directory, cache={"seq_len": 3, "batch_chunks": 4_000})
    many = np.tile(TEXT, (4_000, 1)), np.tile(SPECIAL, (4_000, 1))
    found = fisher_information(study, hook, *many, seed=0)
    expected = exact(directory, hook)
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
    np.testing.assert_array_equal(found, fisher_information(study, hook, *many, seed=0))
