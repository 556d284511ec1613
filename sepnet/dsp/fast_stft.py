"""The transform of sepnet.dsp.filterbank.STFT, computed by FFT.

The filters of ``STFT`` are a matrix of window x window numbers: 2 GB at 192 kHz and 64 ms. Networks need
filters, because these can be exported; a method for any sample rate uses this transform.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.filterbank import stft_window


class FastSTFT:
    """A faster ``STFT``, with the same scale, padding, windows and refusals.

    Args:
        window_samples: Length of the window, in samples; even.
        hop_samples: Distance between two frames, in samples.
        window: As for ``STFT``.

    Raises:
        SepnetError: As ``STFT``.
    """

    def __init__(self, *, window_samples: int, hop_samples: int, window: str = "sqrt_hann") -> None:
        analysis, coverage = stft_window(window_samples, hop_samples, window)
        self.window_samples, self.hop_samples = window_samples, hop_samples
        self.n_bins = window_samples // 2 + 1
        self._window, self._coverage = torch.from_numpy(analysis).float(), torch.from_numpy(coverage).float()
        self._scale = torch.full((self.n_bins, 1), 2 * math.sqrt(hop_samples) / window_samples)
        self._scale[[0, -1]] *= math.sqrt(0.5)

    def spectrogram(self, signal: Float[Tensor, "*batch time"]) -> Complex[Tensor, "*batch bin frame"]:
        """Compute the complex spectrogram."""
        time, padding = signal.shape[-1], self.window_samples - self.hop_samples
        n_frames = (time + self.window_samples - 1) // self.hop_samples
        total = (n_frames - 1) * self.hop_samples + self.window_samples
        spectra = torch.stft(
            F.pad(signal.reshape(-1, time), (padding, total - padding - time)),
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
        """Compute ``time`` samples from a complex spectrogram: exact for ``spectrogram(signal)``."""
        n_frames, padding = spectrogram.shape[-1], self.window_samples - self.hop_samples
        scale = self._scale.to(spectrogram.real)
        frames = torch.fft.irfft(spectrogram.reshape(-1, self.n_bins, n_frames) / scale, dim=1)
        total = (n_frames - 1) * self.hop_samples + self.window_samples
        summed = F.fold(
            frames * self._window.to(frames)[:, None],
            (1, total),
            (1, self.window_samples),
            stride=(1, self.hop_samples),
        )[:, 0, 0]
        coverage = self._coverage.to(frames).repeat(-(-total // self.hop_samples))[:total]
        return (summed / coverage)[:, padding : padding + time].reshape(*spectrogram.shape[:-2], time)
