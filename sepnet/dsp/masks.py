"""Ideal masks: the definitions that all oracles, targets and losses use.

Each function takes the complex spectrograms of the true sources, S_i (..., source, bin, frame), and of the
mixture, Y (..., bin, frame), and returns a mask M_i (..., source, bin, frame) for each source. Masks that are
shares among the sources do not depend on Y and sum to one: a bin in which all sources are zero is shared
equally. The others are zero where Y is zero.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Spectrograms = Complex[Tensor, "*batch source bin frame"]
Masks = Float[Tensor, "*batch source bin frame"]
Observed = Complex[Tensor, "*batch bin frame"]


def normalise_over_sources(weights: Tensor) -> Tensor:
    """Divide weights (..., source, bin, frame) by their sum over the sources; zeros become equal shares."""
    total = weights.sum(dim=-3, keepdim=True)
    return torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), 1 / weights.shape[-3])


def ideal_ratio_mask(sources: Spectrograms, mixture: Observed | None = None) -> Masks:
    """Compute the IRM, |S_i| / sum_j |S_j| (Huang et al. 2015; LibriMix, Cosentino et al. 2020)."""
    return normalise_over_sources(sources.abs())


def wiener_mask(sources: Spectrograms, mixture: Observed | None = None) -> Masks:
    """Compute the Wiener-like mask, |S_i|^2 / sum_j |S_j|^2 (Erdogan et al. 2015, table 1)."""
    return normalise_over_sources(sources.abs().square())


def ideal_binary_mask(sources: Spectrograms, mixture: Observed | None = None) -> Masks:
    """Compute the IBM: 1 where the source is the loudest, else 0; equal ones share a bin (Wang 2005)."""
    magnitude = sources.abs()
    return normalise_over_sources((magnitude == magnitude.amax(dim=-3, keepdim=True)).to(magnitude.dtype))


def phase_sensitive_mask(sources: Spectrograms, mixture: Observed, *, truncate: bool = True) -> Masks:
    """Compute the PSM, |S_i| / |Y| cos(angle S_i - angle Y) (Erdogan et al. 2015, eq. 7).

    Args:
        sources: Spectrograms of the sources.
        mixture: Spectrogram of the mixture.
        truncate: Whether the mask is limited to [0, 1].
    """
    observed = mixture.unsqueeze(-3)
    mask = (sources * observed.conj()).real / _positive(observed.abs().square())
    return mask.clamp(0.0, 1.0) if truncate else mask


def amplitude_mask(sources: Spectrograms, mixture: Observed, *, limit: float = 10.0) -> Masks:
    """Compute the IAM, or FFT mask, |S_i| / |Y| (Wang 2014, eq. 3; Erdogan 2015, table 1).

    It gives each source the right magnitude and the phase of the mixture.

    Args:
        sources: Spectrograms of the sources.
        mixture: Spectrogram of the mixture.
        limit: Largest value; without it the mask is unbounded where sources cancel each other.
    """
    magnitude, observed = sources.abs(), mixture.abs().unsqueeze(-3)
    mask = magnitude / _positive(torch.maximum(observed, magnitude / limit))
    return torch.where(observed > 0, mask, 0.0)


def complex_ratio_mask(
    sources: Spectrograms, mixture: Observed, *, limit: float = 10.0
) -> Complex[Tensor, "*batch source bin frame"]:
    """Compute the CRM, S_i / Y (Williamson 2016, who limits it by a tanh instead, eq. 6).

    Without a limit it restores the source exactly; what it loses, no bounded mask can restore.

    Args:
        sources: Spectrograms of the sources.
        mixture: Spectrogram of the mixture.
        limit: Largest modulus.
    """
    observed = mixture.unsqueeze(-3)
    modulus = observed.abs()
    # |S| |Y| / max(|Y|^2, |S| |Y| / limit) = min(|S| / |Y|, limit)
    return sources * observed.conj() / _positive(modulus * torch.maximum(modulus, sources.abs() / limit))


def _positive(denominator: Tensor) -> Tensor:
    return denominator.clamp_min(torch.finfo(denominator.dtype).tiny)
