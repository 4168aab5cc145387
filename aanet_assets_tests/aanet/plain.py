"""AANet training as one would first write it: one model, full width, autograd, torch's optimiser.

Independent of the stacked engine on purpose; tests and the benchmark compare the two.
"""

import numpy as np
import torch

from aanet_assets.aanet.data import ClusterRows
from aanet_assets.aanet.network import AANet
from aanet_assets.aanet.simplex import barycentric
from aanet_assets.study.settings import AANetSettings


class PlainTrainer:
    """Trains one AANet on a cluster's rows at full width."""

    def __init__(self, cluster: ClusterRows, k: int, settings: AANetSettings, seed: int):
        self.settings, self.k = settings, k
        self.generator = torch.Generator().manual_seed(seed)
        basis = torch.from_numpy(cluster.basis).to(torch.get_default_dtype())
        self.train, self.heldout, self.extrema = (
            torch.from_numpy(rows).to(basis) @ basis.T
            for rows in (cluster.train, cluster.heldout, cluster.extrema[:k])
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = AANet(basis.shape[0], k, settings.widths, settings.simplex_scale)
        self.vertices = self.model.vertices
        self.adam = torch.optim.Adam(
            self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.adam,
            factor=settings.plateau_factor,
            patience=settings.plateau_patience,
            min_lr=settings.min_lr,
        )

    def batch(self) -> torch.Tensor:
        """Rows drawn at random, behind the extrema."""
        size = min(self.settings.batch_size, len(self.train))
        order = torch.randperm(len(self.train), generator=self.generator)[:size]
        return torch.cat([self.extrema, self.train[order]])

    def step(self, rows: torch.Tensor, noise: torch.Tensor) -> list[float]:
        """One step; total, reconstruction, archetypal and extrema loss before it."""
        settings = self.settings
        points = self.model.embed(rows)
        output = points + noise
        for layer in self.model.decoder_layers[:-1]:
            output = layer(output).relu()
        output = self.model.decoder_layers[-1](output)
        coordinates = barycentric(points, self.vertices)
        recon = torch.nn.functional.mse_loss(output, rows)
        outside = coordinates.clamp(max=0).sum(dim=1)
        archetypal = outside.square().mean()
        extrema = torch.nn.functional.mse_loss(coordinates[: self.k], torch.eye(self.k))
        total = (
            settings.recon_weight * recon
            + settings.archetypal_weight * archetypal
            + settings.extrema_weight * extrema
        )
        self.adam.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.adam.step()
        self.schedule.step(total.item())
        return [total.item(), recon.item(), archetypal.item(), extrema.item()]

    def run(self) -> np.ndarray:
        """Train to the end, stopping early; the four losses of every step, (steps, 4)."""
        settings, history = self.settings, []
        interval, best, best_step = settings.smoothing_window * 3 // 4, np.inf, 0
        for step in range(1, settings.max_steps + 1):
            rows = self.batch()
            noise = torch.randn(len(rows), self.k - 1, generator=self.generator) * settings.noise
            history.append(self.step(rows, noise))
            if step % interval or step < settings.smoothing_window:
                continue
            average = float(
                np.mean([losses[0] for losses in history[-settings.smoothing_window :]])
            )
            if average <= best - settings.stop_min_delta:
                best, best_step = average, step
            elif step - best_step >= settings.stop_patience:
                break
        return np.array(history)

    def heldout_recon(self) -> float:
        """Mean squared error on held-out rows, without noise."""
        with torch.no_grad():
            return float(torch.nn.functional.mse_loss(self.model(self.heldout), self.heldout))
