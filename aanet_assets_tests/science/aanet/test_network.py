"""The AANet at full width, applied to its own vertices."""

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet.export import load_aanet
from aanet_assets.science.aanet.reference import AANet, simplex_vertices


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_archetypes_are_what_the_vertices_stand_for(dtype: torch.dtype) -> None:
    network = AANet(12, 4, (6, 5), simplex_scale=1.5).to(dtype)
    archetypes = network.decode(network.vertices)
    assert (archetypes.dtype, tuple(archetypes.shape)) == (dtype, (4, 12))
    exact = torch.from_numpy(simplex_vertices(4, 1.5))
    # Cast once, whatever types the module has been through.
    torch.testing.assert_close(network.vertices, exact.to(dtype), rtol=0, atol=0)
    assert torch.equal(network.double().vertices, exact)


def test_of_a_model_read_from_a_file_too(tmp_path) -> None:
    network = AANet(12, 3)
    torch.save(network.state_dict(), tmp_path / "aanet.pt")
    assert list(network.state_dict()) == [
        f"{part}_layers.{i}.{name}"
        for part in ("encoder", "decoder")
        for i in range(3)
        for name in ("weight", "bias")
    ]
    loaded = load_aanet(tmp_path / "aanet.pt")
    with torch.no_grad():
        archetypes = loaded.decode(loaded.vertices)
        at = loaded.barycentric(torch.zeros(2, 12)) @ loaded.vertices
        np.testing.assert_allclose(at, loaded.embed(torch.zeros(2, 12)), atol=1e-5)
    assert archetypes.shape == (3, 12)
