"""Matching pursuit: Gaussians that approximate a given mask, chosen a few at a time.

A descent of 18 steps moves nothing far, so it has to start near its aim. Let M be the mask of the Gaussians
chosen so far, M* the given mask, S = 1 - M, S* = 1 - M*, and W a weight for each cell. One more Gaussian of
shape G (1 at its mean) and height a turns S into S (1 - a G), and the squared error falls by

    sum W (S - S*)^2 - sum W (S - S* - a S G)^2 = 2 a sum W (S - S*) S G - a^2 sum W S^2 G^2.          (1)

The best height is the ratio of the two sums, between 0 and ``MAX_HEIGHT``. For all means at once both sums
are convolutions with Gaussians (G^2 is one as well, narrower by sqrt(2)), and separable into one over frames
and one over mels; so every mean on the grid is tried with each of a few durations and bandwidths. A round
takes the best few of them that do not overlap, and the next round works on what they leave: matching pursuit
(Mallat and Zhang 1993), with (2) of ``gaussians`` in place of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.query.optimisation.gaussians import Gaussians

DURATIONS = (1.0, 3.0, 8.0, 24.0, 80.0)  # standard deviations, frames
BANDWIDTHS = (0.8, 2.5, 7.0, 20.0)  # standard deviations, mels
MAX_HEIGHT = 0.98  # of a new Gaussian: at 1 its logit is infinite
N_ROUNDS = 8
SPARE_HEIGHT, SPARE_SIGMAS = 1e-3, (3.0, 3.0)  # of Gaussians that are not needed: frames, mels
GOLDEN_RATIO = 0.618034
MIN_DISTANCE_SIGMAS = 2.0  # of Gaussians of one round, relative to the sum of their standard deviations

Mask = Float[Tensor, "frame mel"]


@torch.no_grad()
def matching_pursuit(mask: Mask, n_gaussians: int, weights: Mask | None = None) -> Gaussians:
    """Find Gaussians whose mask is near a given one.

    Args:
        mask: (frame, mel) in [0, 1].
        n_gaussians: Their number. If fewer suffice, the rest have a height of nearly 0 and are spread evenly,
            so that a descent may still use them.
        weights: Weight of each cell, not negative; None: all are equal.

    Returns:
        The Gaussians, without rotation.
    """
    n_frames, n_mels = mask.shape
    weights = torch.ones_like(mask) if weights is None else weights / weights.mean().clamp_min(1e-30)
    durations = [s for s in DURATIONS if s <= n_frames / 2] or [DURATIONS[0]]
    bandwidths = [s for s in BANDWIDTHS if s <= n_mels / 2] or [BANDWIDTHS[0]]
    bank = _Bank(n_frames, n_mels, durations, bandwidths, mask)
    survival, target = torch.ones_like(mask), 1 - mask
    chosen: list[tuple[float, float, float, float, float]] = []  # height, frame, mel, duration, bandwidth
    for done in range(N_ROUNDS):
        remaining = n_gaussians - len(chosen)
        if remaining == 0:
            break
        linear = bank.sums(weights * (survival - target) * survival, squared=False)
        square = bank.sums(weights * survival.square(), squared=True)
        heights = (linear / square.clamp_min(1e-12)).clamp(0, MAX_HEIGHT)
        gains = (heights * (2 * linear - heights * square)).contiguous()  # (duration, bandwidth, frame, mel)
        for _ in range(math.ceil(remaining / (N_ROUNDS - done))):
            best = int(gains.argmax())
            if gains.view(-1)[best] <= 0:
                break
            d, b, frame, mel = (int(i) for i in torch.unravel_index(torch.tensor(best), gains.shape))
            height = float(heights[d, b, frame, mel])
            chosen.append((height, frame, mel, durations[d], bandwidths[b]))
            survival *= 1 - height * torch.outer(bank.frame_shape(d, frame), bank.mel_shape(b, mel))
            bank.clear(gains, frame, mel, durations[d], bandwidths[b])
    return _gaussians(chosen, n_gaussians, mask)


class _Bank:
    """Sums of cells times Gaussians, for all means and shapes: over frames by FFT, over mels by a matrix."""

    def __init__(
        self, n_frames: int, n_mels: int, durations: list[float], bandwidths: list[float], like: Tensor
    ) -> None:
        self.n_frames, self.n_mels, self.durations, self.bandwidths = n_frames, n_mels, durations, bandwidths
        self.frames = torch.arange(n_frames, device=like.device, dtype=like.dtype)
        self.mels = torch.arange(n_mels, device=like.device, dtype=like.dtype)
        self.n_fft = 2 ** math.ceil(math.log2(2 * n_frames))  # without circular wrap-around
        distance = torch.arange(self.n_fft, device=like.device, dtype=like.dtype)
        distance = torch.minimum(distance, self.n_fft - distance)
        self.spectra, self.matrices = [], []
        for squared in (False, True):
            factor = -1.0 if squared else -0.5
            over_frames = torch.stack([torch.exp(factor * (distance / s).square()) for s in durations])
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
        """Set the gain of Gaussians to 0 that overlap with one just chosen."""
        for d, own_duration in enumerate(self.durations):
            reach = MIN_DISTANCE_SIGMAS * (duration + own_duration)
            first, end = max(0, math.ceil(frame - reach)), math.floor(frame + reach) + 1
            for b, own_bandwidth in enumerate(self.bandwidths):
                reach = MIN_DISTANCE_SIGMAS * (bandwidth + own_bandwidth)
                low, high = max(0, math.ceil(mel - reach)), math.floor(mel + reach) + 1
                gains[d, b, first:end, low:high] = 0


def _gaussians(chosen: Sequence[tuple[float, ...]], n_gaussians: int, like: Tensor) -> Gaussians:
    values = like.new_tensor(chosen).reshape(-1, 5)
    missing = n_gaussians - len(chosen)
    if missing:
        last_frame, last_mel = like.shape[0] - 1, like.shape[1] - 1
        spare = [
            (
                SPARE_HEIGHT,
                last_frame * k / missing,
                last_mel * (k * GOLDEN_RATIO % 1),
                *SPARE_SIGMAS,
            )
            for k in range(missing)
        ]
        values = torch.cat([values, like.new_tensor(spare)])
    return Gaussians(
        logits=torch.logit(values[:, 0]),
        means=values[:, 1:3].clone(),
        log_scales=values[:, 3:5].log(),
        rotations=torch.zeros_like(values[:, 0]),
    )
