"""The transform of sepnet.dsp.filterbank.STFT by FFT, for windows of thousands of samples.

Its filters are a matrix of the window's square: 2 GB at 192 kHz and 64 ms. A network's transform has to be
one of filters, which can be exported; a method for any rate wants this one.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.filterbank import windows


class FastSTFT:
    """As STFT: scale, padding, windows and what is refused; only faster."""

    def __init__(self, *, window_samples: int, hop_samples: int, window: str = "sqrt_hann") -> None:
        analysis, covered = windows(window_samples, hop_samples, window)
        self.window_samples, self.hop_samples = window_samples, hop_samples
        self.n_bins = window_samples // 2 + 1
        self._window, self._covered = torch.from_numpy(analysis).float(), torch.from_numpy(covered).float()
        self._scale = torch.full((self.n_bins, 1), 2 * math.sqrt(hop_samples) / window_samples)
        self._scale[[0, -1]] *= math.sqrt(0.5)

    def spectrogram(self, signal: Float[Tensor, "*batch time"]) -> Complex[Tensor, "*batch bin frame"]:
        """The complex spectrogram."""
        time, left = signal.shape[-1], self.window_samples - self.hop_samples
        n_frames = (time + self.window_samples - 1) // self.hop_samples
        total = (n_frames - 1) * self.hop_samples + self.window_samples
        spectra = torch.stft(
            F.pad(signal.reshape(-1, time), (left, total - left - time)),
            self.window_samples,
            self.hop_samples,
            window=self._window.to(signal),
            center=False,
            return_complex=True,
        )
        scaled: Tensor = spectra * self._scale.to(signal)
        return scaled.reshape(*signal.shape[:-1], *scaled.shape[1:])

    def invert(
        self, spectrogram: Complex[Tensor, "*batch bin frame"], time: int
    ) -> Float[Tensor, "*batch time"]:
        """The signal of a complex spectrogram: exact for ``spectrogram(signal)``."""
        n_frames, left = spectrogram.shape[-1], self.window_samples - self.hop_samples
        scale = self._scale.to(spectrogram.real)
        frames = torch.fft.irfft(spectrogram.reshape(-1, self.n_bins, n_frames) / scale, dim=1)
        total = (n_frames - 1) * self.hop_samples + self.window_samples
        summed = F.fold(
            frames * self._window.to(frames)[:, None],
            (1, total),
            (1, self.window_samples),
            stride=(1, self.hop_samples),
        )[:, 0, 0]
        covered = self._covered.to(frames).repeat(-(-total // self.hop_samples))[:total]
        return (summed / covered)[:, left : left + time].reshape(*spectrogram.shape[:-2], time)
