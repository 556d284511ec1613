"""Gaussians for a mask that is already there: those that explain most of it, a few at a time.

A descent of 18 steps moves nothing far, so it has to begin near. With S = 1 - M what survives of the
Gaussians taken so far, S* = 1 - M* that of the given mask and W a weight for each cell, one more Gaussian of
shape G (1 at its mean) and height a makes S (1 - a G), and the squared error falls by

    sum W (S - S*)^2 - sum W (S - S* - a S G)^2 = 2 a sum W (S - S*) S G - a^2 sum W S^2 G^2.          (1)

The best height is the ratio of the two sums, between 0 and ``HIGHEST``. For all means at once both sums are
convolutions with Gaussians (G^2 is one as well, narrower by sqrt(2)), which fall apart into one over frames
and one over mels; so every mean on the grid is tried with each of a few durations and bandwidths. A round
takes the best few of them that don't touch, and what they explain is gone in the next: matching pursuit
(Mallat and Zhang 1993), with (2) of ``gaussians`` in place of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.query.gaussians import Gaussians

DURATIONS = (1.0, 3.0, 8.0, 24.0, 80.0)  # standard deviations, frames
BANDWIDTHS = (0.8, 2.5, 7.0, 20.0)  # standard deviations, mels
HIGHEST = 0.98  # the height of a Gaussian to begin with: at 1 its logit is infinite
ROUNDS = 8
IDLE_HEIGHT, IDLE_SIGMAS, GOLDEN = 1e-3, 3.0, 0.618034
APART_SIGMAS = 2.0  # how far those of one round are from each other

Mask = Float[Tensor, "frame mel"]


@torch.no_grad()
def pursue(mask: Mask, n_gaussians: int, weights: Mask | None = None) -> Gaussians:
    """``n_gaussians`` Gaussians whose mask is near ``mask`` (values in [0, 1]); none are turned.

    weights: how much each cell counts, not negative; None: all alike. Where fewer do, the others are of a
    height of nearly 0 and spread evenly: a descent may still use them.
    """
    n_frames, n_mels = mask.shape
    weights = torch.ones_like(mask) if weights is None else weights / weights.mean().clamp_min(1e-30)
    durations = [s for s in DURATIONS if s <= n_frames / 2] or [DURATIONS[0]]
    bandwidths = [s for s in BANDWIDTHS if s <= n_mels / 2] or [BANDWIDTHS[0]]
    bank = _Bank(n_frames, n_mels, durations, bandwidths, mask)
    survival, wanted = torch.ones_like(mask), 1 - mask
    found: list[tuple[float, float, float, float, float]] = []  # height, frame, mel, duration, bandwidth
    for done in range(ROUNDS):
        left = n_gaussians - len(found)
        if left == 0:
            break
        linear = bank.sums(weights * (survival - wanted) * survival, squared=False)
        square = bank.sums(weights * survival.square(), squared=True)
        heights = (linear / square.clamp_min(1e-12)).clamp(0, HIGHEST)
        gains = (heights * (2 * linear - heights * square)).contiguous()  # (duration, bandwidth, frame, mel)
        for _ in range(math.ceil(left / (ROUNDS - done))):
            best = int(gains.argmax())
            if gains.view(-1)[best] <= 0:
                break
            d, b, frame, mel = (int(i) for i in torch.unravel_index(torch.tensor(best), gains.shape))
            height = float(heights[d, b, frame, mel])
            found.append((height, frame, mel, durations[d], bandwidths[b]))
            survival *= 1 - height * torch.outer(bank.frame_shape(d, frame), bank.mel_shape(b, mel))
            bank.clear(gains, frame, mel, durations[d], bandwidths[b])
    return _gaussians(found, n_gaussians, mask)


class _Bank:
    """Sums over cells times Gaussians of all means and shapes: over frames by FFT, over mels by a matrix."""

    def __init__(
        self, n_frames: int, n_mels: int, durations: list[float], bandwidths: list[float], like: Tensor
    ) -> None:
        self.n_frames, self.n_mels, self.durations, self.bandwidths = n_frames, n_mels, durations, bandwidths
        self.frames = torch.arange(n_frames, device=like.device, dtype=like.dtype)
        self.mels = torch.arange(n_mels, device=like.device, dtype=like.dtype)
        self.n_fft = 2 ** math.ceil(math.log2(2 * n_frames))  # no wrapping round
        apart = torch.arange(self.n_fft, device=like.device, dtype=like.dtype)
        apart = torch.minimum(apart, self.n_fft - apart)
        self.spectra, self.matrices = [], []
        for squared in (False, True):
            factor = -1.0 if squared else -0.5
            over_frames = torch.stack([torch.exp(factor * (apart / s).square()) for s in durations])
            between = (self.mels[:, None] - self.mels).square()
            self.spectra.append(torch.fft.rfft(over_frames).real)  # even, so real
            self.matrices.append(torch.stack([torch.exp(factor * between / s**2) for s in bandwidths]))

    def sums(self, cells: Tensor, *, squared: bool) -> Tensor:
        """(duration, bandwidth, frame, mel)."""
        over_mels = (self.matrices[squared] @ cells.T).flatten(0, 1)  # (bandwidth mel, frame)
        spectrum = torch.fft.rfft(over_mels, n=self.n_fft) * self.spectra[squared][:, None]
        sums: Tensor = torch.fft.irfft(spectrum, n=self.n_fft)[..., : self.n_frames]
        # (duration, bandwidth mel, frame) to (duration, bandwidth, mel, frame)
        sums = sums.reshape(len(self.durations), len(self.bandwidths), self.n_mels, self.n_frames)
        return sums.transpose(-1, -2)

    def frame_shape(self, duration: int, mean: float) -> Tensor:
        return torch.exp(-((self.frames - mean) / self.durations[duration]).square() / 2)

    def mel_shape(self, bandwidth: int, mean: float) -> Tensor:
        return torch.exp(-((self.mels - mean) / self.bandwidths[bandwidth]).square() / 2)

    def clear(self, gains: Tensor, frame: int, mel: int, duration: float, bandwidth: float) -> None:
        """No gain for those that touch one just taken."""
        for d, own_duration in enumerate(self.durations):
            reach = APART_SIGMAS * (duration + own_duration)
            first, end = max(0, math.ceil(frame - reach)), math.floor(frame + reach) + 1
            for b, own_bandwidth in enumerate(self.bandwidths):
                reach = APART_SIGMAS * (bandwidth + own_bandwidth)
                low, high = max(0, math.ceil(mel - reach)), math.floor(mel + reach) + 1
                gains[d, b, first:end, low:high] = 0


def _gaussians(found: Sequence[tuple[float, ...]], n_gaussians: int, like: Tensor) -> Gaussians:
    values = like.new_tensor(found).reshape(-1, 5)
    missing = n_gaussians - len(found)
    if missing:
        last_frame, last_mel = like.shape[0] - 1, like.shape[1] - 1
        idle = [
            (IDLE_HEIGHT, last_frame * k / missing, last_mel * (k * GOLDEN % 1), IDLE_SIGMAS, IDLE_SIGMAS)
            for k in range(missing)
        ]
        values = torch.cat([values, like.new_tensor(idle)])
    return Gaussians(
        logits=torch.logit(values[:, 0]),
        means=values[:, 1:3].clone(),
        log_scales=values[:, 3:5].log(),
        rotations=torch.zeros_like(values[:, 0]),
    )
