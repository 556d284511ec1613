"""Oracles: masks computed from the true sources, the ceiling for any method that masks.

IBM and IRM are those that LibriMix reports (Cosentino et al. 2020, table 5); sepnet.dsp.masks has others.
Masks that are no shares (amplitude, phase-sensitive, complex) come closer to each source, but don't sum to
the mixture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sepnet.dsp.filterbank import STFT
from sepnet.separators.checks import require_references
from sepnet.types import Mixture, Separation, SeparatorInfo

MIN_NOISE = 1e-9  # of the mixture's power: 90 dB below it, there are rounding errors
MaskDefinition = Callable[[Tensor, Tensor], Tensor]
"""(source, bin, frame), (bin, frame) -> (source, bin, frame): complex spectrograms of sources and mixture to
masks, real or complex."""


class OracleMask:
    """Masks channel 0 of the mixture with an ideal mask of its references.

    What the references lack of the mixture, its noise, counts as one more source, which no estimate gets.

    Args:
        mask: The definition of the mask.
        window_samples: Window of the STFT.
        hop_samples: Hop of the STFT.
        window: Shape of the window.
    """

    info = SeparatorInfo(needs=frozenset({"references"}), covers_mixture=False)

    def __init__(
        self, *, mask: MaskDefinition, window_samples: int = 256, hop_samples: int = 64, window: str = "hann"
    ) -> None:
        self.mask = mask
        self.stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window=window)

    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into estimates in the order of the references, labelled by number."""
        references = require_references(mixture)
        observed = self.stft.spectrogram(mixture.audio[0])  # (bin, frame)
        noise = mixture.audio[:1] - references.sum(dim=0, keepdim=True)
        is_noisy = bool(noise.square().mean() > MIN_NOISE * mixture.audio[0].square().mean())
        sources = torch.cat([references, noise]) if is_noisy else references
        masks = self.mask(self.stft.spectrogram(sources), observed)[: len(references)]
        estimates = self.stft.invert(masks * observed, mixture.audio.shape[-1])
        return Separation(estimates, labels=tuple(f"source {k + 1}" for k in range(len(references))))
