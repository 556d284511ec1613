"""Training objectives of a mask estimator: losses of waveforms, and losses of spectra."""

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
    """The network's estimate of a batch at unit level.

    Attributes:
        analysis: Coefficients of the mixtures (batch, channel, frame).
        masked: Coefficients of the estimates (batch, source, channel, frame).
        signal: The mixtures (batch, time).
        synthesise: Turns ``masked`` and ``signal`` into waveforms.
    """

    analysis: Tensor
    masked: Tensor
    signal: Tensor
    synthesise: Callable[[Tensor, Tensor], Tensor]

    @cached_property
    def sources(self) -> Tensor:
        """The waveforms (batch, source, time), synthesised on first use: not every loss needs them."""
        return self.synthesise(self.masked, self.signal)

    def head(self, n_mixtures: int) -> Estimate:
        """Return the estimate of the first mixtures alone."""
        return Estimate(
            self.analysis[:n_mixtures], self.masked[:n_mixtures], self.signal[:n_mixtures], self.synthesise
        )


@runtime_checkable
class Objective(Protocol):
    """What training minimises."""

    def __call__(
        self,
        estimate: Estimate,
        references: Tensor,
        filterbank: Filterbank,
        assign: Assignment = in_any_order,
    ) -> tuple[Tensor, Tensor]:
        """Compare an estimate with the references (batch, source, time).

        Returns:
            The loss of each mixture (batch,), and for each reference the index of its estimate.
        """
        ...


class WaveformObjective:
    """A negated metric of waveforms: SI-SDR, SNR, thresholded SNR.

    Args:
        metric: The metric in dB, higher is better.
        allow_silence: Whether references may be silent, for outputs that a mixture does not need. The
            metric is then given the mixture, whose power replaces that of the silent reference.

    Raises:
        SepnetError: References may be silent, but the metric takes no mixture.
    """

    def __init__(self, *, metric: Metric = si_sdr, allow_silence: bool = False) -> None:
        if allow_silence and "mixture" not in inspect.signature(metric).parameters:
            raise SepnetError("allow_silence=true needs a metric that takes the mixture: thresholded_snr")
        self.metric, self.allow_silence = metric, allow_silence

    def __call__(
        self,
        estimate: Estimate,
        references: Tensor,
        filterbank: Filterbank,
        assign: Assignment = in_any_order,
    ) -> tuple[Tensor, Tensor]:
        metric: Callable[..., Tensor] = self.metric
        if self.allow_silence:
            # Pairs are (batch, estimate, reference, time), those in order (batch, source, time).
            pair_axes = (None, None) if assign is in_any_order else (None,)
            metric = partial(metric, mixture=estimate.signal[:, *pair_axes])
        return assign(negative(metric), estimate.sources, references)


class SpectralObjective:
    """The squared error of magnitudes (Kolbaek et al. 2017, eq. 9; phase-sensitive: eq. 10).

    Args:
        phase_sensitive: Whether the targets are the parts of the sources in phase with the mixture.
    """

    def __init__(self, *, phase_sensitive: bool = False) -> None:
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
