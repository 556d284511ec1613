"""Analysis and synthesis filterbanks, on asteroid-filterbanks.

A filterbank transforms (batch, time) to (batch, channel, frame) and back. Both ends are padded, so that every
sample is coverage by the same number of windows; the STFT is then inverted exactly, from the first sample to
the last, for any length.
"""

from __future__ import annotations

import numpy as np
import scipy
import torch
from asteroid_filterbanks import STFTFB, Decoder, Encoder, FreeFB
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.ranges import FrameSamples, LayerSize
from sepnet.types import SepnetError


class Filterbank(nn.Module):
    """An encoder and a decoder, with padding.

    It computes in float32 under autocast, too: in bfloat16 a filterbank would limit the output to about 40 dB
    SI-SDR.

    Args:
        encoder: The analysis filters.
        decoder: The synthesis filters.
        window_samples: Length of the filters, in samples.
        hop_samples: Distance between two frames, in samples.

    Raises:
        SepnetError: The hop is not positive, or longer than the window.
    """

    def __init__(self, *, encoder: Encoder, decoder: Decoder, window_samples: int, hop_samples: int) -> None:
        super().__init__()
        if not 0 < hop_samples <= window_samples:
            raise SepnetError(
                f"the hop is {hop_samples} samples and the window {window_samples}: "
                "the hop has to be positive and no longer than the window"
            )
        self.encoder, self.decoder = encoder, decoder
        self.window_samples, self.hop_samples = window_samples, hop_samples
        self.n_channels: int = encoder.n_feats_out

    def n_frames(self, time: int) -> int:
        """How many frames a signal of ``time`` samples has."""
        return (
            time + self.window_samples - 1
        ) // self.hop_samples  # positive, so that an exported division rounds down, too

    def encode(self, signal: Float[Tensor, "batch time"]) -> Float[Tensor, "batch channel frame"]:
        """Compute the coefficients of signals, of ``n_frames(time)`` frames."""
        time = signal.shape[-1]
        padding = self.window_samples - self.hop_samples
        total = (self.n_frames(time) - 1) * self.hop_samples + self.window_samples
        with torch.autocast(signal.device.type, enabled=False):
            padded = F.pad(signal.float(), (padding, total - padding - time))
            coefficients: Tensor = self.encoder(padded[:, None])
        return coefficients

    def decode(
        self, coefficients: Float[Tensor, "*batch channel frame"], time: int
    ) -> Float[Tensor, "*batch time"]:
        """Compute the first ``time`` samples from coefficients."""
        padding = self.window_samples - self.hop_samples
        with torch.autocast(coefficients.device.type, enabled=False):
            flat = coefficients.float().flatten(0, -3)  # (item, channel, frame)
            signal: Tensor = self.decoder(flat)[:, 0]  # (item, padded time)
        return signal[:, padding : padding + time].reshape(*coefficients.shape[:-2], time)


def stft_window(window_samples: int, hop_samples: int, window: str) -> tuple[np.ndarray, np.ndarray]:
    """Compute the analysis window of an STFT, and how it covers a signal.

    Args:
        window_samples: Length of the window, in samples; even.
        hop_samples: Distance between two frames, in samples.
        window: As for ``STFT``.

    Returns:
        The window (window_samples,), and the sum of its squares over all frames (hop_samples,), which repeats
        with every hop.

    Raises:
        SepnetError: The lengths do not fit together, or some samples are under no window.
    """
    if window_samples % 2 or not 0 < hop_samples <= window_samples:
        raise SepnetError(
            f"window_samples={window_samples} and hop_samples={hop_samples}: the window has to be even, "
            "and the hop positive and no longer than the window"
        )
    if window in ("hann", "sqrt_hann"):
        shape = _hann(window_samples)
    else:
        shape = scipy.signal.get_window(window, window_samples)
    analysis = np.sqrt(shape) if window == "sqrt_hann" else shape
    coverage = np.zeros(hop_samples)  # sum_k w[n + k h]^2, of period h
    np.add.at(coverage, np.arange(window_samples) % hop_samples, analysis**2)
    if coverage.min() < 1e-4 * coverage.max():
        raise SepnetError(
            f"with a {window} window of {window_samples} samples and a hop of {hop_samples} some samples "
            "are under no window: take a shorter hop"
        )
    return analysis, coverage


