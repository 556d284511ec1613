"""Oracles: masks computed from the true sources, the ceiling for any method that masks.

IBM and IRM are those that LibriMix reports (Cosentino et al. 2020, table 5); sepnet.dsp.masks has others.
Masks that are no shares (amplitude, phase-sensitive, complex) come closer to each source, but don't sum to
the mixture.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sepnet.dsp.filterbank import STFT
from sepnet.separators.checks import require_references
from sepnet.types import Mixture, Separation, SeparatorInfo

MaskDefinition = Callable[[Tensor, Tensor], Tensor]
"""(source, bin, frame), (bin, frame) -> (source, bin, frame): complex spectrograms of sources and mixture to
masks, real or complex."""


class OracleMask:
    """Masks channel 0 of the mixture with an ideal mask of its references.

    Args:
        mask: The definition of the mask.
        window_samples: Window of the STFT.
        hop_samples: Hop of the STFT.
        window: Shape of the window.
    """

    info = SeparatorInfo(needs=frozenset({"references"}))

    def __init__(
        self, *, mask: MaskDefinition, window_samples: int = 256, hop_samples: int = 64, window: str = "hann"
    ) -> None:
        self.mask = mask
        self.stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window=window)

    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into estimates in the order of the references, labelled by number."""
        references = require_references(mixture)
        observed = self.stft.spectrogram(mixture.audio[0])  # (bin, frame)
        masks = self.mask(self.stft.spectrogram(references), observed)  # (source, bin, frame)
        estimates = self.stft.invert(masks * observed, mixture.audio.shape[-1])
        return Separation(estimates, labels=tuple(f"source {k + 1}" for k in range(len(references))))
