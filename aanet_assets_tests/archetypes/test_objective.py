"""Hand-written losses and gradients against automatic differentiation at full width."""

import numpy as np
import pytest
import torch

from aanet_assets.archetypes.network import AANet
from aanet_assets.archetypes.objective import Objective
from aanet_assets.archetypes.parameters import FIRST, LAST, parameter_shapes, views
from aanet_assets.archetypes.simplex import barycentric
from aanet_assets.settings import AANetSettings
from aanet_assets_tests.archetypes.planted import random_basis

SETTINGS = AANetSettings(
    widths=(11, 9), recon_weight=1.5, archetypal_weight=4.5, extrema_weight=2.5, simplex_scale=1.3
)
D_MODEL, PADDED_RANK, BATCH = 30, 8, 20
RANKS, N_ROWS, HAS_EXTREMA = (8, 5, 3), (20, 20, 13), (True, False, True)


def plain_losses(network: AANet, x, noise, n_extrema: int, settings=SETTINGS) -> torch.Tensor:
    """The losses as they are defined, at full width; the first rows of x are the extrema."""
    points = network.embed(x)
    h = points + noise
    for layer in network.decoder_layers[:-1]:
        h = layer(h).relu()
    output = network.decoder_layers[-1](h)
    recon = torch.nn.functional.mse_loss(output, x)
    coordinates = barycentric(points, network.vertices)
    outside = (-coordinates).clamp(min=0).sum(1)
    archetypal = (outside**2).mean()
    corners = torch.eye(coordinates.shape[1], dtype=x.dtype)
    extrema = torch.tensor(0.0, dtype=x.dtype)
    if n_extrema:
        extrema = torch.nn.functional.mse_loss(coordinates[:n_extrema], corners)
    total = (
        settings.recon_weight * recon
        + settings.archetypal_weight * archetypal
        + settings.extrema_weight * extrema
    )
    return torch.stack([total, recon, archetypal, extrema])


@pytest.mark.parametrize("k", [2, 3, 8])
def test_losses_and_gradients_equal_autograd_at_full_width(k):
    """Padding of ranks and batches, and extrema that are off, included."""
    rng = torch.Generator().manual_seed(k)
    models = len(RANKS)
    shapes = parameter_shapes(PADDED_RANK, k, SETTINGS.widths)
    size = sum(int(np.prod(s)) for s in shapes.values())
    matrix = torch.zeros(models, size, dtype=torch.float64)
    gradient = torch.full_like(matrix, torch.nan)
    parameters = views(matrix, shapes)
    rows = torch.zeros(models, k + BATCH, PADDED_RANK, dtype=torch.float64)
    noise = torch.randn(models, k + BATCH, k - 1, generator=rng, dtype=torch.float64) * 0.3
    present = torch.zeros(models, k + BATCH, dtype=torch.bool)
    for i, (rank, n, extrema) in enumerate(zip(RANKS, N_ROWS, HAS_EXTREMA, strict=True)):
        for name, shape in parameter_shapes(rank, k, SETTINGS.widths).items():
            own = torch.randn(shape, generator=rng, dtype=torch.float64) * 0.5
            parameters[name][i][tuple(slice(s) for s in shape)] = own
        present[i, :k] = extrema
        present[i, k : k + n] = True
        drawn = torch.randn(k + BATCH, rank, generator=rng, dtype=torch.float64)
        rows[i, :, :rank] = drawn * present[i, :, None]
    weights = present / present.sum(1, keepdim=True)
    objective = Objective(
        SETTINGS, D_MODEL, PADDED_RANK, k, weights.double(),
        torch.tensor(HAS_EXTREMA).double(),
    )  # fmt: skip
    losses = objective.losses(parameters, views(gradient, shapes), rows, noise)

    for i, rank in enumerate(RANKS):
        basis = torch.from_numpy(random_basis(D_MODEL, rank, np.random.default_rng(i))).double()
        basis = torch.linalg.qr(basis)[0]
        network = AANet(D_MODEL, k, SETTINGS.widths, SETTINGS.simplex_scale).double()
        state = {
            name: parameters[name][i][tuple(slice(s) for s in shape)].clone()
            for name, shape in parameter_shapes(rank, k, SETTINGS.widths).items()
        }
        state[FIRST] = state[FIRST] @ basis.T
        for name in LAST:
            state[name] = basis @ state[name]
        network.load_state_dict(state)
        x = rows[i, present[i], :rank] @ basis.T
        expected = plain_losses(network, x, noise[i, present[i]], k * HAS_EXTREMA[i])
        expected[0].backward()
        finite = 4 if HAS_EXTREMA[i] else 3
        torch.testing.assert_close(losses[:finite, i], expected.detach()[:finite])
        assert bool(losses[3, i].isnan()) is not HAS_EXTREMA[i]
        for name, parameter in network.named_parameters():
            full = parameter.grad
            assert full is not None
            own = full @ basis if name == FIRST else basis.T @ full if name in LAST else full
            found = views(gradient, shapes)[name][i]
            torch.testing.assert_close(found[tuple(slice(s) for s in own.shape)], own)
            assert found.abs().sum() == pytest.approx(float(own.abs().sum())), "padding moved"
