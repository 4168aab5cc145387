"""The toy's sparse autoencoder: a TopK SAE of SAELens, trained on one layer's residual stream."""

from typing import Any

from jaxtyping import Float
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from torch import Tensor

from aanet_assets.science.activations.sae_training import train_sae

LR = 3e-3  # 1e-3 is clearly worse
WARM_UP = 100  # steps


def train_topk_sae(
    activations: Float[Tensor, "tokens d_in"],
    steps: int,
    seed: int,
    metadata: dict[str, Any],
    *,
    latents: int,
    active: int,
) -> TopKTrainingSAE:
    """Train a toy's SAE; see `train_sae`."""
    config = TopKTrainingSAEConfig(
        d_in=activations.shape[1],
        d_sae=latents,
        k=active,
        normalize_activations="expected_average_only_in",
        rescale_acts_by_decoder_norm=True,
        decoder_init_norm=0.1,
        metadata=SAEMetadata(**metadata),
    )
    return train_sae(
        lambda: TopKTrainingSAE(config),
        activations,
        steps,
        seed,
        "training the toy's SAE",
        lr=LR,
        lr_end=LR / 20,
        lr_warm_up_steps=min(WARM_UP, steps // 2),
        dead_feature_window=200,
        feature_sampling_window=500,
    )
