"""The sparse autoencoder: loading its weights, codes and decoder rows."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from aanet_assets.science.activations.hub import require_commit
from aanet_assets.science.activations.sae_config import (
    Hook,
    input_scale,
    parse_hook,
    read_config,
    refuse_unusable,
)
from aanet_assets.study.settings import SaeSettings
from aanet_assets.study.study import resolve

if TYPE_CHECKING:
    from sae_lens import SAE
    from sae_lens.saes import SAEConfig
    from torch import Tensor

_NAMED = 8
"""Decoder rows named in a message, at most."""


def check_weights(settings: SaeSettings, config: "SAEConfig") -> None:
    """Check that the file of weights in the SAE's directory holds those that its config describes.

    Of the weights themselves nothing is read but their names, shapes and types.

    Raises:
        ValueError: it does not, cannot be opened, or is not there.
    """
    import torch
    from sae_lens import SAE
    from sae_lens.constants import SAE_WEIGHTS_FILENAME
    from safetensors import SafetensorError, safe_open

    assert settings.directory is not None
    path = resolve(settings.directory) / SAE_WEIGHTS_FILENAME
    if not path.is_file():
        raise ValueError(
            f"{path} is not there; set sae.directory to a directory written by SAELens (cfg.json "
            f"and {SAE_WEIGHTS_FILENAME})"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in found.items()}
            kinds = {name: part.get_dtype() for name, part in found.items()}
    except SafetensorError as error:
        raise ValueError(
            f"{path} does not hold an SAE's weights ({error}): copy it again from where it came"
        ) from None
    for name, kind in kinds.items():
        if not kind.startswith(("F", "BF")):
            raise ValueError(
                f"{path} has a {name} of the type {kind}, which says nothing of the scale of its "
                "integers: give the SAE's weights as floating-point numbers"
            )
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    # SAELens decides by its value whether it is one of the weights.
    weights.pop("scaling_factor", None)
    expected = SAE.from_dict({**config.to_dict(), "device": "meta"})
    try:
        expected.process_state_dict_for_loading(weights)
        expected.load_state_dict(weights, assign=True)
    except RuntimeError:
        wanted = {name: tuple(part.shape) for name, part in expected.state_dict().items()}
        raise ValueError(
            f"{path} and the cfg.json beside it are not of the same SAE: "
            f"{_differences(shapes, wanted)}: copy both again from where they came"
        ) from None


def _differences(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> str:
    """What is missing among weights of these names and shapes, of another shape, or too many."""
    said = [
        f"{name} has the shape {found[name]} and must have {shape}"
        if name in found
        else f"{name} of the shape {shape} is missing"
        for name, shape in wanted.items()
        if found.get(name) != shape
    ]
    return "; ".join(said + [f"{name} is none of its weights" for name in found.keys() - wanted])


def load_sae(settings: SaeSettings, device: str = "cpu") -> "SAE":
    """The SAE in float32, in evaluation mode.

    A scale of its input is folded into the weights. Where the SAE rescales its codes by the norms
    of its decoder rows, these are folded into the encoder. So codes times decoder rows is the
    reconstruction, but for a constant, for every kind of SAE; see `codes_of` for those that
    normalise each token.

    Raises:
        ValueError: its config or weights are not there or cannot be used.
        OSError: it could not be had from the hub.
    """
    import torch
    from sae_lens import SAE
    from safetensors import SafetensorError

    require_commit(settings)
    read_config(settings)
    said = f"the SAE {settings.name!r}"
    try:
        if settings.directory is not None:
            directory = resolve(settings.directory)
            sae = SAE.load_from_disk(directory, device=device, dtype="float32")
        else:
            assert settings.release is not None
            assert settings.id is not None
            sae = SAE.from_pretrained(settings.release, settings.id, device=device)
    except (AttributeError, KeyError, RuntimeError, SafetensorError, ValueError) as error:
        raise ValueError(
            f"the weights of {said} are not those that its config describes "
            f"({' '.join(str(error).split())}): copy both again from where they came"
        ) from None
    if sae.cfg.normalize_activations == "expected_average_only_in":
        sae.fold_activation_norm_scaling_factor(input_scale(settings, said))
    refuse_unusable(sae.cfg, said)
    _refuse_not_finite(sae, said)
    with torch.no_grad():
        empty = sae.W_dec.norm(dim=1) == 0
        # Entries so small that their squares vanish would be directions elsewhere.
        sae.W_dec[empty] = 0
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        sae.fold_W_dec_norm()
        if empty.any():
            # SAELens would go on dividing by norms, of which some are zero.
            sae.cfg.rescale_acts_by_decoder_norm = False
    return sae.eval()


def _refuse_not_finite(sae: "SAE", said: str) -> None:
    for name, values in sae.named_parameters():
        # A threshold or bias may be infinite: its latent never fires.
        bad = ~values.isfinite() if name == "W_dec" else values.isnan()
        if not bad.any():
            continue
        rows = bad.any(1).nonzero().ravel().tolist() if name == "W_dec" else []
        others = " and others" if len(rows) > _NAMED else ""
        where = f" (rows {', '.join(map(str, rows[:_NAMED]))}{others})" if rows else ""
        raise ValueError(
            f"{int(bad.sum()):,} entries of {name} of {said} are NaN or infinite{where}; all must "
            "be finite: copy its weights again from where they came"
        )


def decoder_rows(sae: "SAE") -> Float[np.ndarray, "latents d_model"]:
    """Decoder rows as trained, not normalised, float32."""
    return sae.W_dec.detach().float().cpu().numpy()


def of_latents(sae: "SAE", latents: Int[np.ndarray, " members"]) -> "SAE | None":
    """An SAE of some latents alone, whose codes are those of the whole one.

    None where the code of a latent depends on those of others, as where the largest k are kept.
    """
    import torch

    if sae.cfg.architecture() not in ("standard", "jumprelu", "gated"):
        return None
    chosen = torch.from_numpy(latents).to(sae.W_dec.device)
    # Of the parameters, b_dec alone has no entry per latent.
    by_latent = {"W_enc": 1} | {
        name: 0 for name in ("W_dec", "b_enc", "threshold", "b_gate", "b_mag", "r_mag")
    }
    state = {
        name: values.index_select(by_latent[name], chosen) if name in by_latent else values
        for name, values in sae.state_dict().items()
    }
    return sae_of({**sae.cfg.to_dict(), "d_sae": len(latents)}, state)


def sae_of(config: dict[str, Any], state: "dict[str, Tensor]") -> "SAE":
    """An SAE by its config as SAELens writes it, and its weights; in evaluation mode.

    KeyError, RuntimeError or ValueError where they are not of one SAE.
    """
    from sae_lens import SAE

    sae = SAE.from_dict(config)
    sae.load_state_dict(state)
    return sae.eval()


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
