"""Vertices as steering vectors, in the form that Neuronpedia takes."""

from typing import Any

import numpy as np
from jaxtyping import Float

from aanet_assets.explore.provenance import Provenance
from aanet_assets.science.activations.sae_config import parse_hook


def steering_vectors(
    own: Provenance, vertices: Float[np.ndarray, "k d_model"]
) -> list[dict[str, Any]]:
    """One per vertex, from the middle of the simplex, with the fields of `POST /api/vector/new`.

    Raises:
        ValueError: the stream is that after the last layer, for which Neuronpedia has no place.
    """
    hook = parse_hook(own.hook)
    layer = hook.layer + (hook.side == "post")
    if layer >= own.layers:
        raise ValueError(
            f"Neuronpedia takes vectors before a layer (hook_resid_pre), and {own.hook} is "
            f"after the last of the {own.layers} layers of {own.model}: it has no place for it"
        )
    steps = vertices - vertices.mean(axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    return [
        {
            "modelId": own.neuronpedia_model,
            "layerNumber": layer,
            "hookType": "hook_resid_pre",
            "vector": (step / length).tolist(),
            "vectorDefaultSteerStrength": float(length),
            "vectorLabel": f"{own.study}: vertex {vertex} of {own.name}",
        }
        for vertex, (step, length) in enumerate(zip(steps, lengths, strict=True))
    ]
