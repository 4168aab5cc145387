"""The file of one simplex: its tensors, and its provenance in the metadata."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from aanet_assets.explore.provenance import Provenance
from aanet_assets.science.aanet.export import aanet_of
from aanet_assets.science.aanet.reference import AANet
from aanet_assets.science.activations.rows import Cluster
from aanet_assets.science.activations.sae import sae_of
from aanet_assets.storage.files import replacing

if TYPE_CHECKING:
    from sae_lens import SAE

_KEY = "simplex"
_CLUSTER = ("columns", "coordinates")


def write_simplex(
    path: Path, provenance: Provenance, cluster: Cluster, model: AANet, sae: "SAE"
) -> None:
    """Write one file: the AANet as `aanet.*`, the SAE as `sae.*`, the subspace, the vertices."""
    with torch.no_grad():
        vertices = model.decode(model.vertices).numpy()
    arrays = {"vertices": vertices}
    arrays |= {f"cluster.{name}": getattr(cluster, name) for name in _CLUSTER}
    for part, module in (("aanet", model), ("sae", sae)):
        state = module.state_dict().items()
        arrays |= {f"{part}.{name}": values.cpu().numpy() for name, values in state}
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # One key only: safetensors writes several in no fixed order.
    metadata = {_KEY: provenance.model_dump_json()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(whole, metadata))


def read_simplex(path: Path) -> tuple[Provenance, Cluster, AANet, "SAE"]:
    """Read back what `write_simplex` wrote; all on the CPU.

    Raises:
        ValueError: the file is not there, or is none of a simplex.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; Simplex.save writes one")
    try:
        with safe_open(path, framework="pt") as file:
            provenance = Provenance.model_validate_json((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        parts: dict[str, dict[str, torch.Tensor]] = {"aanet": {}, "sae": {}, "cluster": {}}
        for name, tensor in tensors.items():
            part, _, own = name.partition(".")
            if own:
                parts[part][own] = tensor
        latents = np.array(provenance.latent_indices, dtype=np.int64)
        arrays = (parts["cluster"][name].numpy() for name in _CLUSTER)
        cluster = Cluster(provenance.cluster_id, latents, *arrays)
        model = aanet_of(parts["aanet"], provenance.settings["aanet"]["simplex_scale"])
        sae = sae_of({**provenance.sae_config, "device": "cpu"}, parts["sae"])
    except (SafetensorError, ValidationError, KeyError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{path} is no whole file of a simplex, as Simplex.save writes it ({said[:200]}): copy "
            "it again from where it came, or save it anew"
        ) from None
    return provenance, cluster, model, sae
