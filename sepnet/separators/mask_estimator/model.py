"""Separation by masks that a network estimates, trained permutation-invariantly (``model=pit``).

D. Yu, M. Kolbaek, Z.-H. Tan, J. Jensen, "Permutation invariant training of deep models for
speaker-independent multi-talker speech separation", ICASSP 2017; with the loss in the time domain
after Y. Luo, N. Mesgarani, "Conv-TasNet", TASLP 2019.

    mixture -> analysis -> features -> network -> masks -> masks x analysis -> synthesis -> estimates
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.features import log_magnitude, magnitude, running_level, unit_level
from sepnet.dsp.filterbank import STFT, Filterbank
from sepnet.losses import in_any_order, in_order
from sepnet.metrics import improvement, permute, si_sdr
from sepnet.networks.tcn import TCN
from sepnet.separators.checks import require_rate
from sepnet.separators.frame_stream import FrameStream, StreamSetup
from sepnet.separators.mask_estimator.objectives import (
    Estimate,
    Objective,
    SpectralObjective,
    WaveformObjective,
)
from sepnet.types import Batch, CannotSeparate, Mixture, Separation, SeparatorInfo, SepnetError

LEAST = 1e-6  # of what a ratio mask divides
LOGGED = 4  # mixtures of a batch
ALONE = 1e-4  # an amplitude, 80 dB below a mixture at unit level
Activation = Literal["sigmoid", "relu", "softmax", "ratio", "complex", "mapping"]
Features = Literal["magnitude", "log_magnitude", "compressed", "coefficients"]
Level = Literal["whole", "running"]
SourceCount = Literal["fixed", "given", "estimated"]


class MaskEstimator(nn.Module):
    """Encoder, masking network, decoder and loss, each from the config.

    network: called with (n_in, n_out), returns a module (batch, n_in, frame) -> (batch, n_out, frame).
    n_sources: what it is built for. sample_rate: in Hz; mixtures at another are refused.
    features: what the network sees: ``coefficients`` as they are, or, of an STFT, ``magnitude``,
    ``log_magnitude`` or ``compressed`` (real and imaginary parts over the square root of the magnitude).
    activation: what makes masks of its output; ``ratio`` divides their positive parts by the sum over the
    sources; ``complex`` (of an STFT) multiplies as complex numbers, with parts within +-2; ``mapping`` is no
    mask, but takes the output for the sources' coefficients.
    consistent: whether what the estimates lack of the mixture is shared among them
    (sepnet.dsp.consistency), which also gives them their level, that SI-SDR leaves open.
    labels: the class that each output stands for, in order; a mixture need not hold all of them. None, or
    with ``pit``: the outputs are of one kind, and the training finds out which is which.

    count: how many of the outputs are sources: all of them (``fixed``); as many as one is told, the loudest
    (``given``); or those that are less than ``quiet_db`` below the mixture (``estimated``).

    The mixture is brought to unit RMS before the network and the estimates back after it: scale the
    input, and the output scales alike. level: the RMS of the clip (``whole``), or in each frame of what was
    heard so far (``running``), for causal networks.

    Raises SepnetError for unknown values; for features, activation or objective that want an STFT with
    another filterbank; for labels that are not ``n_sources``; and for a ``count`` with labels, or with an
    objective that is not defined for silence.
    """

    def __init__(
        self,
        *,
        filterbank: Filterbank,
        network: Callable[[int, int], nn.Module],
        objective: Objective,
        n_sources: int = 2,
        sample_rate: int = 8000,
        features: Features = "log_magnitude",
        activation: Activation = "sigmoid",
        consistent: bool = True,
        level: Level = "whole",
        labels: Sequence[str] | None = None,
        pit: bool = False,
        source_count: SourceCount = "fixed",
        quiet_db: float = 20.0,
    ) -> None:
        super().__init__()
        for value, known in (
            (features, get_args(Features)),
            (activation, get_args(Activation)),
            (level, get_args(Level)),
            (source_count, get_args(SourceCount)),
        ):
            if value not in known:
                raise SepnetError(f"{value!r} is none of {', '.join(known)}")
        if labels is not None and not pit and len(labels) != n_sources:
            raise SepnetError(
                f"n_sources={n_sources}, but there are {len(labels)} labels ({', '.join(labels)}): they have "
                "to agree"
            )
        if source_count != "fixed" and (quiet_db <= 0 or (labels is not None and not pit)):
            raise SepnetError(
                f"source_count={source_count} with quiet_db={quiet_db} and labels={labels}: quiet_db is positive, and "
                "classes are not counted (labels=null)"
            )
        if source_count != "fixed" and isinstance(objective, WaveformObjective) and not objective.silent:
            raise SepnetError(
                f"with source_count={source_count} outputs may have to be silent: set objective.silent, and a metric that "
                "is defined for silence (thresholded_snr)"
            )
        spectral = (
            activation == "complex" or features != "coefficients" or isinstance(objective, SpectralObjective)
        )
        if spectral and not isinstance(filterbank, STFT):
            raise SepnetError(
                f"features={features}, activation={activation} and {type(objective).__name__} want an STFT, "
                f"but the filterbank is {type(filterbank).__name__}: take features=coefficients, another "
                "activation than complex, and a WaveformObjective"
            )
        self.filterbank, self.objective = filterbank, objective
        self.n_outputs, self.sample_rate = n_sources, sample_rate
        self.source_count, self.quiet_db = source_count, quiet_db
        self.features, self.activation, self.consistent = features, activation, consistent
        self.level = level
        self.labels = None if labels is None or pit else tuple(labels)
        n_channels = filterbank.n_channels
        n_in = n_channels // 2 if features in ("magnitude", "log_magnitude") else n_channels
        real_mask = isinstance(filterbank, STFT) and activation not in ("complex", "mapping")
        self.n_mask = n_channels // 2 if real_mask else n_channels
        self.network = network(n_in, n_sources * self.n_mask)

    @property
    def info(self) -> SeparatorInfo:
        """Its outputs are its sources, unless their number is told or estimated; live where it is causal."""
        fixed = self.source_count == "fixed"
        causal = self.level == "running" and self.network_is_causal
        return SeparatorInfo(
            needs=frozenset({"n_sources"}) if self.source_count == "given" else frozenset(),
            n_sources=self.n_outputs if fixed else None,
            sample_rate=self.sample_rate,
            labels=self.labels,
            latency_seconds=self.filterbank.window_samples / self.sample_rate if causal else None,
            counts_sources=not fixed,
        )

    @property
    def network_is_causal(self) -> bool:
        """Whether the network hears nothing of the future, as a causal TCN does."""
        return isinstance(self.network, TCN) and self.network.causal

    def forward(self, signal: Float[Tensor, "batch time"]) -> Estimate:
        """Estimates of a mixture, which is at unit level where level is ``whole``."""
        analysis = self.filterbank.encode(signal)  # (batch, channel, frame)
        seen = analysis / running_level(analysis) if self.level == "running" else analysis
        output = self.network(self.features_of(seen)).float()
        logits = output.unflatten(1, (self.n_outputs, self.n_mask))  # (batch, source, mask, frame)
        masked = self.mask(logits, analysis.unsqueeze(1))
        return Estimate(analysis, masked, signal, self._synthesise)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The mean loss of the batch, and the SI-SDR improvement of the mixtures' active sources in dB.

        With a loss of spectra that is the improvement of the first mixtures: only for it are there waveforms.
        """
        signal, level = unit_level(batch.mixture[:, 0])
        references = batch.sources / level.unsqueeze(-1)
        if references.shape[1] > self.n_outputs:
            raise SepnetError(
                f"the mixtures hold up to {references.shape[1]} sources, but the network gives "
                f"{self.n_outputs}: raise model.n_sources, or lower data.mixing.n_sources"
            )
        if self.source_count != "fixed":  # the outputs that no mixture of the batch needs are to be silent
            references = F.pad(references, (0, 0, 0, self.n_outputs - references.shape[1]))
        estimate = self(signal)
        assign = in_any_order if self.labels is None else in_order
        losses, order = self.objective(estimate, references, self.filterbank, assign)
        with torch.no_grad():
            if isinstance(self.objective, SpectralObjective):
                estimate = estimate.head(LOGGED)
            signal = estimate.signal
            references, order = references[: len(signal)], order[: len(signal)]
            sources = permute(estimate.sources, order)
            gains = improvement(si_sdr, sources, references, signal.unsqueeze(1).expand_as(references))
            rest = signal.unsqueeze(1) - references  # nothing, where one source is all of its mixture
            active = (references.abs().amax(dim=-1) > 0) & (rest.abs().amax(dim=-1) > ALONE)
            # 0 dB where there is nothing to gain: a NaN would spoil the mean of the whole epoch.
            gain = gains[active].sum() / active.sum().clamp_min(1)
        return {"loss": losses.mean(), "si_sdri": gain}

    @torch.no_grad()
    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0.

        Raises CannotSeparate at another sample rate than the network's, and for more sources than outputs.
        """
        outputs = self._outputs(mixture)
        if self.source_count == "fixed":
            return Separation(outputs.to(mixture.audio.device), self.labels)
        n_sources = mixture.n_sources or self._count_outputs(outputs, mixture)
        if n_sources > self.n_outputs:
            raise CannotSeparate(
                f"{n_sources} sources, but the network gives at most {self.n_outputs}: ask for fewer"
            )
        loudest = outputs.square().mean(dim=-1).argsort(descending=True)[:n_sources].sort().values
        sources = outputs[loudest]
        if self.consistent:  # what the others hold belongs to the mixture, too
            sources = make_consistent(sources, mixture.audio[0].to(sources))
        return Separation(sources.to(mixture.audio.device))

    @torch.no_grad()
    def estimate_n_sources(self, mixture: Mixture) -> int:
        """The number of outputs that are not silent, at least 1; its fixed number where it has one."""
        if self.source_count == "fixed":
            return self.n_outputs
        return self._count_outputs(self._outputs(mixture), mixture)

    def stream(self, setup: StreamSetup) -> FrameStream:
        """Hop by hop. Raises CannotSeparate for a model that waits for the end of the recording."""
        from sepnet.separators.mask_estimator.step import MaskEstimatorStream  # which knows this file

        setup.resolve_rate(self.sample_rate)
        return MaskEstimatorStream(self)

    def _outputs(self, mixture: Mixture) -> Float[Tensor, "output time"]:
        require_rate(mixture, self.sample_rate, made="the network was")
        signal, level = mixture.audio[:1].to(next(self.parameters()).device), None
        if self.level == "whole":
            signal, level = unit_level(signal)
        if not signal.any():  # which a mapping might make something of
            return signal.new_zeros(self.n_outputs, signal.shape[-1])
        sources: Tensor = self(signal).sources[0]
        return sources if level is None else sources * level

    def _count_outputs(self, outputs: Float[Tensor, "output time"], mixture: Mixture) -> int:
        """The outputs that are less than ``quiet_db`` below the mixture, but one at least."""
        least = mixture.audio[0].square().mean() * 10 ** (-self.quiet_db / 10)
        return max(int((outputs.square().mean(dim=-1) > least.to(outputs.device)).sum()), 1)

    def _synthesise(self, masked: Tensor, signal: Tensor) -> Tensor:
        sources: Tensor = self.filterbank.decode(masked, signal.shape[-1])
        return make_consistent(sources, signal) if self.consistent else sources

    def features_of(self, analysis: Float[Tensor, "batch channel frame"]) -> Tensor:
        """What the network sees of coefficients at unit level: (batch, n_in, frame)."""
        if self.features == "coefficients":
            return analysis
        if self.features == "magnitude":
            return magnitude(analysis)
        if self.features == "log_magnitude":
            return log_magnitude(analysis)
        return analysis * (magnitude(analysis) + 1e-4).rsqrt().repeat(1, 2, 1)

    def mask(
        self,
        logits: Float[Tensor, "batch source mask frame"],
        analysis: Float[Tensor, "batch 1 channel frame"],
    ) -> Float[Tensor, "batch source channel frame"]:
        """The sources' coefficients, of the network's outputs and the mixture's coefficients."""
        if self.activation == "mapping":
            return logits
        if self.activation == "complex":
            mask_real, mask_imaginary = (2 * torch.tanh(logits / 2)).chunk(2, dim=2)
            real, imaginary = analysis.chunk(2, dim=2)
            return torch.cat(
                [
                    mask_real * real - mask_imaginary * imaginary,
                    mask_real * imaginary + mask_imaginary * real,
                ],
                dim=2,
            )
        if self.activation == "softmax":
            masks = logits.softmax(dim=1)
        elif self.activation == "ratio":
            positive = logits.relu() + LEAST  # where all are zero the sources share alike
            masks = positive / positive.sum(dim=1, keepdim=True)
        else:
            masks = logits.sigmoid() if self.activation == "sigmoid" else logits.relu()
        if isinstance(self.filterbank, STFT):
            masks = masks.repeat(1, 1, 2, 1)  # the same for real and imaginary parts
        return masks * analysis
