"""Spectral contrast: what is louder while the query occurs than while it does not, in the query's spectrum.

Only the tagger is trained. Let P(t, f) be the mel power of the mixture, and B(f) its mean over the frames in
which the query does not occur. Two estimates of the target's power are the excess A over B, and E, the
spectrum Q(f) of the query at the level that explains the excess. The mask is the Wiener filter of their
blend,

    A(t, f) = max(P - B, 0),      E(t, f) = a(t) Q(f),  a(t) = sum_f A / sum_f Q,                    (1)
    M = T / (T + B),      T = (1 - b) A + b E.                                                       (2)

Where the query occurs throughout, no frame shows B alone. Then B is estimated from the tenth of the frames
with the lowest score, and divided by ``overestimation``, because these frames contain the target, too.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.query.context import QueryContext
from sepnet.query.detection.segments import interpolate
from sepnet.types import SepnetError

MIN_BACKGROUND_SHARE = 0.05  # of the frames: from fewer than these, no background is estimated
CLOSED_GATE = 0.01  # below it, the query does not occur in a frame
LOW_SCORE_SHARE = 0.1  # of the frames, where all contain the query


class SpectralContrast:
    """The mask of equation (2).

    Args:
        blend: b, from 0 (the excess alone) to 1 (the query's spectrum alone).
        overestimation: By how much the background is overestimated where the query occurs throughout.
        gated: Whether the mask is also closed where the query does not occur.

    Raises:
        SepnetError: A number is out of range.
    """

    def __init__(self, *, blend: float = 1.0, overestimation: float = 2.0, gated: bool = False) -> None:
        if not 0 <= blend <= 1 or overestimation < 1:
            raise SepnetError(
                f"blend={blend} has to be between 0 and 1, and overestimation={overestimation} 1 or more"
            )
        self.blend, self.overestimation, self.gated = blend, overestimation, gated

    @property
    def needs_detection(self) -> bool:
        """Whether the mask is closed where nothing was detected."""
        return self.gated

    def __call__(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Make the mask, (frame, mel)."""
        gate, powers = context.soft_gate(), context.mel_powers
        background = self._background(context, gate)
        excess = (powers - background).clamp_min(0)  # (1)
        spectrum = context.masking.mel_powers(context.query.audio).mean(dim=0)
        expected = excess.sum(dim=1, keepdim=True) * (spectrum / spectrum.sum().clamp_min(1e-12))
        target = (1 - self.blend) * excess + self.blend * expected
        mask = target / (target + background).clamp_min(1e-12)  # (2)
        return mask * gate[:, None] if self.gated else mask

    def _background(self, context: QueryContext, gate: Float[Tensor, " frame"]) -> Float[Tensor, " mel"]:
        without_query = gate < CLOSED_GATE
        if without_query.float().mean() >= MIN_BACKGROUND_SHARE:
            return context.mel_powers[without_query].mean(dim=0)
        detection = context.detection
        score = interpolate(detection.centres, detection.score, context.frame_times)
        lowest = score <= torch.quantile(score, LOW_SCORE_SHARE)
        return context.mel_powers[lowest].mean(dim=0) / self.overestimation
