"""Spectral contrast: what is louder while the query is heard than while it is not, shaped like the query.

Nothing is trained but the tagger. With B(f) the mean mel power of the frames in which the query is not heard,
and P(t, f) of the mixture, what is there in addition, and what the query's spectrum Q(f), at the level that
explains it, leads one to expect, are two estimates of the target's power; the mask is the Wiener filter of
their blend,

    A(t, f) = max(P - B, 0),      E(t, f) = a(t) Q(f),  a(t) = sum_f A / sum_f Q,                    (1)
    M = T / (T + B),      T = (1 - b) A + b E.                                                       (2)

Where the query is heard throughout there is no B to be seen: the tenth of the frames in which it is heard
least stands in, over ``confusion``, since the target is in these, too.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.query.detection import interpolated
from sepnet.query.scene import Scene
from sepnet.types import SepnetError

LEAST_SHARE = 0.05  # of the frames: fewer show no background


class SpectralContrast:
    """(2). blend: b. gated: whether the mask is also closed where the query is not heard."""

    def __init__(self, *, blend: float = 1.0, confusion: float = 2.0, gated: bool = False) -> None:
        if not 0 <= blend <= 1 or confusion < 1:
            raise SepnetError(f"blend={blend} lies between 0 and 1, and confusion={confusion} is 1 or above")
        self.blend, self.confusion, self.gated = blend, confusion, gated
        self.needs_detection = gated

    def __call__(self, scene: Scene) -> Float[Tensor, "frame mel"]:
        """The mask."""
        gate, powers = scene.gate(), scene.powers
        background = self._background(scene, gate)
        above = (powers - background).clamp_min(0)  # (1)
        shape = scene.masking.powers(scene.query.audio).mean(dim=0)
        expected = above.sum(dim=1, keepdim=True) * (shape / shape.sum().clamp_min(1e-12))
        target = (1 - self.blend) * above + self.blend * expected
        mask = target / (target + background).clamp_min(1e-12)  # (2)
        return mask * gate[:, None] if self.gated else mask

    def _background(self, scene: Scene, gate: Float[Tensor, " frame"]) -> Float[Tensor, " mel"]:
        quiet = gate < 0.01
        if quiet.float().mean() >= LEAST_SHARE:
            return scene.powers[quiet].mean(dim=0)
        found = scene.detection
        score = interpolated(found.times.mean(dim=1), found.score, scene.frame_seconds)
        least = score <= torch.quantile(score, 0.1)
        return scene.powers[least].mean(dim=0) / self.confusion
