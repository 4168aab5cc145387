"""Training a sparse autoencoder of SAELens on activations held in memory, and judging it."""

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from sae_lens import SAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import TrainingSAE
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from aanet_assets.study.progress import Progress

BATCH = 2048
"""Tokens per step."""

Trained = TypeVar("Trained", bound=TrainingSAE)


class SaeQuality(NamedTuple):
    """How well an SAE does on activations it was not trained on."""

    explained_variance: float
    """1 - squared error / squared distance from the mean."""
    l0: float
    """Mean number of active latents per token."""
    dead_latents: int
    """Latents that are active at no token."""


def train_sae(
    new: Callable[[], Trained],
    activations: Float[Tensor, "tokens d_in"],
    steps: int,
    seed: int,
    what: str,
    **settings: Any,
) -> Trained:
    """Train an SAE on rows of `activations`, reshuffled whenever all have been used.

    The result works on activations as they are (the normalisation used in training is folded into
    its weights) and its decoder rows have length one, so that a code times its row is that
    latent's part of the reconstruction.

    Args:
        new: makes the SAE, of `normalize_activations="expected_average_only_in"`.
        activations: in any precision; batches are made float32.
        seed: fixes the first weights and the order of the rows.
        what: for the log.
        settings: of SAELens's `SAETrainerConfig`, beside those set here.
    """
    # SAELens initialises from the global generator; its state is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sae = new()
        # Training sees activations scaled to mean norm sqrt(d_in); starting b_dec at their mean
        # saves the latents from spending their first steps on it.
        scale = activations.shape[1] ** 0.5 / activations.norm(dim=-1, dtype=torch.float32).mean()
        sae.b_dec.data = activations.mean(0, dtype=torch.float32) * scale
        trainer = SAETrainer(
            SAETrainerConfig(
                total_training_samples=steps * BATCH,
                train_batch_size_samples=BATCH,
                lr_scheduler_name="cosineannealing",
                n_batches_for_norm_estimate=20,
                **settings,
            ),
            sae,
            _batches(activations, seed, Progress(steps, "steps", what)),
        )
        # SAELens draws a progress bar of its own.
        with contextlib.redirect_stderr(io.StringIO()):
            trainer.fit()
    sae.fold_W_dec_norm()
    return sae.eval()


@torch.no_grad()
def sae_quality(sae: SAE, activations: Float[Tensor, "tokens d_in"]) -> SaeQuality:
    """Measure an SAE on fresh activations, in blocks of `BATCH`."""
    mean = activations.mean(0, dtype=torch.float32)
    residual = total = active = 0.0
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    for rows in activations.split(BATCH):
        rows = rows.float()
        codes = sae.encode(rows)
        residual += float((rows - sae.decode(codes)).square().sum())
        total += float((rows - mean).square().sum())
        active += float((codes > 0).sum())
        fired |= (codes > 0).any(0)
    return SaeQuality(
        explained_variance=1 - residual / total,
        l0=active / len(activations),
        dead_latents=int((~fired).sum()),
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
            yield activations[rows].float()
