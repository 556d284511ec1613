"""Masks that are coarse on purpose: constant over cells of frequency and time.

A method whose mask has cells can't be better than the best mask of such cells. Here that is, in each cell,
the share of a source in the energy of all sources:

    M_i(c) = sum_{(k, t) in c} w_kc |S_i(k, t)|^2 / sum_j sum_{(k, t) in c} w_kc |S_j(k, t)|^2        (1)

with the weights w of bins in bands. A bin takes the mean of its bands' shares, by its weights in them, so
the masks of all sources sum to one in each bin.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from sepnet.dsp.masks import shares
from sepnet.dsp.mfcc import mel_filters

Weights = Float[Tensor, "bin band"]


def mel_bands(n_bins: int, sample_rate: int, n_mels: int = 64) -> Weights:
    """Triangles on the mel scale (HTK's); a bin that is under none belongs to the band next to it."""
    with warnings.catch_warnings(action="ignore"):  # bands too narrow to hold a bin: they are left empty
        weights = mel_filters(n_bins, sample_rate, n_mels).clone()
    return _filled(weights)


def mel_blocks(n_bins: int, sample_rate: int, n_mels: int = 128, n_mels_each: int = 16) -> Weights:
    """Bands of ``n_mels_each`` neighbouring ones of ``n_mels`` each, side by side: a bin is in one alone.

    The edges are where the middle of the mel band changes, from 0 Hz to half of ``sample_rate``.
    """
    hertz = torch.linspace(0, sample_rate / 2, n_bins)
    mels = 2595 * torch.log10(1 + hertz / 700)
    place = (mels / mels[-1].clamp_min(1e-9) * n_mels).long().clamp_max(n_mels - 1)
    n_blocks = -(-n_mels // n_mels_each)
    return torch.nn.functional.one_hot(place // n_mels_each, n_blocks).float()


def cell_mask(
    sources: Complex[Tensor, "source bin frame"], weights: Weights, n_frames: int = 1
) -> Float[Tensor, "source bin frame"]:
    """The ideal shares (1) over cells of a band by ``n_frames`` frames; an empty cell is shared equally."""
    energy = torch.einsum("sbt,bk->skt", sources.abs().square(), weights)
    time = energy.shape[-1]
    padded = torch.nn.functional.pad(energy, (0, -time % n_frames))
    pooled = padded.reshape(*energy.shape[:2], -1, n_frames).sum(dim=-1)  # (source, band, cell)
    mask = shares(pooled).repeat_interleave(n_frames, dim=-1)[..., :time]
    return torch.einsum("skt,bk->sbt", mask, weights / weights.sum(dim=1, keepdim=True))


def _filled(weights: Weights) -> Weights:
    covered = (weights.sum(dim=1) > 0).nonzero()[:, 0]
    if not len(covered):
        return torch.ones_like(weights)
    for number in (weights.sum(dim=1) == 0).nonzero()[:, 0].tolist():
        nearest = int(covered[(covered - number).abs().argmin()])
        weights[number, int(weights[nearest].argmax())] = 1.0
    return weights
