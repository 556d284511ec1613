"""The masks that the field calls ideal, defined once.

Each takes the complex spectrograms of the true sources, S_i (..., source, bin, frame), and returns a
real mask M_i of that shape for the mixture Y = sum_i S_i (plus noise, where it is given). A bin in
which all sources are zero is shared equally.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Spectrograms = Complex[Tensor, "*batch source bin frame"]
Masks = Float[Tensor, "*batch source bin frame"]


def _shares(weights: Tensor) -> Tensor:
    """Weights (..., source, bin, frame), none negative, divided by their sum over the sources."""
    total = weights.sum(dim=-3, keepdim=True)
    return torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), 1 / weights.shape[-3])


def ideal_ratio_mask(sources: Spectrograms) -> Masks:
    """IRM: |S_i| / sum_j |S_j| (Huang et al. 2015; as in the LibriMix paper, Cosentino et al. 2020)."""
    return _shares(sources.abs())


def wiener_mask(sources: Spectrograms) -> Masks:
    """Wiener-like mask: |S_i|^2 / sum_j |S_j|^2 (Erdogan et al. 2015, table 1)."""
    return _shares(sources.abs().square())


def ideal_binary_mask(sources: Spectrograms) -> Masks:
    """IBM: 1 where the source is the loudest, else 0; a tie is shared (Wang 2005)."""
    magnitude = sources.abs()
    return _shares((magnitude == magnitude.amax(dim=-3, keepdim=True)).to(magnitude.dtype))


def phase_sensitive_mask(
    sources: Spectrograms, mixture: Complex[Tensor, "*batch bin frame"], *, truncate: bool = True
) -> Masks:
    """PSM: |S_i| / |Y| cos(angle S_i - angle Y), truncated to [0, 1] (Erdogan et al. 2015, eq. 7)."""
    observed = mixture.unsqueeze(-3)
    power = observed.abs().square().clamp_min(torch.finfo(observed.real.dtype).tiny)
    mask = (sources * observed.conj()).real / power
    return mask.clamp(0.0, 1.0) if truncate else mask
