"""Codes of some latents alone, against those of the whole SAE."""

import numpy as np
import pytest
import torch
from sae_lens import SAE

from aanet_assets.science.activations.encode import codes_of
from aanet_assets.science.activations.sae import load_sae, of_latents
from aanet_assets.study.settings import SaeSettings
from aanet_assets_tests.small import small_study

LATENTS = np.array([1, 4, 5, 9])


def random_sae(architecture: str, normalised: str = "none") -> SAE:
    """An SAE of 8 dimensions and 12 latents."""
    sae = SAE.from_dict(
        {
            "architecture": architecture, "d_in": 8, "d_sae": 12, "dtype": "float32",
            "device": "cpu", "apply_b_dec_to_input": True, "normalize_activations": normalised,
            "reshape_activations": "none", "metadata": {"hook_name": "blocks.0.hook_resid_post"},
        }
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in sae.parameters():
            values.copy_(torch.randn(values.shape, generator=generator))
    return sae.eval()


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated"])
@pytest.mark.parametrize("normalised", ["none", "layer_norm", "constant_norm_rescale"])
@torch.no_grad()
def test_codes_are_those_of_the_whole(architecture: str, normalised: str) -> None:
    sae = random_sae(architecture, normalised)
    own = of_latents(sae, LATENTS)
    assert own is not None
    stream = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    expected = codes_of(sae, stream)[:, LATENTS]
    assert 0 < float((expected > 0).float().mean()) < 1
    torch.testing.assert_close(codes_of(own, stream), expected)
    assert own.W_dec.shape == (4, 8)


def test_latents_that_compete_are_not_taken_apart(home) -> None:
    sae = load_sae(SaeSettings(directory=small_study().sae.directory))
    assert sae.cfg.architecture() == "topk"
    assert of_latents(sae, LATENTS) is None
