"""Oracles for methods that find a sound by example: the best that a gate in time, or a coarse mask, can do.

Each sees the references, of which the first is the target.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sepnet.dsp.activity import active_samples
from sepnet.dsp.cells import cell_mask
from sepnet.dsp.filterbank import STFT
from sepnet.ranges import FrameSamples, Seconds
from sepnet.separators.checks import require_references
from sepnet.types import Mixture, Separation, SeparatorInfo, SepnetError

Bands = Callable[[int, int], Tensor]
"""(number of bins, sample rate in Hz) -> weights (bin, band)."""


class OracleCells:
    """Masks with the ideal shares of energy in cells of frequency and time (sepnet.dsp.cells).

    Args:
        bands: Gives the weights of the bins in the bands.
        cell_seconds: Length of a cell, rounded to whole frames; None: one frame.
        window_samples: Window of the STFT.
        hop_samples: Hop of the STFT.
        window: Shape of the window.

    Raises:
        SepnetError: The length of a cell is not positive.
    """

    info = SeparatorInfo(needs=frozenset({"references"}))

    def __init__(
        self,
        *,
        bands: Bands,
        cell_seconds: Seconds | None = None,
        window_samples: FrameSamples = 512,
        hop_samples: FrameSamples = 256,
        window: str = "hann",
    ) -> None:
        if cell_seconds is not None and cell_seconds <= 0:
            raise SepnetError(f"cell_seconds is {cell_seconds}: give a positive length, or null for a frame")
        self.bands, self.cell_seconds = bands, cell_seconds
        self.stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window=window)

    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into estimates in the order of the references; they sum to the mixture."""
        references = require_references(mixture)
        seconds = self.stft.hop_samples / mixture.sample_rate
        n_frames = 1 if self.cell_seconds is None else max(1, round(self.cell_seconds / seconds))
        weights = self.bands(self.stft.n_bins, mixture.sample_rate)
        masks = cell_mask(self.stft.spectrogram(references), weights, n_frames)  # (source, bin, frame)
        observed = self.stft.spectrogram(mixture.audio[0])
        estimates = self.stft.invert(masks * observed, mixture.audio.shape[-1])
        return Separation(estimates, labels=tuple(f"source {k + 1}" for k in range(len(references))))


class OracleGate:
    """The mixture where the target is active (sepnet.dsp.activity), and silence elsewhere: perfect detection.

    The other sources share the rest of the mixture equally.
    """

    info = SeparatorInfo(needs=frozenset({"references"}))

    def separate(self, mixture: Mixture) -> Separation:
        """Return the target, then an equal share of the residual for each other reference."""
        references = require_references(mixture)
        active = torch.from_numpy(active_samples(references[0].numpy(), mixture.sample_rate))
        target = torch.where(active, mixture.audio[0], 0.0)
        n_others = len(references) - 1
        rest = (mixture.audio[:1] - target) / max(n_others, 1)
        sources = torch.cat([target[None], rest.expand(n_others, -1)])
        return Separation(sources, labels=tuple(f"source {k + 1}" for k in range(len(references))))
