"""Steps against torch's own Adam and against the formula written out slowly."""

import math

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet.optimiser import StackAdam, bias_corrections
from aanet_assets.science.aanet.parameters import FIRST, LAST, parameter_shapes, views
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.science.aanet.planted import random_basis

SETTINGS = AANetSettings(widths=(7, 5), weight_decay=0.02, clip_norm=2.0, beta2=0.98)
D_MODEL, RANK, K, MODELS, STEPS = 40, 6, 4, 3, 6
SHAPES = parameter_shapes(RANK, K, SETTINGS.widths)
SIZE = sum(int(np.prod(s)) for s in SHAPES.values())


def random_run():
    """Start, gradients per step and learning rates; some gradients are over the clipping norm."""
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(MODELS, SIZE, generator=rng, dtype=torch.float64)
    scale = torch.tensor([0.01, 0.2, 5.0])[:, None]
    gradients = torch.randn(STEPS, MODELS, SIZE, generator=rng, dtype=torch.float64) * scale
    return start, gradients, torch.tensor([0.1, 0.02, 0.05], dtype=torch.float64)


def corrections_of(models: int, steps: int) -> torch.Tensor:
    return torch.from_numpy(
        bias_corrections(np.zeros(models, dtype=np.int64), steps, SETTINGS.beta2)
    )


def stepped() -> dict[str, torch.Tensor]:
    start, gradients, lr = random_run()
    adam = StackAdam(MODELS, SHAPES, D_MODEL, SETTINGS, "cpu")
    adam.parameters.copy_(start)
    for gradient, corrections in zip(gradients, corrections_of(MODELS, STEPS), strict=True):
        adam.gradient.copy_(gradient)
        adam.step(lr, corrections)
    return adam.parameters_by_name


@pytest.mark.usefixtures("double")
def test_middle_layers_step_as_torch_adam_does():
    start, gradients, lr = random_run()
    found = stepped()
    for i in range(MODELS):
        own = {n: v[i].clone().requires_grad_() for n, v in views(start, SHAPES).items()}
        adam = torch.optim.Adam(
            own.values(), lr=float(lr[i]), weight_decay=SETTINGS.weight_decay, foreach=False,
            betas=(0.9, SETTINGS.beta2),
        )  # fmt: skip
        for gradient in gradients:
            for name, values in views(gradient, SHAPES).items():
                own[name].grad = values[i].clone()
            torch.nn.utils.clip_grad_norm_(own.values(), SETTINGS.clip_norm)
            adam.step()
        for name, values in own.items():
            if name != FIRST and name not in LAST:
                torch.testing.assert_close(found[name][i], values.detach())


def subspace_vectors(by_name: dict[str, torch.Tensor], model: int) -> np.ndarray:
    """Every vector of subspace coordinates in the first and last layer, one a row."""
    bias = by_name[LAST[1]][model][None]
    return torch.cat([by_name[FIRST][model], by_name[LAST[0]][model].T, bias]).numpy()


@pytest.mark.usefixtures("double")
def test_first_and_last_layer_share_their_second_moment():
    """The formula of the step, written out one vector of subspace coordinates at a time."""
    start, gradients, lr = random_run()
    for i in range(MODELS):
        found = subspace_vectors(stepped(), i)
        for j, p in enumerate(subspace_vectors(views(start, SHAPES), i)):
            m, v = np.zeros(RANK), 0.0
            for t, gradient in enumerate(gradients, start=1):
                clip = min(1, SETTINGS.clip_norm / float(gradient[i].norm()))
                g = subspace_vectors(views(gradient, SHAPES), i)[j] * clip
                g = g + SETTINGS.weight_decay * p
                m = 0.9 * m + 0.1 * g
                v = 0.98 * v + 0.02 * sum(x * x for x in g)
                longer = math.sqrt(D_MODEL) * math.sqrt(2 / math.pi)
                root = math.sqrt(v / (1 - 0.98**t)) + 1e-8 * longer
                p = p - longer * float(lr[i]) * (m / (1 - 0.9**t)) / root
            np.testing.assert_allclose(found[j], p, rtol=1e-6)


def test_shared_step_is_what_full_width_adam_does_in_the_subspace():
    """At d_model 4,000 the projected full-width step is the shared one to a few per cent."""
    rng, d_model = np.random.default_rng(1), 4000
    basis = torch.from_numpy(random_basis(d_model, RANK, rng))
    plain = SETTINGS.model_copy(update={"weight_decay": 0.0, "clip_norm": 1e9})
    adam = StackAdam(1, SHAPES, d_model, plain, "cpu")
    full = torch.zeros(7, d_model, requires_grad=True)
    reference = torch.optim.Adam([full], lr=0.01, betas=(0.9, SETTINGS.beta2))
    for corrections in corrections_of(1, 5):
        gradient = torch.randn(1, SIZE, generator=torch.Generator().manual_seed(2))
        full.grad = views(gradient, SHAPES)[FIRST][0] @ basis.T
        reference.step()
        adam.gradient.copy_(gradient)
        adam.step(torch.tensor([0.01]), corrections.float())
    expected = full.detach() @ basis
    difference = adam.parameters_by_name[FIRST][0] - expected
    assert difference.norm() < 0.05 * expected.norm()
