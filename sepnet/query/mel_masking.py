"""Stage 5: a mel mask applied to a mixture, which gives the target and the residual."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Complex, Float
from torch import Tensor, nn

from sepnet.dsp.filterbank import STFT
from sepnet.dsp.mel import mel_shares, to_linear, to_mel
from sepnet.ranges import FrameSamples, LayerSize, SampleRate
from sepnet.types import SepnetError

Mask = Float[Tensor, "frame mel"]


@dataclass(frozen=True)
class TargetAndResidual:
    """Two signals that sum to the mixture.

    Attributes:
        target: (time,), the mixture under the mask.
        residual: (time,), the rest of it.
    """

    target: Float[Tensor, " time"]
    residual: Float[Tensor, " time"]


class MelMasking(nn.Module):
    """The mel scale and the transform between masks (frame, mel) and signals (time,).

    Args:
        sample_rate: In Hz.
        window_samples: Window of the transform, the square root of a Hann window, in samples.
        hop_samples: Distance between two frames, in samples.
        n_mels: Mel bands, from 0 Hz to half the sample rate.
        soft_masking: Whether each bin is multiplied by the mask; otherwise bins are kept where the mask is
            above one half, and removed elsewhere.
        exponent: Power of a soft mask before it is applied; above 1 it suppresses more.

    Raises:
        SepnetError: The exponent is not positive, or a mel band contains no bin of the transform.
    """

    def __init__(
        self,
        *,
        sample_rate: SampleRate = 16000,
        window_samples: FrameSamples = 512,
        hop_samples: FrameSamples = 256,
        n_mels: LayerSize = 64,
        soft_masking: bool = True,
        exponent: float = 1.0,
    ) -> None:
        super().__init__()
        if not exponent > 0:
            raise SepnetError(f"exponent={exponent} has to be positive: the mask is raised to this power")
        self.sample_rate, self.n_mels = sample_rate, n_mels
        self.soft_masking, self.exponent = soft_masking, exponent
        self.stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window="sqrt_hann")
        self.shares: Tensor  # (bin, mel)
        self.register_buffer("shares", mel_shares(self.stft.n_bins, sample_rate, n_mels), persistent=False)

    def mel_powers(self, signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch frame mel"]:
        """Compute mel powers of signals; their sum over the bands is that over the bins."""
        return self.mel_powers_of(self.stft.spectrogram(signal))

    def mel_powers_of(
        self, spectrogram: Complex[Tensor, "*batch bin frame"]
    ) -> Float[Tensor, "*batch frame mel"]:
        """Compute mel powers of spectrograms."""
        return to_mel(spectrogram.abs().square(), self.shares.to(spectrogram.device))

    def split(self, mixture: Float[Tensor, " time"], mask: Mask) -> TargetAndResidual:
        """Apply a mask to a mixture.

        Args:
            mixture: (time,).
            mask: (frame, mel), in [0, 1].

        Returns:
            The target and the residual.

        Raises:
            SepnetError: The mask has another shape than the mel powers of the mixture.
        """
        spectrogram = self.checked_spectrogram(mixture, mask)
        return self.split_spectrogram(mixture, spectrogram, self.effective_mask(mask))

    def effective_mask(self, mask: Mask) -> Mask:
        """The mask after ``exponent``, or as 0 and 1 without ``soft_masking``."""
        return mask.pow(self.exponent) if self.soft_masking else (mask > 0.5).to(mask.dtype)

    def linear_mask(self, mask: Mask) -> Float[Tensor, "bin frame"]:
        """The effective mask on the linear bins of the transform, as ``split`` applies it."""
        return to_linear(self.effective_mask(mask), self.shares.to(mask))

    def checked_spectrogram(
        self, mixture: Float[Tensor, " time"], mask: Mask
    ) -> Complex[Tensor, "bin frame"]:
        """Compute the spectrogram of a mixture. Raises SepnetError where the mask has another shape."""
        spectrogram = self.stft.spectrogram(mixture)
        if tuple(mask.shape) != (spectrogram.shape[-1], self.n_mels):
            raise SepnetError(
                f"the mask is {tuple(mask.shape)}, but a mixture of {len(mixture)} samples has "
                f"{spectrogram.shape[-1]} frames and {self.n_mels} mel bands"
            )
        return spectrogram

    def split_spectrogram(
        self, mixture: Float[Tensor, " time"], spectrogram: Complex[Tensor, "bin frame"], mask: Mask
    ) -> TargetAndResidual:
        """Apply an effective mask to a mixture whose spectrogram is known."""
        target = self.stft.invert(to_linear(mask, self.shares.to(mask)) * spectrogram, len(mixture))
        return TargetAndResidual(target, mixture - target)
