"""Masks and powers on the mel scale, and back on the bins of the transform.

One matrix serves both ways: of each linear bin, the shares that the mel bands have in it. They are triangles
between the centres of neighbouring bands, linear in Hz, so those of a bin sum to one; bins below the first
centre and above the last belong to that band alone. Powers are therefore only moved between bands, never
made or lost, and a mask comes back as the interpolation between the centres of the bands: in [0, 1] if it
was, and constant if it was.
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
    """The share of each mel band (HTK's scale, from 0 Hz to half of ``sample_rate``) in each linear bin.

    Raises SepnetError where the bands are so many that some hold no bin: those would be left to chance.
    """
    if n_mels < 1:
        raise SepnetError(f"n_mels={n_mels}: at least one band is needed")
    triangles: Tensor = melscale_fbanks(n_bins, 0.0, sample_rate / 2, n_mels, sample_rate)
    hz = torch.linspace(0, sample_rate / 2, n_bins)
    peak = mel_centres_hz(n_mels, sample_rate)
    triangles[hz <= peak[0]] = torch.eye(n_mels)[0]
    triangles[hz >= peak[-1]] = torch.eye(n_mels)[-1]
    empty = int((triangles.sum(dim=0) == 0).sum())
    if empty:
        raise SepnetError(
            f"{empty} of {n_mels} mel bands hold none of the {n_bins} bins: "
            "take fewer bands or a longer window"
        )
    return triangles / triangles.sum(dim=1, keepdim=True)  # they sum to one but for rounding


def to_mel(
    powers: Float[Tensor, "*batch bin frame"], shares: Float[Tensor, "bin mel"]
) -> Float[Tensor, "*batch frame mel"]:
    """Powers of linear bins, summed into mel bands: the sum over the bands is that over the bins."""
    return powers.transpose(-1, -2) @ shares


def to_linear(
    mask: Float[Tensor, "*batch frame mel"], shares: Float[Tensor, "bin mel"]
) -> Float[Tensor, "*batch bin frame"]:
    """A mask of mel bands on the linear bins: in each bin the mean of the bands by their shares in it."""
    return shares @ mask.transpose(-1, -2)


def mel_centres_hz(n_mels: int, sample_rate: int) -> Tensor:
    """Hz, (mel,): evenly spaced on HTK's scale, 2595 log10(1 + f / 700)."""
    highest = 2595 * torch.log10(torch.tensor(1 + sample_rate / 1400, dtype=torch.float64))
    mel = torch.linspace(0, 1, n_mels + 2, dtype=torch.float64)[1:-1] * highest
    return (700 * (10 ** (mel / 2595) - 1)).float()
