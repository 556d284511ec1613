"""REPET: the repeating background against the varying foreground (Rafii and Pardo, IEEE TASLP 21(1), 2013).

With the power spectrogram V^2 (bin, frame), the beat spectrum is its autocorrelation over time, averaged over
the bins and over the products that each lag has (eq. 1 to 3):

    b(l) = mean_f [ 1 / (T - l)  sum_t V^2(f, t) V^2(f, t + l) ]

The period p is where b is highest within ``period_seconds``; the paper scores the multiples of p as well.
The repeating segment is the median over all periods, the background never more than the mixture (eq. 5, 6):

    S(f, i) = median_r V(f, i + r p),   W = min(S, V),   M = W / V

What lies below ``highpass_hz`` is background: voices, the usual foreground, begin above it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.fast_stft import FastSTFT
from sepnet.ranges import NonNegativeFloat, Seconds
from sepnet.types import CannotSeparate, Mixture, Separation, SeparatorInfo, SepnetError

MIN_REPETITIONS = 3  # of fewer a median means little


class REPET:
    """Splits channel 0 into a repeating background and a foreground, which sum to it.

    Args:
        window_seconds: Length of the Hann window of the STFT, whose hop is a quarter of it.
        period_seconds: The shortest and the longest period that is searched for.
        highpass_hz: Frequencies below this are background.

    Raises:
        SepnetError: A setting is out of range.
    """

    info = SeparatorInfo(n_sources=2, labels=("repeating", "foreground"))

    def __init__(
        self,
        *,
        window_seconds: Seconds = 0.04,
        period_seconds: Sequence[float] = (0.8, 8.0),
        highpass_hz: NonNegativeFloat = 100.0,
    ) -> None:
        shortest, longest = period_seconds
        if window_seconds <= 0 or not window_seconds <= shortest <= longest or highpass_hz < 0:
            raise SepnetError(
                f"window_seconds={window_seconds}, period_seconds={[shortest, longest]} and "
                f"highpass_hz={highpass_hz}: give a positive window, two periods in order and no shorter, "
                "and no negative frequency"
            )
        self.window_seconds, self.highpass_hz = window_seconds, highpass_hz
        self.period_seconds = (shortest, longest)

    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into two sources, labelled ``repeating`` and ``foreground``.

        Raises:
            CannotSeparate: The mixture is too short to hold the shortest period three times.
        """
        hop = max(1, round(self.window_seconds * mixture.sample_rate / 4))
        stft = FastSTFT(window_samples=4 * hop, hop_samples=hop, window="hann")
        frames_a_second = mixture.sample_rate / hop
        lags = [round(seconds * frames_a_second) for seconds in self.period_seconds]
        observed = stft.spectrogram(mixture.audio[0])  # (bin, frame)
        lags[1] = min(lags[1], observed.shape[1] // MIN_REPETITIONS)
        if lags[1] < lags[0]:
            raise CannotSeparate(
                f"REPET needs {MIN_REPETITIONS} repetitions of a period of {self.period_seconds[0]} s, but "
                f"the mixture has {mixture.audio.shape[1] / mixture.sample_rate:.2f} s: give a longer one"
            )
        magnitude = observed.abs()
        magnitude = magnitude / magnitude.max().clamp_min(torch.finfo(magnitude.dtype).tiny)
        spectrum = beat_spectrum(magnitude.square())
        period = lags[0] + int(spectrum[lags[0] : lags[1] + 1].argmax())
        background = repeating(magnitude, period)
        mask = torch.where(magnitude > 0, background / magnitude.where(magnitude > 0, 1.0), 0.5)
        mask[: round(self.highpass_hz * 4 * hop / mixture.sample_rate)] = 1.0
        steady = stft.invert(mask * observed, mixture.audio.shape[-1])
        return Separation(torch.stack([steady, mixture.audio[0] - steady]), self.info.labels)


def beat_spectrum(power: Float[Tensor, "bin frame"]) -> Float[Tensor, " frame"]:
    """Compute b(l) for each lag l in frames: the mean product of the power with itself l frames later."""
    n_frames = power.shape[1]
    spectrum = torch.fft.rfft(
        power.double(), n=2 * n_frames
    )  # padded to twice the length: no product wraps around
    products = torch.fft.irfft(spectrum.abs().square().mean(dim=0), n=2 * n_frames)[:n_frames]
    spectrum_of_lags: Tensor = products / torch.arange(n_frames, 0, -1, device=power.device)
    return spectrum_of_lags.to(power.dtype)


def repeating(magnitude: Float[Tensor, "bin frame"], period: int) -> Float[Tensor, "bin frame"]:
    """Limit each magnitude to the median over all periods, the part of it that repeats (eq. 5, 6)."""
    n_bins, n_frames = magnitude.shape
    n_periods = -(-n_frames // period)
    padded = torch.nn.functional.pad(magnitude, (0, n_periods * period - n_frames), value=torch.nan)
    segments = padded.reshape(n_bins, n_periods, period)
    segment = segments.nanmedian(dim=1).values.repeat(1, n_periods)[:, :n_frames]
    return torch.minimum(segment, magnitude)
