"""What a mask estimator is trained to minimise: losses of waveforms, and of spectra."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sepnet.dsp.features import magnitude
from sepnet.dsp.filterbank import STFT, Filterbank
from sepnet.losses import (
    Assignment,
    in_any_order,
    magnitude_mse,
    negative,
    phase_sensitive_target,
)
from sepnet.metrics import Metric, si_sdr
from sepnet.types import SepnetError


@dataclass(frozen=True)
class Estimate:
    """What the network makes of a batch at unit level.

    analysis: (batch, channel, frame) of the mixture. masked: (batch, source, channel, frame).
    signal: the mixture, (batch, time). sources: (batch, source, time), made of ``masked`` when first asked
    for: not all losses want them.
    """

    analysis: Tensor
    masked: Tensor
    signal: Tensor
    synthesise: Callable[[Tensor, Tensor], Tensor]

    @cached_property
    def sources(self) -> Tensor:
        return self.synthesise(self.masked, self.signal)

    def head(self, n: int) -> Estimate:
        """Of the first ``n`` mixtures alone."""
        return Estimate(self.analysis[:n], self.masked[:n], self.signal[:n], self.synthesise)


@runtime_checkable
class Objective(Protocol):
    """What to minimise: gives a loss and an assignment for each mixture, as ``assign`` has them."""

    def __call__(
        self,
        estimate: Estimate,
        references: Tensor,
        filterbank: Filterbank,
        assign: Assignment = in_any_order,
    ) -> tuple[Tensor, Tensor]: ...


class WaveformObjective:
    """A negated metric of waveforms: SI-SDR, SNR, thresholded SNR.

    silent: references may be silent, for outputs that a mixture does not need; the metric is then given
    the mixture, to measure by (``thresholded_snr`` takes it).
    """

    def __init__(self, *, metric: Metric = si_sdr, silent: bool = False) -> None:
        if silent and "mixture" not in inspect.signature(metric).parameters:
            raise SepnetError("silent=true wants a metric that is given the mixture: thresholded_snr")
        self.metric, self.silent = metric, silent

    def __call__(
        self,
        estimate: Estimate,
        references: Tensor,
        filterbank: Filterbank,
        assign: Assignment = in_any_order,
    ) -> tuple[Tensor, Tensor]:
        metric: Callable[..., Tensor] = self.metric
        if self.silent:  # pairs are (batch, estimate, reference, time), those in order (batch, source, time)
            between = (None, None) if assign is in_any_order else (None,)
            metric = partial(metric, mixture=estimate.signal[:, *between])
        return assign(negative(metric), estimate.sources, references)


class SpectralObjective:
    """The squared error of magnitudes (Kolbaek et al. 2017, eq. 9; phase-sensitive: eq. 10)."""

    def __init__(self, *, phase_sensitive: bool = True) -> None:
        self.phase_sensitive = phase_sensitive

    def __call__(
        self,
        estimate: Estimate,
        references: Tensor,
        filterbank: Filterbank,
        assign: Assignment = in_any_order,
    ) -> tuple[Tensor, Tensor]:
        assert isinstance(filterbank, STFT)  # MaskEstimator refuses others
        mixture = torch.complex(*estimate.analysis.chunk(2, dim=-2))  # (batch, bin, frame)
        # Of many classes few sound at once, and the transform takes most of the time of a small network.
        active = references.abs().amax(dim=-1) > 0  # (batch, source)
        spectrograms = mixture.new_zeros(*active.shape, *mixture.shape[1:])  # (batch, source, bin, frame)
        spectrograms[active] = filterbank.spectrogram(references[active])
        magnitudes = magnitude(estimate.masked)
        if not self.phase_sensitive:
            targets = spectrograms.abs()
        else:
            targets = phase_sensitive_target(mixture.unsqueeze(1), spectrograms)
        return assign(magnitude_mse, magnitudes, targets)
