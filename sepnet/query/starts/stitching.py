"""Mel stitching: the mixture's own active windows are taken for the sound that is asked for.

The faithful mode. Where the query is heard the mixture's mel powers P are kept, elsewhere not; their mean
profile over time, to a power, weighs the bands:

    R(t, f) = gate(t) P(t, f),      w(f) = (mean_t R / max_f mean_t R)^gamma,      M = gate(t) w(f).      (1)

R is also the reference that the optimisation draws the target to. It holds whatever else sounds in these
windows, so the loss may fall while nothing is separated.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sepnet.query.scene import Scene
from sepnet.types import SepnetError


class MelStitching:
    """(1); gamma_profile: the power of the profile, 0 for a gate alone."""

    def __init__(self, *, gamma_profile: float = 0.25) -> None:
        if gamma_profile < 0:
            raise SepnetError(f"gamma_profile={gamma_profile} has to be 0 or above")
        self.gamma_profile = gamma_profile

    def __call__(self, scene: Scene) -> Float[Tensor, "frame mel"]:
        """The mask."""
        profile = self.reference(scene).mean(dim=0)
        weights = (profile / profile.max().clamp_min(1e-12)).pow(self.gamma_profile)
        return scene.gate()[:, None] * weights

    def reference(self, scene: Scene) -> Float[Tensor, "frame mel"]:
        """The stitched mel powers R."""
        return scene.gate()[:, None] * scene.powers
