"""The short-time transform of the convolutive methods, and filters that are applied in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.ranges import FrameSamples
from sepnet.separators.ica.channels import spectrum

BLOCK_SAMPLES = 1 << 17  # that are filtered at once


@dataclass(frozen=True)
class Transform:
    """The short-time spectrum in complex128 with a Hann window.

    Attributes:
        window_samples: Length of the window.
        overlap: Windows over each sample.
    """

    window_samples: FrameSamples
    overlap: int

    @classmethod
    def of_duration(cls, seconds: float, sample_rate: int, overlap: int) -> Transform:
        """Make a transform whose window lasts about ``seconds``: a multiple of twice the overlap."""
        return cls(max(1, round(seconds * sample_rate / (2 * overlap))) * 2 * overlap, overlap)

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return self.window_samples // self.overlap

    def __call__(
        self, audio: Float[Tensor, "channel time"], hop_samples: int | None = None
    ) -> Complex128[Tensor, "channel bin frame"]:
        """Compute frames centred on the multiples of the hop, with silence around the signal."""
        return spectrum(audio, self.window_samples, self.hop_samples if hop_samples is None else hop_samples)

    def filter(
        self, filters: Complex128[Tensor, "bin source channel"], audio: Float[Tensor, "channel time"]
    ) -> Float[Tensor, "source time"]:
        """Compute the inverse transform of ``filters @ spectrum``, block by block, in float32.

        Each block is transformed with a window's length of its surroundings, in frames that lie as those of
        the whole signal would, so that the boundaries of the blocks make no difference.
        """
        time, around = audio.shape[1], self.window_samples
        block = max(1, min(BLOCK_SAMPLES, time) // self.hop_samples) * self.hop_samples
        padded = F.pad(audio, (around, around + block))
        parts = []
        for start in range(0, time, block):
            observed = self(padded[:, start : start + block + 2 * around])
            filtered = torch.einsum("fsc,cft->sft", filters, observed)
            signal = torch.istft(
                filtered,
                self.window_samples,
                self.hop_samples,
                window=self._window,
                length=block + 2 * around,
            )
            parts.append(signal[:, around : around + block].float())
        return torch.cat(parts, dim=1)[:, :time]

    @property
    def _window(self) -> Tensor:
        return torch.hann_window(self.window_samples, dtype=torch.float64)
