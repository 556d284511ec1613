"""Patch masking: each patch of the mixture is kept as far as it resembles patches of the query.

The patch embeddings of the tagger describe what happens where in time and frequency. The similarity of a
patch is its largest cosine similarity to the query's patches in the same row of the spectrogram. Its mean
over the windows that contain a cell is a map L over (frame, mel), whose spread in this mixture sets the
contrast:

    M = sigmoid(contrast (L - median L) / (standard deviation of L)).                                  (1)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sepnet.query.context import QueryContext
from sepnet.types import SepnetError


class PatchMask:
    """The mask of equation (1).

    Args:
        contrast: How steeply the mask follows the similarity; positive.
        gated: Whether the mask is also closed where the query does not occur.

    Raises:
        SepnetError: The contrast is not positive.
    """

    needs_detection = True

    def __init__(self, *, contrast: float = 1.5, gated: bool = True) -> None:
        if contrast <= 0:
            raise SepnetError(f"contrast={contrast} has to be positive")
        self.contrast, self.gated = contrast, gated

    def __call__(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Make the mask, (frame, mel)."""
        similarity = self.similarity(context)
        spread = similarity.std().clamp_min(1e-6)
        mask = torch.sigmoid(self.contrast * (similarity - similarity.median()) / spread)
        return mask * context.soft_gate()[:, None] if self.gated else mask

    def similarity(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Compute L, between -1 and 1."""
        patches = context.mixture_tags.tags.patches  # (window, row, column, embedding)
        n_windows, n_rows, n_columns, _ = patches.shape
        query = context.tagger.tag_track(context.query.audio).tags.patches
        query = query.transpose(0, 1).flatten(1, 2)  # (row, patch of the query, embedding)
        mixture = patches.permute(1, 0, 2, 3).flatten(1, 2)  # (row, window x column, embedding)
        cosine = functional.normalize(mixture, dim=-1) @ functional.normalize(query, dim=-1).transpose(1, 2)
        best = cosine.amax(dim=-1).view(n_rows, n_windows, n_columns)
        over_time = self._over_frames(context, best)  # (frame, row)
        over_mels = functional.interpolate(
            over_time[None], size=context.masking.n_mels, mode="linear", align_corners=False
        )
        return over_mels[0]

    def _over_frames(
        self, context: QueryContext, similarity: Float[Tensor, "row window column"]
    ) -> Float[Tensor, "frame row"]:
        """The mean over the windows that contain a frame, each at the column in which the frame lies."""
        n_windows, n_columns = similarity.shape[1:]
        at, times = context.frame_times.to(similarity), context.mixture_tags.times.to(similarity)
        position = (at[:, None] - times[:, 0]) / (times[:, 1] - times[:, 0])  # (frame, window): 0 to 1 inside
        inside = (position >= 0) & (position < 1)
        nearest = (position - 0.5).abs().argmin(dim=1)  # a frame outside all windows uses the nearest one
        inside[torch.arange(len(at)), nearest] = True
        column = (position * n_columns).long().clamp(0, n_columns - 1)
        values = torch.stack([row[torch.arange(n_windows), column] for row in similarity], dim=-1)
        weights = inside.to(values).unsqueeze(-1)  # (frame, window, 1)
        return (values * weights).sum(dim=1) / weights.sum(dim=1)
