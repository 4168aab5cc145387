"""The archetypal analysis network (AANet) and its training, as one would first write them.

One model at full width, autograd, torch's own optimiser: the definition that the stacked engine of
this folder, which trains many models at once in their clusters' subspaces, is tested against.

An AANet maps a row x of the residual stream to a point of k - 1 dimensions and back. The points
lie about a fixed regular simplex, whose k vertices stand for the archetypes. Three losses train it:

- reconstruction: mean squared error between x and its reconstruction, over rows and coordinates;
- archetypal: mean over rows of (sum of the negative barycentric coordinates)^2, which is 0 for
  points inside the simplex;
- extrema: mean squared error between the barycentric coordinates of k extreme rows and the unit
  vectors, which ties extreme rows to vertices.

After van Dijk et al., "Finding archetypal spaces using neural networks" (2019), and Venkat et al.,
"AAnet resolves a continuum of spatially-localized cell states" (2024).
"""

import math
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.study.settings import AANetSettings


def simplex_vertices(k: int, scale: float = 1.0) -> Float[np.ndarray, "k dim"]:
    """Vertices of a regular simplex in k - 1 dimensions, centred on the origin (float64).

    They are the unit vectors and ((1 - sqrt(k)) / (k - 1)) * ones, times `scale`, less their
    mean; every edge is `scale * sqrt(2)` long. ValueError where k < 2.
    """
    if k < 2:
        raise ValueError(f"a simplex of {k} vertices has no coordinates; k must be 2 or more")
    last = np.full((1, k - 1), (1 - np.sqrt(k)) / (k - 1))
    vertices = np.concatenate([np.eye(k - 1), last]) * scale
    return vertices - vertices.mean(axis=0)


def barycentric(
    points: Float[Tensor, "rows dim"], vertices: Float[Tensor, "k dim"]
) -> Float[Tensor, "rows k"]:
    """Barycentric coordinates b of each point e: e = sum_i b_i V_i and sum_i b_i = 1.

    With the edges T_i = V_i - V_last, e - V_last = T^T b for the first k - 1 of them. Negative
    coordinates mean that the point lies outside the simplex.
    """
    vertices = vertices.to(points)
    edges = vertices[:-1] - vertices[-1]
    first = torch.linalg.solve(edges.T, (points - vertices[-1]).T).T
    return torch.cat([first, 1 - first.sum(1, keepdim=True)], dim=1)


class AANet(nn.Module):
    """Archetypal analysis network: d_model -> widths -> k - 1 and back, ReLU between layers.

    Both the bottleneck and the output are linear. The bottleneck holds a simplex of k vertices,
    the archetypes.
    """

    def __init__(
        self, d_model: int, k: int, widths: tuple[int, int] = (64, 32), simplex_scale: float = 1.0
    ):
        super().__init__()
        sizes = [d_model, *widths, k - 1]
        pairs = list(pairwise(sizes))
        self.encoder_layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.decoder_layers = nn.ModuleList(nn.Linear(b, a) for a, b in reversed(pairs))
        self._simplex = torch.from_numpy(simplex_vertices(k, simplex_scale))

    @property
    def vertices(self) -> Float[Tensor, "k dim"]:
        """The simplex's vertices in the bottleneck, of the layers' type and on their device."""
        # Kept in double precision, and no buffer: the module's own casts would round them.
        return self._simplex.to(next(self.parameters()))

    def embed(self, x: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows dim"]:
        """Bottleneck points, without noise."""
        return _through(self.encoder_layers, x)

    def barycentric(self, x: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows k"]:
        """Barycentric coordinates of the bottleneck points."""
        return barycentric(self.embed(x), self.vertices)

    def forward(self, x: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
        """Reconstruction, without noise."""
        return self.decode(self.embed(x))

    def decode(self, points: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows d_model"]:
        """What bottleneck points stand for; for `vertices` the archetypes."""
        return _through(self.decoder_layers, points)


def _through(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers[:-1]:
        x = layer(x).relu()
    return layers[-1](x)


class Trainer:
    """Trains one AANet on a cluster's rows at full width.

    From the state dict `start`, or from where PyTorch starts its layers.
    """

    def __init__(
        self,
        cluster: ClusterRows,
        k: int,
        settings: AANetSettings,
        seed: int,
        start: dict[str, Tensor] | None = None,
    ):
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
        if start is not None:
            self.model.load_state_dict(start)
        self.taken = 0
        self.vertices = self.model.vertices
        self.adam = torch.optim.Adam(
            self.model.parameters(),
            lr=settings.lr,
            betas=(0.9, settings.beta2),
            weight_decay=settings.weight_decay,
        )
        self.plateaus = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.adam,
            factor=settings.plateau_factor,
            patience=settings.plateau_patience,
            min_lr=settings.min_lr,
        )

    def cosine(self) -> float:
        """Learning rate of the cosine schedule."""
        settings, share = self.settings, self.taken / self.settings.max_steps
        rising = (self.taken + 1) / settings.max_steps
        warm = min(1.0, rising / settings.warm_up) if settings.warm_up else 1.0
        return settings.lr * warm * (1 + math.cos(math.pi * share)) / 2

    def batch(self) -> torch.Tensor:
        """Rows drawn at random, behind the extrema."""
        size = min(self.settings.batch_size, len(self.train))
        order = torch.randperm(len(self.train), generator=self.generator)[:size]
        return torch.cat([self.extrema, self.train[order]])

    def step(self, rows: torch.Tensor, noise: torch.Tensor) -> list[float]:
        """One step; total, reconstruction, archetypal and extrema loss before it."""
        settings = self.settings
        if settings.schedule == "cosine":
            self.adam.param_groups[0]["lr"] = self.cosine()
        fading = (1 - self.taken / settings.max_steps) ** settings.extrema_fade
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
            + settings.extrema_weight * fading * extrema
        )
        self.adam.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.adam.step()
        self.taken += 1
        if settings.schedule == "plateau":
            self.plateaus.step(total.item())
        return [total.item(), recon.item(), archetypal.item(), extrema.item()]

    def run(self) -> np.ndarray:
        """Train to the end, stopping early; the four losses of every step, (steps, 4)."""
        settings, history = self.settings, []
        interval, best, best_step = settings.smoothing_window * 3 // 4, np.inf, 0
        for step in range(1, settings.max_steps + 1):
            rows = self.batch()
            noise = torch.randn(len(rows), self.k - 1, generator=self.generator) * settings.noise
            history.append(self.step(rows, noise))
            if settings.schedule == "cosine" or step % interval or step < settings.smoothing_window:
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
