"""Patch masking: each patch of the mixture counts as much as it is like the query's patches.

The tagger's tokens tell what is where in time and frequency. The likeness of a patch is its largest cosine
similarity to the query's patches of the same rows of the spectrogram; a mean over the windows that see a cell
makes a map of it, and its spread in this mixture makes a mask of the map:

    M = sigmoid(contrast (L - median L) / (standard deviation of L)).                                  (1)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sepnet.query.scene import Scene
from sepnet.types import SepnetError


class PatchMask:
    """(1); gated: whether it is also closed where the query is not heard."""

    def __init__(self, *, contrast: float = 1.5, gated: bool = True) -> None:
        if contrast <= 0:
            raise SepnetError(f"contrast={contrast} has to be positive")
        self.contrast, self.gated = contrast, gated

    def __call__(self, scene: Scene) -> Float[Tensor, "frame mel"]:
        """The mask."""
        likeness = self.likeness(scene)
        spread = likeness.std().clamp_min(1e-6)
        mask = torch.sigmoid(self.contrast * (likeness - likeness.median()) / spread)
        return mask * scene.gate()[:, None] if self.gated else mask

    def likeness(self, scene: Scene) -> Float[Tensor, "frame mel"]:
        """L, between -1 and 1."""
        patches = scene.track.tags.patches  # (window, row, column, dim)
        n_windows, n_rows, n_columns, _ = patches.shape
        known = scene.tagger.track(scene.query.audio).tags.patches
        known = known.transpose(0, 1).flatten(1, 2)  # (row, patch of the query, dim)
        found = patches.permute(1, 0, 2, 3).flatten(1, 2)  # (row, window x column, dim)
        similar = functional.normalize(found, dim=-1) @ functional.normalize(known, dim=-1).transpose(1, 2)
        best = similar.amax(dim=-1).view(n_rows, n_windows, n_columns)
        over_time = self._along(scene, best)  # (frame, row)
        rows = functional.interpolate(
            over_time[None], size=scene.masking.n_mels, mode="linear", align_corners=False
        )
        return rows[0]

    def _along(self, scene: Scene, best: Float[Tensor, "row window column"]) -> Float[Tensor, "frame row"]:
        """The mean over the windows that see a frame, each read where the frame lies in it."""
        at, times = scene.frame_seconds.to(best), scene.track.times.to(best)
        place = (at[:, None] - times[:, 0]) / (times[:, 1] - times[:, 0])  # (frame, window): 0 to 1 within
        seen = (place >= 0) & (place < 1)
        nearest = (place - 0.5).abs().argmin(dim=1)  # a frame that no window sees takes the nearest
        seen[torch.arange(len(at)), nearest] = True
        column = (place * best.shape[2]).long().clamp(0, best.shape[2] - 1)
        values = torch.stack([row[torch.arange(best.shape[1]), column] for row in best], dim=-1)
        weights = seen.to(values).unsqueeze(-1)  # (frame, window, 1)
        return (values * weights).sum(dim=1) / weights.sum(dim=1)
