"""A mel mask applied to a mixture: a target, and a residual that is the rest of it."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.dsp.filterbank import STFT
from sepnet.dsp.mel import mel_shares, to_linear, to_mel
from sepnet.types import SepnetError

Mask = Float[Tensor, "frame mel"]


@dataclass(frozen=True)
class Parted:
    """Both (time,): target + residual = mixture."""

    target: Float[Tensor, " time"]
    residual: Float[Tensor, " time"]


class MelMasking(nn.Module):
    """Between a mel mask and signals. The transform's window is the square root of Hann's.

    window_samples, hop_samples: of the transform. n_mels: bands from 0 Hz to half of the rate.
    soft_masking: scale each bin by the mask to the power of ``exponent`` (above 1 it suppresses more); else
    keep what the mask has at above one half, and nothing of the rest.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        window_samples: int = 512,
        hop_samples: int = 256,
        n_mels: int = 64,
        soft_masking: bool = True,
        exponent: float = 1.0,
    ) -> None:
        super().__init__()
        if not exponent > 0:
            raise SepnetError(f"exponent={exponent}: a mask is raised to a positive power")
        self.sample_rate, self.n_mels = sample_rate, n_mels
        self.soft_masking, self.exponent = soft_masking, exponent
        self.stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window="sqrt_hann")
        self.shares: Tensor  # (bin, mel)
        self.register_buffer("shares", mel_shares(self.stft.n_bins, sample_rate, n_mels), persistent=False)

    def powers(self, signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch frame mel"]:
        """Mel powers of signals; their sum over the bands is that over the bins."""
        return self.mel(self.stft.spectrogram(signal))

    def mel(self, spectrogram: Complex[Tensor, "*batch bin frame"]) -> Float[Tensor, "*batch frame mel"]:
        """Mel powers of spectrograms."""
        return to_mel(spectrogram.abs().square(), self.shares.to(spectrogram.device))

    def part(self, mixture: Float[Tensor, " time"], mask: Mask) -> Parted:
        """Target and residual, soft or hard. Raises SepnetError where the mask is not of the mixture."""
        observed = self.checked_spectrogram(mixture, mask)
        return self.part_spectrogram(mixture, observed, self.applied(mask))

    def applied(self, mask: Mask) -> Mask:
        """The mask as it is applied: itself, sharpened, or 0 and 1."""
        return mask.pow(self.exponent) if self.soft_masking else (mask > 0.5).to(mask.dtype)

    def checked_spectrogram(
        self, mixture: Float[Tensor, " time"], mask: Mask
    ) -> Complex[Tensor, "bin frame"]:
        """The spectrogram that the mask is to be applied to. Raises SepnetError where it can't be."""
        observed = self.stft.spectrogram(mixture)
        if tuple(mask.shape) != (observed.shape[-1], self.n_mels):
            raise SepnetError(
                f"the mask is {tuple(mask.shape)}, but a mixture of {len(mixture)} samples has "
                f"{observed.shape[-1]} frames and {self.n_mels} mel bands"
            )
        return observed

    def part_spectrogram(
        self, mixture: Float[Tensor, " time"], observed: Complex[Tensor, "bin frame"], mask: Mask
    ) -> Parted:
        """As ``part``, of a spectrogram at hand, by the mask as it is."""
        target = self.stft.invert(to_linear(mask, self.shares.to(mask)) * observed, len(mixture))
        return Parted(target, mixture - target)


def windows(signal: Float[Tensor, " time"], length: int, hop: int) -> Float[Tensor, "window sample"]:
    """Windows of ``length`` samples, one every ``hop``; zeros after the end, so that all is in them."""
    n_windows = max(0, -(-(len(signal) - length) // hop)) + 1
    padded = F.pad(signal, (0, (n_windows - 1) * hop + length - len(signal)))
    return padded.unfold(0, length, hop)
