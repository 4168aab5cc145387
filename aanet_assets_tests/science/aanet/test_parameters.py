"""Layout of a stack's parameters, and their start against torch's own at full width."""

import math

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet.parameters import (
    FIRST,
    LAST,
    initial_parameters,
    parameter_shapes,
    views,
)
from aanet_assets.science.aanet.reference import AANet
from aanet_assets_tests.science.aanet.planted import random_basis


def test_shapes_are_those_of_the_network():
    expected = {name: tuple(p.shape) for name, p in AANet(10, 4, (6, 5)).named_parameters()}
    assert parameter_shapes(10, 4, (6, 5)) == expected
    assert list(parameter_shapes(10, 4, (6, 5))) == list(expected)


def test_views_share_memory_and_cover_every_entry_once():
    shapes = parameter_shapes(3, 4, (6, 5))
    matrix = torch.zeros(2, sum(math.prod(shape) for shape in shapes.values()))
    for name, view in views(matrix, shapes).items():
        assert view.shape == (2, *shapes[name])
        view += 1
    assert (matrix == 1).all()


def test_start_spreads_as_torchs_start_seen_from_the_subspace():
    d_model, rank, k, widths = 600, 40, 9, (80, 60)
    own = initial_parameters(rank, d_model, k, widths, torch.Generator().manual_seed(0))
    basis = torch.from_numpy(random_basis(d_model, rank, np.random.default_rng(0)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = [AANet(d_model, k, widths).state_dict() for _ in range(20)]
    for name, found in own.items():
        full = torch.stack([network[name] for network in networks])
        if name == FIRST:
            full = full @ basis
        elif name in LAST:
            full = torch.einsum("ndh,dr->nrh" if full.ndim == 3 else "nd,dr->nr", full, basis)
        assert found.shape == full.shape[1:]
        spread = 4 / math.sqrt(found.numel())
        assert float(found.std() / full.std()) == pytest.approx(1, abs=spread), name
        assert abs(float(found.mean() / full.std())) < spread
