"""The masks that the field calls ideal, defined once.

Each takes the complex spectrograms of the true sources, S_i (..., source, bin, frame), and of the mixture Y
(..., bin, frame), and returns a mask M_i for each source. Masks that are shares of the sources among
themselves don't look at Y, and sum to one: a bin in which all sources are zero is shared equally. The others
are zero where Y is, since nothing can be made of nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Spectrograms = Complex[Tensor, "*batch source bin frame"]
Masks = Float[Tensor, "*batch source bin frame"]
Observed = Complex[Tensor, "*batch bin frame"]


def shares(weights: Tensor) -> Tensor:
    """Weights (..., source, bin, frame), none negative, divided by their sum over the sources; else equal."""
    total = weights.sum(dim=-3, keepdim=True)
    return torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), 1 / weights.shape[-3])


def ideal_ratio_mask(sources: Spectrograms, mixture: Observed | None = None) -> Masks:
    """IRM: |S_i| / sum_j |S_j| (Huang et al. 2015; as in the LibriMix paper, Cosentino et al. 2020)."""
    return shares(sources.abs())


def wiener_mask(sources: Spectrograms, mixture: Observed | None = None) -> Masks:
    """Wiener-like mask: |S_i|^2 / sum_j |S_j|^2 (Erdogan et al. 2015, table 1)."""
    return shares(sources.abs().square())


def ideal_binary_mask(sources: Spectrograms, mixture: Observed | None = None) -> Masks:
    """IBM: 1 where the source is the loudest, else 0; a tie is shared (Wang 2005)."""
    magnitude = sources.abs()
    return shares((magnitude == magnitude.amax(dim=-3, keepdim=True)).to(magnitude.dtype))


def phase_sensitive_mask(sources: Spectrograms, mixture: Observed, *, truncate: bool = True) -> Masks:
    """PSM: |S_i| / |Y| cos(angle S_i - angle Y), truncated to [0, 1] (Erdogan et al. 2015, eq. 7)."""
    observed = mixture.unsqueeze(-3)
    mask = (sources * observed.conj()).real / _positive(observed.abs().square())
    return mask.clamp(0.0, 1.0) if truncate else mask


def amplitude_mask(sources: Spectrograms, mixture: Observed, *, limit: float = 10.0) -> Masks:
    """IAM, or FFT mask: |S_i| / |Y|, at most ``limit`` (Wang 2014, eq. 3; Erdogan 2015, table 1).

    Right in each magnitude, with the mixture's phase. Where sources cancel out it has no bound of its own.
    """
    magnitude, observed = sources.abs(), mixture.abs().unsqueeze(-3)
    mask = magnitude / _positive(torch.maximum(observed, magnitude / limit))
    return torch.where(observed > 0, mask, 0.0)


def complex_ratio_mask(
    sources: Spectrograms, mixture: Observed, *, limit: float = 10.0
) -> Complex[Tensor, "*batch source bin frame"]:
    """CRM: S_i / Y, of modulus ``limit`` at most (Williamson 2016, eq. 6, bends it by a tanh instead).

    Without the limit it gives back the source itself: what it loses is what no bounded mask can bring back.
    """
    observed = mixture.unsqueeze(-3)
    modulus = observed.abs()
    # |S| |Y| / max(|Y|^2, |S| |Y| / limit) = min(|S| / |Y|, limit)
    return sources * observed.conj() / _positive(modulus * torch.maximum(modulus, sources.abs() / limit))


def _positive(denominator: Tensor) -> Tensor:
    return denominator.clamp_min(torch.finfo(denominator.dtype).tiny)
