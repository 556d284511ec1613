"""Signatures: the spectra by which the energy methods tell sources from one another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.ranges import NonNegativeInt

TINY = 1e-20  # the smallest amplitude or power that is divided by


@dataclass(frozen=True)
class Signatures:
    """Amplitude spectra, and the source that each of them belongs to.

    Attributes:
        shapes: Amplitudes (signature, bin) of mean 1.
        shares: How much of each signature belongs to each source, (source, signature); the columns sum to 1.
        windows: The window of the mixture that each signature was taken from, (signature,); None where they
            come from another recording.
        min_gap_windows: A signature explains no window of the mixture that lies this many windows from its
            own, or fewer: no frame explains itself.
    """

    shapes: Tensor
    shares: Tensor
    windows: Tensor | None = None
    min_gap_windows: NonNegativeInt = 3

    @property
    def powers(self) -> Float[Tensor, "source bin"]:
        """The mean power spectrum of each source."""
        return self.shares @ self.shapes.square() / self.shares.sum(dim=1, keepdim=True).clamp_min(TINY)

    def pooled(self) -> Signatures:
        """Return one signature for each source: the mean, as in the textbook form."""
        shapes = self.powers.sqrt()
        return replace(self, shapes=unit_mean(shapes), shares=torch.eye(len(shapes)).to(shapes), windows=None)


def unit_mean(amplitudes: Float[Tensor, "*batch bin"]) -> Float[Tensor, "*batch bin"]:
    """Scale each spectrum to mean 1; silence stays 0."""
    return amplitudes / amplitudes.mean(dim=-1, keepdim=True).clamp_min(TINY)
