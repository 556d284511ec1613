"""Mel-frequency cepstral coefficients of power spectra, on torchaudio's filters and transform.

The logarithm stands on a floor that follows the frame's own level, so the coefficients without the
zeroth don't know the level at all, and a frame's need no other frame.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

TINY = 1e-30  # a power, to divide by


@lru_cache(maxsize=8)
def mel_filters(n_bins: int, sample_rate: int, n_mels: int, min_hz: float = 50.0) -> Float[Tensor, "bin mel"]:
    """Triangles on the mel scale (HTK's) from ``min_hz`` to half of ``sample_rate``."""
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
    """Coefficients 1 to ``n_coefficients`` of each power spectrum: its envelope, whatever its level.

    floor: added to each band, as a share of the frame's mean power. Silence has coefficients of 0.
    """
    relative = powers / powers.mean(dim=-1, keepdim=True).clamp_min(TINY)
    transform = create_dct(n_coefficients + 1, filters.shape[1], "ortho").to(powers)
    coefficients: Tensor = torch.log(relative @ filters + floor) @ transform
    return coefficients[..., 1:]


def correlation(
    one: Float[Tensor, "*#batch coefficient"], other: Float[Tensor, "*#batch coefficient"]
) -> Float[Tensor, "*#batch"]:
    """Pearson's, over the coefficients; 0 where either does not vary."""
    one = one - one.mean(dim=-1, keepdim=True)
    other = other - other.mean(dim=-1, keepdim=True)
    lengths = (one.square().sum(dim=-1) * other.square().sum(dim=-1)).clamp_min(1e-12).sqrt()
    return (one * other).sum(dim=-1) / lengths
