"""The short-time Fourier transform as PyTorch has it, for networks that were trained on it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.filterbank import STFT, stft_window
from sepnet.ranges import FrameSamples
from sepnet.types import SepnetError


class MirroredSTFT(STFT):
    """The STFT of torch.stft: the middles of frames lie on multiples of the hop, and the ends are mirrored.

    The coefficients are those of the discrete Fourier transform, and the inverse divides by the sum of the
    squared windows over each sample, also at the ends, as torch.istft.

    Args:
        window_samples: Length of the Hann window, in samples; even.
        hop_samples: Distance between two frames, in samples; at most half a window.

    Raises:
        SepnetError: The lengths do not fit together.
    """

    scale: Tensor
    squared_window: Tensor
    coverage: Tensor

    def __init__(self, *, window_samples: FrameSamples = 640, hop_samples: FrameSamples = 160) -> None:
        if 2 * hop_samples > window_samples:
            raise SepnetError(
                f"the hop of {hop_samples} samples is longer than half the window of {window_samples}: take "
                "a shorter one"
            )
        super().__init__(window_samples=window_samples, hop_samples=hop_samples, window="hann")
        scale = torch.full((self.n_bins,), window_samples / (2 * hop_samples**0.5))
        scale[[0, -1]] *= 2**0.5
        window = torch.hann_window(window_samples)
        self.register_buffer("scale", scale.repeat(2)[:, None], persistent=False)
        self.register_buffer("squared_window", window.square()[None, None], persistent=False)
        coverage = stft_window(window_samples, hop_samples, "hann")[1]
        self.register_buffer("coverage", torch.from_numpy(coverage).float(), persistent=False)

    def n_frames(self, time: int) -> int:
        """How many frames a signal of ``time`` samples has."""
        return max(time, self.window_samples // 2 + 1) // self.hop_samples + 1

    def encode(self, signal: Float[Tensor, "batch time"]) -> Float[Tensor, "batch channel frame"]:
        """Compute the coefficients of signals; one shorter than half a window is filled up with zeros."""
        half = self.window_samples // 2
        with torch.autocast(signal.device.type, enabled=False):
            filled = F.pad(signal.float(), (0, max(half + 1 - signal.shape[-1], 0)))
            coefficients: Tensor = self.encoder(F.pad(filled[:, None], (half, half), mode="reflect"))
            return coefficients * self.scale

    def decode(
        self, coefficients: Float[Tensor, "*batch channel frame"], time: int
    ) -> Float[Tensor, "*batch time"]:
        """Compute the first ``time`` samples from coefficients."""
        half, n_frames = self.window_samples // 2, coefficients.shape[-1]
        with torch.autocast(coefficients.device.type, enabled=False):
            flat = (coefficients.float() / self.scale).flatten(0, -3)
            # The decoder's window is divided by the coverage far from the ends, which repeats with each hop.
            signal: Tensor = self.decoder(flat)[:, 0]
            ones = signal.new_ones(1, 1, n_frames)
            covered = F.conv_transpose1d(ones, self.squared_window, stride=self.hop_samples)[0, 0]
            far = self.coverage.repeat(covered.shape[-1] // self.hop_samples + 1)[: covered.shape[-1]]
            signal = (signal * far)[:, half : half + time] / covered[half : half + time]
        return signal.reshape(*coefficients.shape[:-2], time)
