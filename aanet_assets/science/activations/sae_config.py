"""What a sparse autoencoder's config says of it: read as SAELens reads it, honoured or refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aanet_assets.study.settings import SaeSettings
from aanet_assets.study.study import resolve

if TYPE_CHECKING:
    from sae_lens.saes import SAEConfig

PER_TOKEN = ("layer_norm", "constant_norm_rescale")
"""Normalisations by a token's own length: its codes are scaled back by as much."""


class Hook(NamedTuple):
    """A point of the residual stream: before (`pre`) or after (`post`) a layer."""

    layer: int
    side: Literal["pre", "post"]

    def __str__(self) -> str:
        return f"blocks.{self.layer}.hook_resid_{self.side}"


def parse_hook(name: str) -> Hook:
    """`blocks.20.hook_resid_post` -> Hook(20, "post"); ValueError for any other kind of hook."""
    match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", name)
    if not match:
        raise ValueError(
            f"the SAE reads {name!r}; only blocks.<layer>.hook_resid_pre and .hook_resid_post are "
            "supported: choose an SAE of the residual stream"
        )
    return Hook(int(match[1]), "pre" if match[2] == "pre" else "post")


def read_config(settings: SaeSettings) -> "SAEConfig":
    """What the SAE says of itself, as SAELens converts it; no weights are loaded.

    Raises:
        ValueError: it is not there, cannot be read, or describes an SAE that cannot be used.
        OSError: the config of a release could not be had from the hub.
    """
    from sae_lens.loading import pretrained_sae_loaders as loaders

    said = f"the SAE {settings.name!r}"
    if settings.directory is not None:
        raw = _raw(resolve(settings.directory) / "cfg.json")
        config = _config(raw, said, loaders.handle_config_defaulting)
    else:
        assert settings.release is not None
        assert settings.id is not None
        raw = loaders.load_sae_config_from_huggingface(settings.release, settings.id)
        config = _config(raw, said, dict)
    refuse_unusable(config, said)
    # SAELens drops that of a flat config.
    hook, layer = config.metadata.hook_name, raw.get("hook_layer", config.metadata.hook_layer)
    if layer not in (None, parse_hook(str(hook)).layer):
        raise ValueError(
            f"the config of {said} names two layers (hook_name is {hook!r} and hook_layer "
            f"{layer!r}): correct its cfg.json"
        )
    if config.normalize_activations == "expected_average_only_in":
        input_scale(settings, said)
    return config


def _raw(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"{path} is not there; set sae.directory to a directory written by SAELens (cfg.json "
            "and sae_weights.safetensors)"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}): copy the SAE's cfg.json again from where it came"
        ) from None
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} holds a {type(found).__name__}; it must be an object, as SAELens writes it: "
            "copy the SAE's cfg.json again from where it came"
        )
    return found


def _config(raw: dict[str, Any], said: str, convert: Callable[[dict], dict]) -> "SAEConfig":
    """The config in SAELens's present form, made of `raw` by `convert`."""
    from sae_lens import __version__
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
    from sae_lens.saes import SAEConfig

    architecture = str(raw.get("architecture", "standard"))
    if architecture not in SAE_CLASS_REGISTRY:
        cannot = f"{said} has the architecture {architecture!r}, which SAELens {__version__} "
        if architecture in SAE_TRAINING_CLASS_REGISTRY:
            raise ValueError(cannot + "only trains: write it with save_inference_model")
        raise ValueError(
            f"{cannot}does not know; it knows {', '.join(sorted(SAE_CLASS_REGISTRY))}: choose "
            "another SAE"
        )
    # SAELens looks for words in a flat config's hook, and fails where it is null.
    hooks = ("hook_name", "hook_point")
    given = {name: value for name, value in raw.items() if value is not None or name not in hooks}
    try:
        converted = convert(given)
        config = SAEConfig.from_dict(converted)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the config of {said} is none that SAELens {__version__} reads "
            f"({type(error).__name__}: {error}): complete its cfg.json, or choose another SAE"
        ) from None
    for name in ("d_in", "d_sae", *(["k"] if config.architecture() == "topk" else [])):
        value = converted.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"the config of {said} says {name} = {value!r}; it must be a whole number above 0: "
                f"put {name} into its cfg.json"
            )
    if config.architecture() == "topk" and converted["k"] > config.d_sae:
        raise ValueError(
            f"the config of {said} says k = {converted['k']} and d_sae = {config.d_sae}; no more "
            "latents can be kept than there are: correct its cfg.json"
        )
    about = config.metadata
    flags = {"apply_b_dec_to_input": config.apply_b_dec_to_input, "prepend_bos": about.prepend_bos}
    for name, value in flags.items():
        # What is not said of BOS is left to SAELens; a word in its place would count as true.
        if not isinstance(value, bool) and (value is not None or name != "prepend_bos"):
            raise ValueError(
                f"the config of {said} says {name} = {value!r}; it must be true or false: correct "
                "its cfg.json"
            )
    activation = raw.get("activation_fn_str", raw.get("activation_fn"))
    further = raw.get("activation_fn_kwargs")
    kept = raw.get("k", further.get("k") if isinstance(further, dict) else None)
    if config.architecture() == "standard" and activation is None and kept is not None:
        raise ValueError(
            f"the config of {said} says k = {kept!r} and not that its architecture is topk, so "
            f"that SAELens {__version__} would take all latents above 0: put "
            '"architecture": "topk" into its cfg.json, or remove k'
        )
    if activation not in (None, "relu") and activation != config.architecture():
        raise ValueError(
            f"{said} has the activation function {activation!r}, which SAELens {__version__} reads "
            f"as that of the architecture {config.architecture()!r}: choose another SAE"
        )
    return config


