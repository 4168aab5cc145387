"""The sparse autoencoder: loading, its hook, its decoder rows."""

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from aanet_assets.lm.hub import require_commit
from aanet_assets.settings import SaeSettings
from aanet_assets.study import resolve

if TYPE_CHECKING:
    from sae_lens import SAE


class Hook(NamedTuple):
    """A point of the residual stream: before (`pre`) or after (`post`) a layer."""

    layer: int
    side: Literal["pre", "post"]


def parse_hook(name: str) -> Hook:
    """`blocks.20.hook_resid_post` -> Hook(20, "post"); ValueError for any other kind of hook."""
    match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", name)
    if not match:
        raise ValueError(
            f"the SAE reads {name!r}; only blocks.<layer>.hook_resid_pre and .hook_resid_post are "
            "supported: choose an SAE of the residual stream"
        )
    return Hook(int(match[1]), "pre" if match[2] == "pre" else "post")


def load_sae(settings: SaeSettings, device: str = "cpu") -> "SAE":
    """The SAE in float32, in evaluation mode.

    Where the SAE rescales its codes by the norms of its decoder rows, the norms are folded into the
    encoder, so that codes times decoder rows is the reconstruction for every kind of SAE.
    """
    from sae_lens import SAE

    if settings.directory is not None:
        sae = SAE.load_from_disk(resolve(settings.directory), device=device, dtype="float32")
    else:
        assert settings.release is not None
        assert settings.id is not None
        require_commit(settings)
        sae = SAE.from_pretrained(settings.release, settings.id, device=device)
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        sae.fold_W_dec_norm()
    return sae.eval()


def decoder_rows(sae: "SAE") -> Float[np.ndarray, "latents d_model"]:
    """Decoder rows as trained, not normalised, float32."""
    return sae.W_dec.detach().float().cpu().numpy()


def hook_of(sae: "SAE") -> Hook:
    """The hook the SAE reads."""
    return parse_hook(sae.cfg.metadata.hook_name)


def prepends_bos(sae: "SAE") -> bool:
    """Whether the SAE was trained on sequences that begin with BOS (the default of SAELens)."""
    return sae.cfg.metadata.prepend_bos is not False


def reads_centred(sae: "SAE") -> bool:
    """Whether the SAE was trained on a residual stream whose vectors have mean zero.

    SAELens says so by TransformerLens's `center_writing_weights`.
    """
    return bool((sae.cfg.metadata.model_from_pretrained_kwargs or {}).get("center_writing_weights"))
