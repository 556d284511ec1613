"""Powers and masks on the mel scale, and masks back on the linear bins of a transform.

One matrix serves both directions: for each linear bin, the shares of the mel bands in it. They are triangles
between the centres of neighbouring bands, linear in Hz, so the shares of a bin sum to one; bins below the
first centre and above the last belong to that band only. Therefore powers keep their sum, and the linear mask
is the interpolation between the centres of the bands: within [0, 1] if the mel mask is, and constant if it
is.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from sepnet.types import SepnetError


@lru_cache(maxsize=8)
def mel_shares(n_bins: int, sample_rate: int, n_mels: int) -> Float[Tensor, "bin mel"]:
    """Compute the share of each mel band in each linear bin.

    Args:
        n_bins: Bins from 0 Hz to half the sample rate.
        sample_rate: In Hz.
        n_mels: Bands on HTK's mel scale, from 0 Hz to half the sample rate.

    Returns:
        (bin, mel); the shares of a bin sum to one.

    Raises:
        SepnetError: There are so many bands that some contain no bin.
    """
    if n_mels < 1:
        raise SepnetError(f"n_mels={n_mels} has to be 1 or more")
    triangles: Tensor = melscale_fbanks(n_bins, 0.0, sample_rate / 2, n_mels, sample_rate)
    hz = torch.linspace(0, sample_rate / 2, n_bins)
    peak = mel_centres_hz(n_mels, sample_rate)
    triangles[hz <= peak[0]] = torch.eye(n_mels)[0]
    triangles[hz >= peak[-1]] = torch.eye(n_mels)[-1]
    empty = int((triangles.sum(dim=0) == 0).sum())
    if empty:
        raise SepnetError(
            f"{empty} of {n_mels} mel bands contain none of the {n_bins} bins: "
            "take fewer bands or a longer window"
        )
    return triangles / triangles.sum(dim=1, keepdim=True)  # the sums are one up to rounding


def to_mel(
    powers: Float[Tensor, "*batch bin frame"], shares: Float[Tensor, "bin mel"]
) -> Float[Tensor, "*batch frame mel"]:
    """Sum powers of linear bins into mel bands; their total is the same."""
    return powers.transpose(-1, -2) @ shares


def to_linear(
    mask: Float[Tensor, "*batch frame mel"], shares: Float[Tensor, "bin mel"]
) -> Float[Tensor, "*batch bin frame"]:
    """Interpolate a mel mask to linear bins: the mean over the bands, weighted by their shares in a bin."""
    return shares @ mask.transpose(-1, -2)


def mel_centres_hz(n_mels: int, sample_rate: int) -> Tensor:
    """Compute the centres of the bands in Hz, evenly spaced on HTK's scale 2595 log10(1 + f / 700)."""
    highest = 2595 * torch.log10(torch.tensor(1 + sample_rate / 1400, dtype=torch.float64))
    mel = torch.linspace(0, 1, n_mels + 2, dtype=torch.float64)[1:-1] * highest
    return (700 * (10 ** (mel / 2595) - 1)).float()
