"""Hand-written losses and gradients against automatic differentiation at full width."""

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet.batches import Layout
from aanet_assets.science.aanet.objective import Objective
from aanet_assets.science.aanet.parameters import FIRST, LAST, corner, parameter_shapes, views
from aanet_assets.science.aanet.reference import AANet, barycentric
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.science.aanet.planted import random_basis

SETTINGS = AANetSettings(
    widths=(11, 9), recon_weight=1.5, archetypal_weight=4.5, extrema_weight=2.5, simplex_scale=1.3
)
D_MODEL, PADDED_RANK, BATCH = 30, 8, 20
EXTREMA_WEIGHTS = (2.5, 1.0, 0.0)
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


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("padded_k", [4, 8])
def test_losses_and_gradients_equal_autograd_at_full_width(padded_k):
    """Padding of ranks, ks and batches, and extrema that are off, included."""
    rng = torch.Generator().manual_seed(padded_k)
    layout = Layout(PADDED_RANK, padded_k, BATCH)
    models = len(RANKS)
    shapes = parameter_shapes(PADDED_RANK, padded_k, SETTINGS.widths)
    size = sum(int(np.prod(s)) for s in shapes.values())
    matrix = torch.zeros(models, size, dtype=torch.float64)
    gradient = torch.full_like(matrix, torch.nan)
    parameters = views(matrix, shapes)
    rows = torch.zeros(models, layout.places, PADDED_RANK, dtype=torch.float64)
    noise = torch.zeros(models, layout.places, padded_k - 1, dtype=torch.float64)
    present = torch.zeros(models, layout.places, dtype=torch.bool)
    objective = Objective(models, layout, D_MODEL, SETTINGS, "cpu")
    ks = (2, 3, padded_k)
    for i, (rank, n, extrema, k) in enumerate(zip(RANKS, N_ROWS, HAS_EXTREMA, ks, strict=True)):
        for name, shape in parameter_shapes(rank, k, SETTINGS.widths).items():
            own = torch.randn(shape, generator=rng, dtype=torch.float64) * 0.5
            parameters[name][i][corner(shape)] = own
        present[i, :k] = extrema
        present[i, padded_k : padded_k + n] = True
        drawn = torch.randn(layout.places, rank, generator=rng, dtype=torch.float64)
        rows[i, :, :rank] = drawn * present[i, :, None]
        noise[i, :, : k - 1] = torch.randn(layout.places, k - 1, generator=rng) * 0.3
        objective.start(i, k, k * extrema, n)
    losses = objective.losses(
        parameters,
        views(gradient, shapes),
        rows,
        noise,
        torch.tensor(EXTREMA_WEIGHTS, dtype=torch.float64),
    )

    for i, (rank, k) in enumerate(zip(RANKS, ks, strict=True)):
        basis = torch.from_numpy(random_basis(D_MODEL, rank, np.random.default_rng(i))).double()
        basis = torch.linalg.qr(basis)[0]
        network = AANet(D_MODEL, k, SETTINGS.widths, SETTINGS.simplex_scale).double()
        state = {
            name: parameters[name][i][corner(shape)].clone()
            for name, shape in parameter_shapes(rank, k, SETTINGS.widths).items()
        }
        state[FIRST] = state[FIRST] @ basis.T
        for name in LAST:
            state[name] = basis @ state[name]
        network.load_state_dict(state)
        x = rows[i, present[i], :rank] @ basis.T
        expected = plain_losses(
            network, x, noise[i, present[i], : k - 1], k * HAS_EXTREMA[i],
            SETTINGS.model_copy(update={"extrema_weight": EXTREMA_WEIGHTS[i]}),
        )  # fmt: skip
        expected[0].backward()
        finite = 4 if HAS_EXTREMA[i] else 3
        torch.testing.assert_close(losses[:finite, i], expected.detach()[:finite])
        assert bool(losses[3, i].isnan()) is not HAS_EXTREMA[i]
        for name, parameter in network.named_parameters():
            full = parameter.grad
            assert full is not None
            own = full @ basis if name == FIRST else basis.T @ full if name in LAST else full
            found = views(gradient, shapes)[name][i]
            torch.testing.assert_close(found[corner(own.shape)], own)
            assert found.abs().sum() == pytest.approx(float(own.abs().sum())), "padding moved"
