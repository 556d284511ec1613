"""Analysis and synthesis filterbanks, on asteroid-filterbanks.

A filterbank turns (batch, time) into (batch, channel, frame) and back. Both ends are padded so that
each sample is covered by as many windows as any other; the STFT then inverts exactly, from the first
sample to the last, for any length.
"""

from __future__ import annotations

import numpy as np
import torch
from asteroid_filterbanks import STFTFB, Decoder, Encoder, FreeFB
from jaxtyping import Complex, Float
from scipy.signal import get_window
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.types import SepnetError


class Filterbank(nn.Module):
    """An encoder and its decoder with the padding between them.

    Computed in float32 also under autocast: a filterbank in bfloat16 would cap the output at about
    40 dB SI-SDR.
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
        """Frames that ``time`` samples give."""
        return (time + self.window_samples - 1) // self.hop_samples  # positive: exported, it rounds down too

    def encode(self, signal: Float[Tensor, "batch time"]) -> Float[Tensor, "batch channel frame"]:
        """Analyse; the number of frames is ``n_frames(time)``."""
        time = signal.shape[-1]
        left = self.window_samples - self.hop_samples
        total = (self.n_frames(time) - 1) * self.hop_samples + self.window_samples
        with torch.autocast(signal.device.type, enabled=False):
            padded = F.pad(signal.float(), (left, total - left - time))
            coefficients: Tensor = self.encoder(padded[:, None])
        return coefficients

    def decode(
        self, coefficients: Float[Tensor, "*batch channel frame"], time: int
    ) -> Float[Tensor, "*batch time"]:
        """Synthesise the first ``time`` samples."""
        left = self.window_samples - self.hop_samples
        with torch.autocast(coefficients.device.type, enabled=False):
            flat = coefficients.float().flatten(0, -3)  # (item, channel, frame)
            signal: Tensor = self.decoder(flat)[:, 0]  # (item, padded time)
        return signal[:, left : left + time].reshape(*coefficients.shape[:-2], time)


def windows(window_samples: int, hop_samples: int, window: str) -> tuple[np.ndarray, np.ndarray]:
    """The analysis window (time,), and the sum of its squares over all frames, of period ``hop_samples``.

    Raises SepnetError as ``STFT`` does.
    """
    if window_samples % 2 or not 0 < hop_samples <= window_samples:
        raise SepnetError(
            f"window_samples={window_samples} and hop_samples={hop_samples}: the window has to be even, "
            "and the hop positive and no longer than the window"
        )
    shape: np.ndarray = get_window("hann" if window == "sqrt_hann" else window, window_samples)
    analysis = np.sqrt(shape) if window == "sqrt_hann" else shape
    covered = np.zeros(hop_samples)  # sum_k w[n + k h]^2, of period h
    np.add.at(covered, np.arange(window_samples) % hop_samples, analysis**2)
    if covered.min() < 1e-4 * covered.max():
        raise SepnetError(
            f"with a {window} window of {window_samples} samples and a hop of {hop_samples} some samples "
            "are lost between the windows: take a shorter hop"
        )
    return analysis, covered


class STFT(Filterbank):
    """The short-time Fourier transform: channels are the real parts, then the imaginary parts.

    The analysis is scaled by 2 sqrt(hop) / window, and the bins at zero and at half the sample rate by
    another sqrt(1/2), so that power counts each frequency alike. The synthesis window is the one that
    inverts the analysis exactly (Griffin and Lim 1984, eq. 6): with the windows w, hop h and length W,

        v[n] = w[n] / sum_k w[n + k h]^2  W / (2 h),

    the last factor undoing the scale of both transforms.

    window: any name that scipy.signal.get_window knows, or ``sqrt_hann``. Its tables follow from these, and
    are no weights: a state_dict is without them. Raises SepnetError for a window of odd length, and for a hop
    after which some samples are under no window at all.
    """

    def __init__(
        self, *, window_samples: int = 256, hop_samples: int = 128, window: str = "sqrt_hann"
    ) -> None:
        analysis, covered = windows(window_samples, hop_samples, window)
        synthesis = analysis / np.resize(covered, window_samples) * window_samples / (2 * hop_samples)
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
        """The complex spectrogram."""
        packed = self.encode(signal.reshape(-1, signal.shape[-1]))
        real, imaginary = packed.chunk(2, dim=1)  # (item, bin, frame) each
        return torch.complex(real, imaginary).reshape(*signal.shape[:-1], *real.shape[1:])

    def invert(
        self, spectrogram: Complex[Tensor, "*batch bin frame"], time: int
    ) -> Float[Tensor, "*batch time"]:
        """The signal of a complex spectrogram: exact for ``spectrogram(signal)``."""
        packed = torch.cat([spectrogram.real, spectrogram.imag], dim=-2)  # (*batch, 2 bin, frame)
        if packed.ndim == 2:
            return self.decode(packed[None], time)[0]
        return self.decode(packed, time)


class LearnedFilterbank(Filterbank):
    """Learned filters, the analysis rectified or, as the paper finds as good, linear.

    Luo and Mesgarani 2019, sections II-B and IV-A.
    """

    def __init__(
        self,
        *,
        n_filters: int = 512,
        window_samples: int = 16,
        hop_samples: int = 8,
        rectified: bool = False,
    ) -> None:
        super().__init__(
            encoder=Encoder(FreeFB(n_filters, window_samples, stride=hop_samples)),
            decoder=Decoder(FreeFB(n_filters, window_samples, stride=hop_samples)),
            window_samples=window_samples,
            hop_samples=hop_samples,
        )
        self.rectified = rectified

    def encode(self, signal: Float[Tensor, "batch time"]) -> Float[Tensor, "batch channel frame"]:
        """Analyse; rectified coefficients are not negative."""
        coefficients = super().encode(signal)
        return coefficients.relu() if self.rectified else coefficients
