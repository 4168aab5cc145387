"""The losses of a stack of AANets and their gradients, written out by hand.

Automatic differentiation of the same losses takes about twice the time. Rows stay in the
clusters' subspaces: nothing of size rows x d_model is ever formed.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from aanet_assets.science.aanet.batches import Layout
from aanet_assets.science.aanet.layers import Workspace, backward, forward, layers
from aanet_assets.science.aanet.reference import barycentric, simplex_vertices
from aanet_assets.study.settings import AANetSettings


class Objective:
    """The loss of every model of a stack; the first k places of each batch are its extrema's.

    Every slot has its own k up to the layout's, its own number of rows, and extrema or none. What
    is beyond them is padding, which adds nothing to any loss or gradient.
    """

    def __init__(
        self,
        slots: int,
        layout: Layout,
        d_model: int,
        settings: AANetSettings,
        device: str,
    ):
        self.layout, self.d_model, self.settings = layout, d_model, settings

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(slots, *shape, device=device)

        k = layout.k
        # 1/n at the n places of a batch that hold a row of the model, 0 elsewhere.
        self.row_weights = zeros(layout.places)
        # Barycentric coordinates are affine in the bottleneck point; those of the centre, the
        # origin, are all 1/k.
        self.to_barycentric, self.centre = zeros(k, k - 1), zeros(k, 1)
        # What the extrema's coordinates should be, and 1/k^2 where they count.
        self.corners, self.corner_weights = zeros(k, k), zeros(k, k)
        self.extrema_on = zeros()
        self._allocate()

    def _allocate(self) -> None:
        slots, layout = len(self.row_weights), self.layout
        self.workspace = Workspace(slots, layout, self.settings.widths, self.row_weights)
        weights = self.row_weights.unsqueeze(2)
        self.entry_weights = weights.expand(-1, -1, layout.rank).contiguous()

    def start(self, slot: int, k: int, n_extrema: int, n_rows: int) -> None:
        """Give a slot to a model with so many archetypes, extrema and rows in a batch."""
        own = torch.zeros(self.layout.places)
        own[:n_extrema] = 1
        own[self.layout.k : self.layout.k + n_rows] = 1
        self.row_weights[slot] = own / own.sum()
        self.entry_weights[slot] = self.row_weights[slot].unsqueeze(1)
        vertices = torch.from_numpy(simplex_vertices(k, self.settings.simplex_scale))
        units = barycentric(torch.eye(k - 1, dtype=torch.float64), vertices)
        for values, block in (
            (self.to_barycentric, (units - 1 / k).T),
            (self.centre, torch.full((k, 1), 1 / k)),
            (self.corners, torch.eye(k)),
            (self.corner_weights, torch.full((k, k), (n_extrema > 0) / k**2)),
        ):
            values[slot] = 0
            values[slot, : block.shape[0], : block.shape[1]] = block
        self.extrema_on[slot] = float(n_extrema > 0)

    def keep(self, slots: Tensor) -> None:
        """Drop every other slot."""
        for name in ("row_weights", "to_barycentric", "centre", "corners", "corner_weights",
                     "extrema_on"):  # fmt: skip
            setattr(self, name, getattr(self, name)[slots])
        self._allocate()

    def losses(
        self,
        parameters: dict[str, Tensor],
        gradient: dict[str, Tensor],
        rows: Float[Tensor, "slots places rank"],
        noise: Float[Tensor, "slots places dim"],
        extrema_weight: Float[Tensor, " slots"],
    ) -> Float[Tensor, "losses slots"]:
        """Total, reconstruction, archetypal and extrema loss; writes the total's gradient.

        Reconstruction: mean squared error over rows and the d_model coordinates of the residual
        stream. Archetypal: mean over rows of the squared sum of the negative barycentric
        coordinates. Extrema: mean squared difference between the extrema's barycentric
        coordinates and the identity matrix, nan where it is off. `noise`, in units of the
        bottleneck, reaches the decoder alone.
        """
        work, weights = self.workspace, self.settings
        encoder, decoder = layers(parameters, "encoder"), layers(parameters, "decoder")
        points = forward(encoder, rows, work.encoder)
        noisy = torch.add(points, noise, out=work.noisy)
        output = forward(decoder, noisy, work.decoder)

        residual = output.sub_(rows)
        weighted = torch.mul(residual, self.entry_weights, out=work.weighted)
        reconstruction = _dot(residual, weighted) / self.d_model
        slope = weighted.mul_(2 * weights.recon_weight / self.d_model)
        archetypal, extrema, pull = self._simplex_losses(points, extrema_weight)

        decoder_inputs = [noisy, *work.decoder[:2]]
        inward = backward(
            decoder, layers(gradient, "decoder"), decoder_inputs, slope, work.decoder_slopes
        )
        inward = torch.bmm(inward, decoder[0][0])
        inward.baddbmm_(pull.mT, self.to_barycentric)
        encoder_inputs = [rows, *work.encoder[:2]]
        backward(encoder, layers(gradient, "encoder"), encoder_inputs, inward, work.encoder_slopes)

        total = weights.recon_weight * reconstruction + weights.archetypal_weight * archetypal
        total.addcmul_(extrema, extrema_weight)
        extrema.masked_fill_(self.extrema_on == 0, torch.nan)
        return torch.stack([total, reconstruction, archetypal, extrema])

    def _simplex_losses(
        self,
        points: Float[Tensor, "slots places dim"],
        extrema_weight: Float[Tensor, " slots"],
    ) -> tuple[
        Float[Tensor, " slots"], Float[Tensor, " slots"], Float[Tensor, "slots k places"]
    ]:  # fmt: skip
        """Archetypal and extrema loss, and the slope of both, weighted, at the coordinates.

        Coordinates come before rows here: sums and products along a short last axis are slow.
        """
        weights, k = self.settings, self.layout.k
        coordinates = torch.baddbmm(self.centre, self.to_barycentric, points.mT)
        negative = coordinates.clamp(max=0)
        outside = negative.sum(1)
        weighted = outside * self.row_weights
        archetypal = (outside * weighted).sum(1)
        # sign_() is -1 at the negative coordinates, each of which has the slope 2 w outside.
        slope = weighted.mul_(-2 * weights.archetypal_weight).unsqueeze(1)
        pull = negative.sign_().mul_(slope)

        off_corner = coordinates[:, :, :k] - self.corners
        counted = off_corner * self.corner_weights
        extrema = (off_corner * counted).sum((1, 2))
        pull[:, :, :k].addcmul_(counted, extrema_weight.view(-1, 1, 1), value=2)
        return archetypal, extrema, pull


def extrema_weights(
    before: Int[np.ndarray, " slots"], steps: int, settings: AANetSettings
) -> Float[np.ndarray, "steps slots"]:
    """Weight of the extrema loss over the next steps, for models that took `before` already."""
    taken = (before + np.arange(steps)[:, None]) / settings.max_steps
    return settings.extrema_weight * (1 - taken) ** settings.extrema_fade


def _dot(a: Tensor, b: Tensor) -> Float[Tensor, " slots"]:
    """Sum of products within each model."""
    return torch.bmm(a.flatten(1).unsqueeze(1), b.flatten(1).unsqueeze(2)).flatten()
