"""The weighted mean of several first masks, which has smaller errors where theirs differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.query.context import QueryContext
from sepnet.query.starts.start import HasEmbedder, QueryEmbedder, Start, provides_embedder
from sepnet.types import SepnetError


class BlendedStart(nn.Module):
    """The weighted mean of masks.

    Args:
        starts: The methods that make the masks.
        weights: One for each method, not negative; they need not sum to one.

    Raises:
        SepnetError: There is not one weight for each start, one is negative, or all are zero.
    """

    def __init__(self, *, starts: Sequence[Start], weights: Sequence[float]) -> None:
        super().__init__()
        if len(starts) != len(weights) or min(weights, default=-1.0) < 0 or sum(weights) <= 0:
            raise SepnetError(
                f"{len(starts)} starts have the weights {list(weights)}: give one weight for each, none "
                "negative and not all zero"
            )
        self.starts, self.weights = list(starts), [weight / sum(weights) for weight in weights]
        self.parts = nn.ModuleList(start for start in starts if isinstance(start, nn.Module))

    @property
    def needs_detection(self) -> bool:
        """Whether one of the starts needs it."""
        return any(start.needs_detection for start in self.starts)

    @property
    def provides_embedder(self) -> bool:
        """Whether one of the starts has an embedder."""
        return any(provides_embedder(start) for start in self.starts)

    def forward(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Make the mask, (frame, mel)."""
        masks = [weight * start(context) for start, weight in zip(self.starts, self.weights, strict=True)]
        return torch.stack(masks).sum(dim=0)

    def embedder(self, context: QueryContext) -> QueryEmbedder:
        """Return the embedder of the first start that has one. Raises SepnetError if none has."""
        for start in self.starts:
            if isinstance(start, HasEmbedder) and start.provides_embedder:
                return start.embedder(context)
        raise SepnetError("none of the starts has an embedding of its own: set loss_embedding=tagger")
