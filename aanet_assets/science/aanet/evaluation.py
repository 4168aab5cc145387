"""How well a trained AANet does on rows it was not trained on, without noise."""

import numpy as np
import torch
from jaxtyping import Float

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.science.aanet.reference import AANet
from aanet_assets.study.settings import AANetSettings


def subspace_network(
    weights: dict[str, Float[np.ndarray, "..."]], k: int, settings: AANetSettings
) -> AANet:
    """The AANet that acts on rows of the subspace, for TrainedAANet.weights."""
    rank = weights["encoder_layers.0.weight"].shape[1]
    network = AANet(rank, k, settings.widths, settings.simplex_scale)
    network.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    return network.eval()


@torch.no_grad()
def heldout_metrics(
    cluster: ClusterRows,
    weights: dict[str, Float[np.ndarray, "..."]],
    k: int,
    settings: AANetSettings,
) -> dict[str, float] | None:
    """Losses, explained variance and share inside the simplex; None without held-out rows.

    Names and meaning as in `TrainedAANet`.
    """
    if not len(cluster.heldout):
        return None
    network = subspace_network(weights, k, settings)
    rows = torch.from_numpy(cluster.heldout).to(torch.get_default_dtype())
    coordinates = network.barycentric(rows).double()
    residual = (network(rows) - rows).double().square().sum()
    train_mean = torch.from_numpy(cluster.train.mean(axis=0, dtype=np.float64))
    total = (rows.double() - train_mean).square().sum()
    recon = float(residual) / (len(rows) * cluster.basis.shape[0])
    archetypal = float(coordinates.clamp(max=0).sum(1).square().mean())
    return {
        "loss": settings.recon_weight * recon + settings.archetypal_weight * archetypal,
        "recon_loss": recon,
        "archetypal_loss": archetypal,
        "explained_variance": 1 - float(residual / total) if total > 0 else float("nan"),
        "in_simplex": float((coordinates >= 0).all(1).double().mean()),
    }
