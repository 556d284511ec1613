"""Mel stitching: the active windows of the mixture itself serve as the estimate of the target.

This is the faithful mode. Where the query occurs, the mel powers P of the mixture are kept, elsewhere not.
The mean profile over time, raised to a power, weights the bands:

    R(t, f) = gate(t) P(t, f),      w(f) = (mean_t R / max_f mean_t R)^gamma,      M = gate(t) w(f).      (1)

R is also the reference of the optimisation. It contains every other sound of these windows, so the loss may
fall without any separation.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sepnet.query.context import QueryContext
from sepnet.types import SepnetError


class MelStitching:
    """The mask M and the reference R of equation (1).

    Args:
        gamma_profile: gamma, the power of the profile; 0 leaves the gate alone.

    Raises:
        SepnetError: The power is negative.
    """

    needs_detection = True

    def __init__(self, *, gamma_profile: float = 0.25) -> None:
        if gamma_profile < 0:
            raise SepnetError(f"gamma_profile={gamma_profile} must not be negative")
        self.gamma_profile = gamma_profile

    def __call__(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Make the mask, (frame, mel)."""
        profile = self.reference(context).mean(dim=0)
        weights = (profile / profile.max().clamp_min(1e-12)).pow(self.gamma_profile)
        return context.soft_gate()[:, None] * weights

    def reference(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Compute the stitched mel powers R."""
        return context.soft_gate()[:, None] * context.mel_powers
