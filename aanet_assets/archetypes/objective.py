"""The losses of a stack of AANets and their gradients, written out by hand.

Automatic differentiation of the same losses takes about twice the time. Rows stay in the
clusters' subspaces: nothing of size rows x d_model is ever formed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from aanet_assets.archetypes.layers import Workspace, backward, forward, layers, with_ones
from aanet_assets.archetypes.simplex import barycentric, simplex_vertices
from aanet_assets.settings import AANetSettings


class Objective:
    """The loss of every model of a stack; the first k rows of each batch are its extrema.

    `row_weights` is 1/n for each of the n rows a model really has in a batch and 0 for padding;
    `extrema_on` is 1 where a model has k extrema, else 0.
    """

    def __init__(
        self,
        settings: AANetSettings,
        d_model: int,
        rank: int,
        k: int,
        row_weights: Float[Tensor, "models rows"],
        extrema_on: Float[Tensor, "models"],
    ):
        self.settings, self.d_model, self.rank, self.k = settings, d_model, rank, k
        self.row_weights, self.extrema_on = row_weights, extrema_on
        models, batch = row_weights.shape
        self.workspace = Workspace(
            models, batch, rank, k, settings.widths, row_weights.dtype, row_weights.device
        )
        self.entry_weights = row_weights.unsqueeze(2).expand(-1, -1, rank).contiguous()
        # Barycentric coordinates are affine in the bottleneck point; those of the centre, the
        # origin, are all 1/k.
        vertices = torch.from_numpy(simplex_vertices(k, settings.simplex_scale))
        units = barycentric(torch.eye(k - 1, dtype=torch.float64), vertices)
        self.to_barycentric = (units - 1 / k).T.to(row_weights).contiguous()
        self.corners = torch.eye(k).to(row_weights)

    def keep(self, models: Tensor) -> "Objective":
        """The objective of some of the models."""
        return Objective(
            self.settings, self.d_model, self.rank, self.k,
            self.row_weights[models], self.extrema_on[models],
        )  # fmt: skip

    def losses(
        self,
        parameters: dict[str, Tensor],
        gradient: dict[str, Tensor],
        rows: Float[Tensor, "models rows rank"],
        noise: Float[Tensor, "models rows dim"],
        outside_gram: Float[Tensor, "models hidden hidden"] | None = None,
    ) -> Float[Tensor, "losses models"]:
        """Total, reconstruction, archetypal and extrema loss; writes the total's gradient.

        Reconstruction: mean squared error over rows and the d_model coordinates of the residual
        stream. Archetypal: mean over rows of the squared sum of the negative barycentric
        coordinates. Extrema: mean squared difference between the extrema's barycentric
        coordinates and the identity matrix, nan where it is off. `noise`, in units of the
        bottleneck, reaches the decoder alone. `outside_gram` holds the inner products of what the
        last layer's weights, and last its bias, write outside the subspace (see `exact.py`).
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
        hidden_slope = None
        if outside_gram is not None:
            hidden = with_ones(work.decoder[1])
            pushed = torch.bmm(hidden, outside_gram).mul_(self.row_weights.unsqueeze(2))
            reconstruction += _dot(hidden, pushed) / self.d_model
            hidden_slope = pushed[:, :, :-1].mul_(2 * weights.recon_weight / self.d_model)
        archetypal, extrema, pull = self._simplex_losses(points)

        decoder_inputs = [noisy, *work.decoder[:2]]
        inward = backward(
            decoder, layers(gradient, "decoder"), decoder_inputs, slope, work.decoder_slopes,
            hidden_slope,
        )  # fmt: skip
        inward = torch.bmm(inward, decoder[0][0])
        inward.flatten(0, 1).addmm_(pull.flatten(1).T, self.to_barycentric)
        encoder_inputs = [rows, *work.encoder[:2]]
        backward(encoder, layers(gradient, "encoder"), encoder_inputs, inward, work.encoder_slopes)

        total = weights.recon_weight * reconstruction + weights.archetypal_weight * archetypal
        total.add_(extrema, alpha=weights.extrema_weight)
        extrema.masked_fill_(self.extrema_on == 0, torch.nan)
        return torch.stack([total, reconstruction, archetypal, extrema])

    def _simplex_losses(
        self, points: Float[Tensor, "models rows dim"]
    ) -> tuple[
        Float[Tensor, "models"], Float[Tensor, "models"], Float[Tensor, "k models rows"]
    ]:  # fmt: skip
        """Archetypal and extrema loss, and the slope of both, weighted, at the coordinates.

        Coordinates come first here: sums and products along a short last axis are slow.
        """
        weights, k = self.settings, self.k
        coordinates = torch.mm(self.to_barycentric, points.flatten(0, 1).T).add_(1 / k)
        coordinates = coordinates.unflatten(1, points.shape[:2])
        negative = coordinates.clamp(max=0)
        outside = negative.sum(0)
        weighted = outside * self.row_weights
        archetypal = (outside * weighted).sum(1)
        # sign_() is -1 at the negative coordinates, each of which has the slope 2 w outside.
        pull = negative.sign_().mul_(weighted.mul_(-2 * weights.archetypal_weight))

        off_corner = coordinates[:, :, :k] - self.corners.unsqueeze(1)
        off_corner.mul_(self.extrema_on.unsqueeze(1))
        extrema = off_corner.square().sum((0, 2)) / k**2
        pull[:, :, :k].add_(off_corner, alpha=2 * weights.extrema_weight / k**2)
        return archetypal, extrema, pull


def _dot(a: Tensor, b: Tensor) -> Float[Tensor, "models"]:
    """Sum of products within each model."""
    return torch.bmm(a.flatten(1).unsqueeze(1), b.flatten(1).unsqueeze(2)).flatten()
