"""Mel-frequency cepstral coefficients of power spectra, with the filters and the transform of torchaudio.

The floor under the logarithm is relative to the level of the frame. So the coefficients from the first on do
not depend on the level, and those of a frame do not depend on other frames.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

MIN_POWER = 1e-30  # smallest divisor


@lru_cache(maxsize=8)
def mel_filters(n_bins: int, sample_rate: int, n_mels: int, min_hz: float = 50.0) -> Float[Tensor, "bin mel"]:
    """Compute triangular filters on HTK's mel scale.

    Args:
        n_bins: Bins from 0 Hz to half the sample rate.
        sample_rate: In Hz.
        n_mels: How many filters.
        min_hz: Lower edge of the first one; the upper edge of the last is half the sample rate.

    Returns:
        The weight of each bin in each band.
    """
    filters: Tensor = melscale_fbanks(
        n_bins, min(min_hz, sample_rate / 8), sample_rate / 2, n_mels, sample_rate
    )
    return filters


def mfcc(
    powers: Float[Tensor, "*batch bin"],
    filters: Float[Tensor, "bin mel"],
    *,
    n_coefficients: int = 12,
    floor: float = 1e-4,
) -> Float[Tensor, "*batch coefficient"]:
    """Compute the coefficients of each power spectrum: they describe its envelope, and not its level.

    Args:
        powers: (..., bin).
        filters: From ``mel_filters``.
        n_coefficients: How many, from the first on; the zeroth is left out.
        floor: Is added to each band, relative to the mean power of the frame.

    Returns:
        The coefficients; those of silence are 0.
    """
    relative = powers / powers.mean(dim=-1, keepdim=True).clamp_min(MIN_POWER)
    transform = create_dct(n_coefficients + 1, filters.shape[1], "ortho").to(powers)
    coefficients: Tensor = torch.log(relative @ filters + floor) @ transform
    return coefficients[..., 1:]


def pearson_correlation(
    one: Float[Tensor, "*#batch coefficient"], other: Float[Tensor, "*#batch coefficient"]
) -> Float[Tensor, "*#batch"]:
    """Compute the correlation over the coefficients; 0 where one of the two is constant."""
    one = one - one.mean(dim=-1, keepdim=True)
    other = other - other.mean(dim=-1, keepdim=True)
    lengths = (one.square().sum(dim=-1) * other.square().sum(dim=-1)).clamp_min(1e-12).sqrt()
    return (one * other).sum(dim=-1) / lengths
