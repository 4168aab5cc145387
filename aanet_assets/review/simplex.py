"""What the review page shows of a cluster's simplex: some of its rows, and its vertices."""

import numpy as np
import torch
from jaxtyping import Float

from aanet_assets.science.aanet.reference import AANet
from aanet_assets.science.activations.rows import Cluster
from aanet_assets.science.vertices.collect import barycentric_rows

LATENTS_PER_VERTEX = 4


def thousandths(
    network: AANet, basis: Float[np.ndarray, "width rank"], rows: Float[np.ndarray, "rows rank"]
) -> list[list[int]]:
    """Barycentric coordinates of rows of a cluster's subspace, in thousandths.

    `basis` leads from the subspace to where the network acts, which may be the subspace itself.
    """
    coordinates = barycentric_rows(network, rows, basis)
    return np.rint(1_000 * coordinates.astype(np.float64)).astype(int).tolist()


def latents_near(
    network: AANet, basis: Float[np.ndarray, "width rank"], cluster: Cluster
) -> list[list[tuple[int, float]]]:
    """For each vertex, the latents whose decoder rows are nearest by cosine, and their cosines."""
    with torch.no_grad():
        archetypes = network.decode(network.vertices).numpy() @ basis
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)
            for x in (archetypes, cluster.coordinates)]  # fmt: skip
    found = []
    for cosines in unit[0] @ unit[1].T:
        best = np.argsort(-cosines, kind="stable")[:LATENTS_PER_VERTEX]
        found.append([(int(cluster.latents[i]), round(float(cosines[i]), 3)) for i in best])
    return found
