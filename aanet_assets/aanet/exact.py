"""Training at full width without a tensor of rows x d_model: the mode `exact`.

A row is x = Q z, with Q the orthonormal basis of its cluster's subspace, so the first layer's
weight W acts on z as W Q. The last layer's weight and bias, here one matrix V whose last column is
the bias, act on h, the last hidden layer with a one behind it. V falls into a part inside the
subspace, Q Q^T V, of which everything is computed by `Objective` on Q^T V, and a part outside,
U = V - Q Q^T V, which no row asks for: it adds the mean of |U h|^2 / d_model to the
reconstruction loss. With the Gram matrix U^T U and the second moment S = mean of h h^T, that
is trace(U^T U S) / d_model, and its gradient is 2 U S / d_model.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aanet_assets.aanet.layers import Workspace, with_ones
from aanet_assets.aanet.objective import Objective
from aanet_assets.aanet.parameters import FIRST, LAST


class ExactObjective:
    """The losses of a stack and their gradients, for parameters at full width."""

    def __init__(self, inside: Objective):
        self.inside = inside
        slots, d_model, rank = len(inside.row_weights), inside.d_model, inside.layout.rank
        self.bases = inside.row_weights.new_zeros(slots, d_model, rank)

    @property
    def workspace(self) -> Workspace:
        """Memory of the part inside."""
        return self.inside.workspace

    def use_basis(self, slot: int, basis: Float[np.ndarray, "d_model rank"]) -> None:
        """Give a slot to a model that lives in the subspace of this basis."""
        self.bases[slot] = 0
        self.bases[slot, :, : basis.shape[1]] = torch.tensor(basis)

    def keep(self, slots: Tensor) -> None:
        """Drop every other slot."""
        self.inside.keep(slots)
        self.bases = self.bases[slots]

    def losses(
        self,
        parameters: dict[str, Tensor],
        gradient: dict[str, Tensor],
        rows: Float[Tensor, "slots rows rank"],
        noise: Float[Tensor, "slots rows dim"],
    ) -> Float[Tensor, "losses models"]:
        """As `Objective.losses`, with parameters and gradient at full width."""
        inside, outside = split(parameters, self.bases)
        # Layers between the first and the last have the same gradient seen from either side.
        reduced = gradient | {name: torch.empty_like(inside[name]) for name in (FIRST, *LAST)}
        gram = torch.bmm(outside, outside.mT)
        losses = self.inside.losses(inside, reduced, rows, noise, gram)

        hidden = with_ones(self.workspace.decoder[1])
        weighted = hidden * self.inside.row_weights.unsqueeze(2)
        moment = torch.bmm(weighted.mT, hidden)
        moment.mul_(2 * self.inside.settings.recon_weight / self.inside.d_model)
        last = torch.bmm(moment, outside).baddbmm_(_joined(reduced), self.bases.mT)
        gradient[LAST[0]].copy_(last[:, :-1].mT)
        gradient[LAST[1]].copy_(last[:, -1])
        gradient[FIRST].copy_(torch.bmm(reduced[FIRST], self.bases.mT))
        return losses


def split(
    parameters: dict[str, Tensor], bases: Float[Tensor, "slots d_model rank"]
) -> tuple[dict[str, Tensor], Float[Tensor, "slots hidden d_model"]]:
    """Full-width parameters as seen from the subspace, and the last layer's part outside it.

    That part is U^T: a row for each unit of the last hidden layer, and one for the bias.
    """
    last = _joined(parameters)
    reduced = torch.bmm(last, bases)
    outside = torch.baddbmm(last, reduced, bases.mT, alpha=-1)
    inside = parameters | {
        FIRST: torch.bmm(parameters[FIRST], bases),
        LAST[0]: reduced[:, :-1].mT,
        LAST[1]: reduced[:, -1],
    }
    return inside, outside


def _joined(parameters: dict[str, Tensor]) -> Float[Tensor, "slots hidden width"]:
    """Weight and bias of the last layer as one matrix, inputs first; the bias is the last row."""
    weight, bias = (parameters[name] for name in LAST)
    return torch.cat([weight.mT, bias.unsqueeze(1)], dim=1)
