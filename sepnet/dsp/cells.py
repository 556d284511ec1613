"""Ideal masks that are constant over cells of frequency and time.

They bound methods whose masks have such cells. In each cell, the ideal mask is the share of a source in the
energy of all sources:

    M_i(c) = sum_{(k, t) in c} w_kc |S_i(k, t)|^2 / sum_j sum_{(k, t) in c} w_kc |S_j(k, t)|^2        (1)

where w are the weights of bins in bands. The mask of a bin is the weighted mean over its bands, so the masks
of all sources sum to one in each bin.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from sepnet.dsp.masks import normalise_over_sources
from sepnet.dsp.mfcc import mel_filters

Weights = Float[Tensor, "bin band"]


def mel_bands(n_bins: int, sample_rate: int, n_mels: int = 64) -> Weights:
    """Make triangular mel bands; a bin outside all of them belongs to the nearest one.

    Args:
        n_bins: Bins from 0 Hz to half the sample rate.
        sample_rate: In Hz.
        n_mels: Bands on HTK's mel scale.

    Returns:
        The weight of each bin in each band.
    """
    with warnings.catch_warnings(action="ignore"):  # a band that is too narrow for a bin stays empty
        weights = mel_filters(n_bins, sample_rate, n_mels).clone()
    return _without_gaps(weights)


def mel_blocks(n_bins: int, sample_rate: int, n_mels: int = 128, n_mels_each: int = 16) -> Weights:
    """Make rectangular bands of several mels each; every bin belongs to one band.

    Args:
        n_bins: Bins from 0 Hz to half the sample rate.
        sample_rate: In Hz.
        n_mels: Mels of equal width on HTK's scale, from 0 Hz to half the sample rate.
        n_mels_each: Neighbouring mels that form a band.

    Returns:
        The weight of each bin in each band, 0 or 1.
    """
    hertz = torch.linspace(0, sample_rate / 2, n_bins)
    mels = 2595 * torch.log10(1 + hertz / 700)
    place = (mels / mels[-1].clamp_min(1e-9) * n_mels).long().clamp_max(n_mels - 1)
    n_blocks = -(-n_mels // n_mels_each)
    return torch.nn.functional.one_hot(place // n_mels_each, n_blocks).float()


def cell_mask(
    sources: Complex[Tensor, "source bin frame"], weights: Weights, n_frames: int = 1
) -> Float[Tensor, "source bin frame"]:
    """Compute the ideal mask (1).

    Args:
        sources: Complex spectrograms of the true sources.
        weights: Of bins in bands.
        n_frames: Length of a cell, in frames.

    Returns:
        A mask for each source; cells without energy are shared equally.
    """
    energy = torch.einsum("sbt,bk->skt", sources.abs().square(), weights)
    time = energy.shape[-1]
    padded = torch.nn.functional.pad(energy, (0, -time % n_frames))
    pooled = padded.reshape(*energy.shape[:2], -1, n_frames).sum(dim=-1)  # (source, band, cell)
    mask = normalise_over_sources(pooled).repeat_interleave(n_frames, dim=-1)[..., :time]
    return torch.einsum("skt,bk->sbt", mask, weights / weights.sum(dim=1, keepdim=True))


def _without_gaps(weights: Weights) -> Weights:
    """Assign bins outside all bands to the nearest one."""
    covered = (weights.sum(dim=1) > 0).nonzero()[:, 0]
    if not len(covered):
        return torch.ones_like(weights)
    for number in (weights.sum(dim=1) == 0).nonzero()[:, 0].tolist():
        nearest = int(covered[(covered - number).abs().argmin()])
        weights[number, int(weights[nearest].argmax())] = 1.0
    return weights
