"""The AANet at full width, as it is exported, read back and applied; no training here."""

from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aanet_assets.aanet.simplex import barycentric, simplex_vertices


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


def load_aanet(path: Path, simplex_scale: float = 1.0) -> AANet:
    """Read a `.pt` state dict; d_model, widths and k follow from its shapes.

    FileNotFoundError where there is no such file, ValueError where it is not an AANet.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no AANet at {path}; train this cluster at this k first")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        width, d_model = state["encoder_layers.0.weight"].shape
        bottleneck, inner = state["encoder_layers.2.weight"].shape
        model = AANet(d_model, bottleneck + 1, (width, inner), simplex_scale)
        model.load_state_dict(state)
    except Exception as error:  # torch.load raises whatever a damaged pickle makes it raise
        raise ValueError(
            f"{path} is not an AANet's state dict (encoder_layers.0-2 and decoder_layers.0-2, "
            f"weight and bias): {error}"
        ) from error
    return model.eval()
