"""The mask of a network that was trained to be shown an example (sepnet.query.mask_network)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from sepnet.query.mask_network import QueryMask
from sepnet.query.scene import Ear, Scene


class NetworkStart(nn.Module):
    """gate: how far the detection closes the mask where the query is not heard, 0 (not) to 1 (all)."""

    needs_detection = False

    def __init__(self, *, network: QueryMask, gate: float = 0.0) -> None:
        super().__init__()
        self.network, self.closing = network, gate

    def forward(self, scene: Scene) -> Float[Tensor, "frame mel"]:
        """The mask."""
        mask = self.network.mask(scene.signal, scene.query.audio)
        return mask * (1 - self.closing * (1 - scene.gate()[:, None]))

    def ear(self, scene: Scene) -> Ear:
        """The encoder of the network's examples."""
        (query,) = self._embed(scene.query.audio[None])
        return Ear(self._embed, query.detach())

    def _embed(self, pieces: Float[Tensor, "window sample"]) -> Float[Tensor, "window embedding"]:
        return self.network.embed(pieces, [pieces.shape[1]] * len(pieces))
