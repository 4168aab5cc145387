"""The toy's sparse autoencoder: a TopK SAE of SAELens, trained on one layer's residual stream."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from sae_lens import SAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from aanet_assets.progress import Progress

LATENTS, ACTIVE = 32, 3
BATCH = 2048  # tokens per step
LR = 3e-3  # 1e-3 is clearly worse
WARM_UP = 100  # steps


class SaeQuality(NamedTuple):
    """How well an SAE does on activations it was not trained on."""

    explained_variance: float
    """1 - squared error / squared distance from the mean."""
    l0: float
    """Mean number of active latents per token."""
    dead_latents: int
    """Latents that are active at no token."""


def train_sae(
    activations: Float[Tensor, "tokens d_in"], steps: int, seed: int, metadata: dict[str, Any]
) -> TopKTrainingSAE:
    """Train an SAE on rows of `activations`, reshuffled whenever all have been used.

    The result works on activations as they are (the normalisation used in training is folded into
    its weights) and its decoder rows have length one, so that a code times its row is that
    latent's part of the reconstruction.
    """
    # SAELens initialises from the global generator; its state is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sae = TopKTrainingSAE(
            TopKTrainingSAEConfig(
                d_in=activations.shape[1],
                d_sae=LATENTS,
                k=ACTIVE,
                normalize_activations="expected_average_only_in",
                rescale_acts_by_decoder_norm=True,
                decoder_init_norm=0.1,
                metadata=SAEMetadata(**metadata),
            )
        )
        # Training sees activations scaled to mean norm sqrt(d_in); starting b_dec at their mean
        # saves the latents from spending their first steps on it.
        scale = activations.shape[1] ** 0.5 / activations.norm(dim=-1).mean()
        sae.b_dec.data = activations.mean(0) * scale
        trainer = SAETrainer(
            SAETrainerConfig(
                total_training_samples=steps * BATCH,
                train_batch_size_samples=BATCH,
                lr=LR,
                lr_end=LR / 20,
                lr_scheduler_name="cosineannealing",
                lr_warm_up_steps=min(WARM_UP, steps // 2),
                dead_feature_window=200,
                feature_sampling_window=500,
                n_batches_for_norm_estimate=20,
            ),
            sae,
            _batches(activations, seed, Progress(steps, "steps", "training the toy's SAE")),
        )
        # SAELens draws a progress bar of its own.
        with contextlib.redirect_stderr(io.StringIO()):
            trainer.fit()
    sae.fold_W_dec_norm()
    return sae.eval()


@torch.no_grad()
def sae_quality(sae: SAE, activations: Float[Tensor, "tokens d_in"]) -> SaeQuality:
    """Measure an SAE on fresh activations."""
    codes = sae.encode(activations)
    residual = (activations - sae.decode(codes)).square().sum()
    total = (activations - activations.mean(0)).square().sum()
    active = codes > 0
    return SaeQuality(
        explained_variance=float(1 - residual / total),
        l0=float(active.sum(1).float().mean()),
        dead_latents=int((~active.any(0)).sum()),
    )


def _batches(
    activations: Float[Tensor, "tokens d_in"], seed: int, progress: Progress
) -> Iterator[Float[Tensor, "batch d_in"]]:
    """Batches without end, each pass in a new order."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(activations), generator=generator)
        for rows in order[: len(order) // BATCH * BATCH].split(BATCH):
            progress.advance()
            yield activations[rows]
