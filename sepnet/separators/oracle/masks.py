"""Oracles: masks made from the true sources, the ceiling for any method that masks.

IBM and IRM as LibriMix reports them (Cosentino et al. 2020, table 5); others by name from
sepnet.dsp.masks. Those that are no shares (amplitude, phase-sensitive, complex) come closer to each source,
and don't sum to the mixture.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sepnet.dsp.filterbank import STFT
from sepnet.separators.checks import require_references
from sepnet.types import Mixture, Separation, SeparatorInfo

MaskDefinition = Callable[[Tensor, Tensor], Tensor]


class OracleMask:
    """Masks channel 0 of the mixture with an ideal mask of its references.

    mask: complex spectrograms of the sources (source, bin, frame) and of the mixture (bin, frame) to masks of
    the sources' shape, real or complex.
    window_samples, hop_samples, window: of the STFT. The order is that of the references.
    """

    info = SeparatorInfo(needs=frozenset({"references"}))

    def __init__(
        self, *, mask: MaskDefinition, window_samples: int = 256, hop_samples: int = 64, window: str = "hann"
    ) -> None:
        self.mask = mask
        self.stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window=window)

    def separate(self, mixture: Mixture) -> Separation:
        """The estimates in the order of the references; labels say so."""
        references = require_references(mixture)
        observed = self.stft.spectrogram(mixture.audio[0])  # (bin, frame)
        masks = self.mask(self.stft.spectrogram(references), observed)  # (source, bin, frame)
        estimates = self.stft.invert(masks * observed, mixture.audio.shape[-1])
        return Separation(estimates, labels=tuple(f"source {k + 1}" for k in range(len(references))))