def refuse_unusable(config: "SAEConfig", said: str) -> None:
    """ValueError where codes times decoder rows cannot be the residual stream at one point."""
    from sae_lens.saes import TranscoderConfig

    about, architecture = config.metadata, config.architecture()
    hook, target = about.hook_name, about.hook_name_out
    if isinstance(config, TranscoderConfig) or target not in (None, hook):
        raise ValueError(
            f"{said} is a transcoder: it reads {hook!r} and writes {target or 'somewhere else'!r}; "
            "choose an SAE, which writes what it reads"
        )
    if not isinstance(hook, str):
        raise ValueError(
            f"the config of {said} does not say what it reads (hook_name is {hook!r}): add, for "
            'example, "hook_name": "blocks.8.hook_resid_post" to the metadata in its cfg.json'
        )
    parse_hook(hook)
    if about.hook_head_index is not None:
        raise ValueError(
            f"{said} reads head {about.hook_head_index} only (hook_head_index); the residual "
            "stream has no heads: choose an SAE of the whole residual stream"
        )
    if config.reshape_activations != "none":
        raise ValueError(
            f"{said} reshapes what it reads (reshape_activations is "
            f"{config.reshape_activations!r}), as SAEs of attention heads do: choose an SAE of the "
            "residual stream"
        )
    if architecture in ("temporal", "abstopk"):
        why = (
            "reconstructs from earlier tokens, too, and not from its codes alone"
            if architecture == "temporal"
            else "has codes below zero, which have no place in a simplex"
        )
        raise ValueError(f"{said} is of the architecture {architecture!r}, which {why}: choose "
                         "another SAE")  # fmt: skip
    normalised = config.normalize_activations
    if normalised not in ("none", "expected_average_only_in", *PER_TOKEN):
        raise ValueError(
            f"{said} normalises what it reads by {normalised!r}, which is not in its weights; "
            "supported are none, expected_average_only_in with its scale, "
            f"{' and '.join(PER_TOKEN)}: write the SAE with SAELens's save_inference_model at the "
            "end of its training, which folds it in"
        )


def input_scale(settings: SaeSettings, said: str) -> float:
    """The factor that `expected_average_only_in` leaves beside the weights, or in SAELens's list.

    Raises:
        ValueError: it is in neither.
    """
    from sae_lens.constants import ACTIVATION_SCALER_CFG_FILENAME
    from sae_lens.loading.pretrained_saes_directory import get_norm_scaling_factor

    if settings.directory is None:
        assert settings.release is not None
        assert settings.id is not None
        scale = get_norm_scaling_factor(settings.release, settings.id)
        where = "SAELens has no scale for it"
    else:
        path = resolve(settings.directory) / ACTIVATION_SCALER_CFG_FILENAME
        scale = _raw(path).get("scaling_factor") if path.is_file() else None
        where = f"{path} does not give the scale"
    # Written so that a NaN fails, too; JSON's true is an int.
    if isinstance(scale, bool) or not (isinstance(scale, int | float) and 0 < scale < float("inf")):
        raise ValueError(
            f"{said} was trained on scaled activations (normalize_activations is "
            f"expected_average_only_in), and {where}: put the activation_scaler.json of its "
            "training beside the weights, or write the SAE with SAELens's save_inference_model at "
            "the end of its training, which folds the scale in"
        )
    return float(scale)
