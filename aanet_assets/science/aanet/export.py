"""Files of trained AANets: full-width `.pt` state dicts, and whole stacks in their subspaces."""

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from aanet_assets.science.aanet.data import TrainedAANet
from aanet_assets.science.aanet.parameters import FIRST, LAST, NAMES
from aanet_assets.science.aanet.reference import AANet
from aanet_assets.storage.files import replacing

NUMBERS = ("losses", "heldout")


def state_dict(
    model: TrainedAANet, basis: Float[np.ndarray, "d_model rank"]
) -> dict[str, Float[Tensor, "..."]]:
    """The model at full width, as `AANet` and the public AANet class load it (float32).

    The first layer reads the subspace's coordinates off x and the last layer writes them back. On
    rows of the cluster this is the trained network; what is off the subspace is not read.
    ValueError where the model has no weights.
    """
    if not model.weights:
        raise ValueError(
            f"cluster {model.cluster_id} at k={model.k} has no weights to export: its status is "
            f"{model.status} ({model.reason})"
        )
    wide = basis.astype(np.float64)
    full = dict(model.weights)
    full[FIRST] = model.weights[FIRST] @ wide.T
    for name in LAST:
        full[name] = wide @ model.weights[name]
    # A stack that was read back has its arrays in another order, which would change a file's bytes.
    return {
        name: torch.from_numpy(np.ascontiguousarray(full[name], dtype=np.float32)) for name in NAMES
    }


def save_pt(path: Path, state: dict[str, Float[Tensor, "..."]]) -> None:
    """Write a state dict; the same tensors give the same bytes."""
    # Written to memory first: torch.save puts the name of a file it writes into its bytes.
    buffer = io.BytesIO()
    torch.save({name: tensor.clone() for name, tensor in state.items()}, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def save_stack(path: Path, models: Sequence[TrainedAANet]) -> None:
    """Write models without their histories to a safetensors file; equal models give equal bytes.

    Tensors are named `{place}/weights/{name}`; all else is JSON under the metadata key `models`,
    with null for numbers that are not finite; these are read back as nan.
    """
    tensors: dict[str, np.ndarray] = {}
    described = []
    for place, model in enumerate(models):
        fields = asdict(replace(model, history={}))
        for name, array in fields.pop("weights").items():
            tensors[f"{place}/weights/{name}"] = np.ascontiguousarray(array)
        for kind in NUMBERS:
            fields[kind] = _mapped(fields[kind], lambda x: x if math.isfinite(x) else None)
        described.append(fields)
    # One key only: safetensors writes several in no fixed order.
    metadata = {"models": json.dumps(described, allow_nan=False)}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def load_stack(path: Path) -> list[TrainedAANet]:
    """Read back what `save_stack` wrote, with empty histories.

    FileNotFoundError or ValueError where it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there are no AANets at {path}; train this k first")
    try:
        with safe_open(path, framework="numpy") as file:
            described = json.loads((file.metadata() or {})["models"])
            weights: list[dict] = [{} for _ in described]
            for key in file.keys():  # noqa: SIM118 (the file is not a mapping)
                place, _, name = key.split("/")
                weights[int(place)][name] = file.get_tensor(key)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} does not hold a stack of AANets: {error!r}") from error
    for fields in described:
        for kind in NUMBERS:
            fields[kind] = _mapped(fields[kind], lambda x: math.nan if x is None else x)
    return [
        TrainedAANet(**fields, weights=own) for fields, own in zip(described, weights, strict=True)
    ]


def _mapped(values: dict | None, change: Callable) -> dict | None:
    return None if values is None else {name: change(value) for name, value in values.items()}


def load_aanet(path: Path, simplex_scale: float = 1.0) -> AANet:
    """Read a `.pt` state dict; d_model, widths and k follow from its shapes.

    FileNotFoundError where there is no such file, ValueError where it is not an AANet.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no AANet at {path}; train this cluster at this k first")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return aanet_of(state, simplex_scale)
    except Exception as error:  # torch.load raises whatever a damaged pickle makes it raise
        raise ValueError(
            f"{path} is not an AANet's state dict (encoder_layers.0-2 and decoder_layers.0-2, "
            f"weight and bias): {error}"
        ) from error


def aanet_of(state: dict[str, Float[Tensor, "..."]], simplex_scale: float = 1.0) -> AANet:
    """The network that a state dict is of; d_model, widths and k follow from its shapes.

    KeyError or RuntimeError where it is not an AANet's.
    """
    width, d_model = state["encoder_layers.0.weight"].shape
    bottleneck, inner = state["encoder_layers.2.weight"].shape
    model = AANet(d_model, bottleneck + 1, (width, inner), simplex_scale)
    model.load_state_dict(state)
    return model.eval()
