"""The mask of a network that was trained to follow an example (sepnet.query.query_mask)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from sepnet.query.context import QueryContext
from sepnet.query.query_mask import QueryMask
from sepnet.query.starts.start import QueryEmbedder


class NetworkStart(nn.Module):
    """The mask of a network. It needs no detection: it may find what the tagger does not recognise.

    Args:
        network: The trained network.
        gate: How much the detection attenuates the mask where the query does not occur: 0 not at all, 1
            fully.
    """

    needs_detection = False
    provides_embedder = True

    def __init__(self, *, network: QueryMask, gate: float = 0.0) -> None:
        super().__init__()
        self.network, self.gate = network, gate

    def forward(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Make the mask, (frame, mel)."""
        mask = self.network.mask(context.mixture, context.query.audio)
        return mask * (1 - self.gate * (1 - context.soft_gate()[:, None]))

    def embedder(self, context: QueryContext) -> QueryEmbedder:
        """The network's encoder of examples, and its embedding of the query."""
        (query,) = self._embed(context.query.audio[None])
        return QueryEmbedder(self._embed, query.detach())

    def _embed(self, windows: Float[Tensor, "window sample"]) -> Float[Tensor, "window embedding"]:
        return self.network.embed(windows, [windows.shape[1]] * len(windows))
