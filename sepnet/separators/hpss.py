"""Harmonic-percussive separation by median filtering (Fitzgerald, DAFx 2010).

In a spectrogram tones are horizontal lines and strokes are vertical ones. The median over time removes the
strokes, the median over frequency the tones:

    H = median of |Y| over ``harmonic_seconds`` in time        (Fitzgerald 2010, eq. 1 and 4)
    P = median of |Y| over ``percussive_hz`` in frequency      (eq. 2 and 5)
    M_H = H^2 / (H^2 + P^2), M_P = 1 - M_H                     (eq. 6 and 7, with p = 2)

It is made for music: two voices are both harmonic, so it can't tell them apart.
"""

from __future__ import annotations

import torch

from sepnet.dsp.fast_stft import FastSTFT
from sepnet.dsp.median import running_median
from sepnet.types import Mixture, Separation, SeparatorInfo, SepnetError


class HPSS:
    """Splits channel 0 into a harmonic and a percussive part, which sum to it.

    Args:
        window_seconds: Length of the Hann window of the STFT, whose hop is a quarter of it.
        harmonic_seconds: Length of the median over time.
        percussive_hz: Width of the median over frequency.

    Raises:
        SepnetError: A length is not positive.
    """

    info = SeparatorInfo(n_sources=2, labels=("harmonic", "percussive"))

    def __init__(
        self, *, window_seconds: float = 0.064, harmonic_seconds: float = 0.27, percussive_hz: float = 270.0
    ) -> None:
        if min(window_seconds, harmonic_seconds, percussive_hz) <= 0:
            raise SepnetError(
                f"window_seconds={window_seconds}, harmonic_seconds={harmonic_seconds} and "
                f"percussive_hz={percussive_hz} all have to be positive"
            )
        self.window_seconds = window_seconds
        self.harmonic_seconds, self.percussive_hz = harmonic_seconds, percussive_hz

    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into two sources, labelled ``harmonic`` and ``percussive``."""
        hop = max(1, round(self.window_seconds * mixture.sample_rate / 4))
        stft = FastSTFT(window_samples=4 * hop, hop_samples=hop, window="hann")
        observed = stft.spectrogram(mixture.audio[0])  # (bin, frame)
        magnitude = observed.abs()
        frames = _odd(self.harmonic_seconds * mixture.sample_rate / hop)
        bins = _odd(self.percussive_hz * 4 * hop / mixture.sample_rate)
        harmonic, percussive = running_median(magnitude.mT, frames).mT, running_median(magnitude, bins)
        # M_H = 1 / (1 + (P / H)^2), which is 0 where H is 0, and NaN in silence.
        mask = (percussive / harmonic).square_().add_(1.0).reciprocal_().nan_to_num_(nan=0.5)
        tones = stft.invert(mask * observed, mixture.audio.shape[-1])
        return Separation(torch.stack([tones, mixture.audio[0] - tones]), self.info.labels)


def _odd(length: float) -> int:
    """Round to an odd number, so that a median has a middle."""
    return 2 * round((length - 1) / 2) + 1 if length > 1 else 1