def _hann(window_samples: int) -> np.ndarray:
    """The periodic Hann window of scipy.signal, to the last bit, without its slow import."""
    half: np.ndarray = 0.5 * np.cos(np.linspace(-np.pi, np.pi, window_samples + 1)[:-1])
    return 0.5 + half


class STFT(Filterbank):
    """The short-time Fourier transform: channels are the real parts, then the imaginary parts.

    The analysis is scaled by 2 sqrt(hop) / window, and the bins at zero and at half the sample rate by
    another sqrt(1/2), so that power weights all frequencies equally. The synthesis window inverts the
    analysis exactly (Griffin and Lim 1984, eq. 6): with the window w, hop h and window length W,

        v[n] = w[n] / sum_k w[n + k h]^2  W / (2 h),

    where the last factor removes the scale of both transforms. The filters are no weights, and not part of a
    state_dict.

    Args:
        window_samples: Length of the window, in samples; even.
        hop_samples: Distance between two frames, in samples.
        window: Any name that scipy.signal.get_window knows, or ``sqrt_hann``.

    Raises:
        SepnetError: The window has an odd length, or the hop is so long that some samples are under no
            window.
    """

    def __init__(
        self, *, window_samples: int = 256, hop_samples: int = 128, window: str = "sqrt_hann"
    ) -> None:
        analysis, coverage = stft_window(window_samples, hop_samples, window)
        synthesis = analysis / np.resize(coverage, window_samples) * window_samples / (2 * hop_samples)
        super().__init__(
            encoder=Encoder(STFTFB(window_samples, window_samples, stride=hop_samples, window=analysis)),
            decoder=Decoder(STFTFB(window_samples, window_samples, stride=hop_samples, window=synthesis)),
            window_samples=window_samples,
            hop_samples=hop_samples,
        )
        self.n_bins = window_samples // 2 + 1
        for tables in (self.encoder.filterbank, self.decoder.filterbank):
            for name, table in tables.named_buffers(recurse=False):
                tables.register_buffer(name, table, persistent=False)

    def spectrogram(self, signal: Float[Tensor, "*batch time"]) -> Complex[Tensor, "*batch bin frame"]:
        """Compute the complex spectrogram."""
        packed = self.encode(signal.reshape(-1, signal.shape[-1]))
        real, imaginary = packed.chunk(2, dim=1)  # (item, bin, frame) each
        return torch.complex(real, imaginary).reshape(*signal.shape[:-1], *real.shape[1:])

    def invert(
        self, spectrogram: Complex[Tensor, "*batch bin frame"], time: int
    ) -> Float[Tensor, "*batch time"]:
        """Compute ``time`` samples from a complex spectrogram: exact for ``spectrogram(signal)``."""
        packed = torch.cat([spectrogram.real, spectrogram.imag], dim=-2)  # (*batch, 2 bin, frame)
        if packed.ndim == 2:
            return self.decode(packed[None], time)[0]
        return self.decode(packed, time)


