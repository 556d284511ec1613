"""Several starts at once: their weighted mean. What errs in different ways errs less together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.query.scene import Ear, Listening, Scene, Start
from sepnet.types import SepnetError


class BlendedStart(nn.Module):
    """The mean of the masks of ``starts``, by ``weights``, which need not sum to one.

    Raises SepnetError for weights that are not as many as the starts, or none of them positive.
    """

    def __init__(self, *, starts: Sequence[Start], weights: Sequence[float]) -> None:
        super().__init__()
        if len(starts) != len(weights) or min(weights, default=-1.0) < 0 or sum(weights) <= 0:
            raise SepnetError(
                f"{len(starts)} starts with the weights {list(weights)}: give each start one, none negative "
                "and not all zero"
            )
        self.starts, self.weights = list(starts), [weight / sum(weights) for weight in weights]
        self.parts = nn.ModuleList(start for start in starts if isinstance(start, nn.Module))
        self.needs_detection = any(getattr(start, "needs_detection", True) for start in starts)

    def forward(self, scene: Scene) -> Float[Tensor, "frame mel"]:
        """The mask."""
        masks = [weight * start(scene) for start, weight in zip(self.starts, self.weights, strict=True)]
        return torch.stack(masks).sum(dim=0)

    def ear(self, scene: Scene) -> Ear:
        """That of the first start that has one. Raises SepnetError where none has."""
        for start in self.starts:
            if isinstance(start, Listening):
                return start.ear(scene)
        raise SepnetError("none of the starts has an embedding of its own: set hear_through=tagger")