class LearnedFilterbank(Filterbank):
    """Learned filters (Luo and Mesgarani 2019, sections II-B and IV-A).

    Args:
        n_filters: How many.
        window_samples: Length of the filters, in samples.
        hop_samples: Distance between two frames, in samples.
        rectified: Whether negative coefficients become 0; the paper finds a linear analysis equally good.
        padded: Whether both ends are padded, so that as many filters lie over them as over the middle. Most
            published networks have frames within the signal alone: their output ends with zeros where the
            last hop is not full.
    """

    def __init__(
        self,
        *,
        n_filters: LayerSize = 512,
        window_samples: FrameSamples = 16,
        hop_samples: FrameSamples = 8,
        rectified: bool = False,
        padded: bool = True,
    ) -> None:
        super().__init__(
            encoder=Encoder(FreeFB(n_filters, window_samples, stride=hop_samples)),
            decoder=Decoder(FreeFB(n_filters, window_samples, stride=hop_samples)),
            window_samples=window_samples,
            hop_samples=hop_samples,
        )
        self.rectified, self.padded = rectified, padded

    def n_frames(self, time: int) -> int:
        """How many frames a signal of ``time`` samples has; at least one."""
        if self.padded:
            return super().n_frames(time)
        return (max(time, self.window_samples) - self.window_samples) // self.hop_samples + 1

    def encode(self, signal: Float[Tensor, "batch time"]) -> Float[Tensor, "batch channel frame"]:
        """Compute the coefficients of signals; rectified ones are not negative."""
        coefficients = super().encode(signal) if self.padded else self._encode_within(signal)
        return coefficients.relu() if self.rectified else coefficients

    def decode(
        self, coefficients: Float[Tensor, "*batch channel frame"], time: int
    ) -> Float[Tensor, "*batch time"]:
        """Compute ``time`` samples from coefficients."""
        if self.padded:
            return super().decode(coefficients, time)
        with torch.autocast(coefficients.device.type, enabled=False):
            signal: Tensor = self.decoder(coefficients.float().flatten(0, -3))[:, 0]  # (item, time of frames)
        signal = F.pad(signal, (0, self.hop_samples + self.window_samples))[:, :time]
        return signal.reshape(*coefficients.shape[:-2], time)

    def _encode_within(self, signal: Tensor) -> Tensor:
        # In an export the length stands for any number, which max would compare.
        missing: int = torch.sym_max(self.window_samples - signal.shape[-1], 0)  # type: ignore[no-untyped-call]
        with torch.autocast(signal.device.type, enabled=False):
            coefficients: Tensor = self.encoder(F.pad(signal.float(), (0, missing))[:, None])
        return coefficients


class CentredFilterbank(LearnedFilterbank):
    """Learned filters whose middles lie on multiples of the hop, which is half a filter, as in SuDoRM-RF.

    Args:
        n_filters: How many.
        window_samples: Length of the filters, in samples; at least 2.
        rectified: Whether negative coefficients become 0.
        multiple_samples: The signal is filled up with zeros to a multiple of this length.
    """

    def __init__(
        self,
        *,
        n_filters: LayerSize = 512,
        window_samples: FrameSamples = 21,
        rectified: bool = False,
        multiple_samples: FrameSamples = 80,
    ) -> None:
        super().__init__(
            n_filters=n_filters,
            window_samples=window_samples,
            hop_samples=window_samples // 2,
            rectified=rectified,
        )
        self.multiple_samples = multiple_samples

    def n_frames(self, time: int) -> int:
        """How many frames a signal of ``time`` samples has."""
        return (self._filled(time) + 2 * self.hop_samples - self.window_samples) // self.hop_samples + 1

    def encode(self, signal: Float[Tensor, "batch time"]) -> Float[Tensor, "batch channel frame"]:
        """Compute the coefficients of signals; rectified ones are not negative."""
        time, half = signal.shape[-1], self.hop_samples
        with torch.autocast(signal.device.type, enabled=False):
            padded = F.pad(signal.float(), (half, self._filled(time) - time + half))
            coefficients: Tensor = self.encoder(padded[:, None])
        return coefficients.relu() if self.rectified else coefficients

    def decode(
        self, coefficients: Float[Tensor, "*batch channel frame"], time: int
    ) -> Float[Tensor, "*batch time"]:
        """Compute the first ``time`` samples from coefficients."""
        with torch.autocast(coefficients.device.type, enabled=False):
            signal: Tensor = self.decoder(coefficients.float().flatten(0, -3))[:, 0]  # (item, padded time)
        return signal.narrow(1, self.hop_samples, time).reshape(*coefficients.shape[:-2], time)

    def _filled(self, time: int) -> int:
        """The length of a signal of ``time`` samples after filling it up."""
        return (time + self.multiple_samples - 1) // self.multiple_samples * self.multiple_samples
