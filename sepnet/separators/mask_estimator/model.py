"""Separation by masks that a network estimates, trained permutation-invariantly (``model=pit``).

D. Yu, M. Kolbaek, Z.-H. Tan, J. Jensen, "Permutation invariant training of deep models for
speaker-independent multi-talker speech separation", ICASSP 2017; with the loss in the time domain
after Y. Luo, N. Mesgarani, "Conv-TasNet", TASLP 2019.

    mixture -> analysis -> features -> network -> masks -> masks x analysis -> synthesis -> estimates
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.dsp.consistency import make_consistent, scale_to_mixture
from sepnet.dsp.features import running_level, unit_level
from sepnet.dsp.filterbank import Filterbank
from sepnet.losses import in_any_order, in_order
from sepnet.metrics import improvement, permute, si_sdr
from sepnet.networks.tcn import TCN
from sepnet.ranges import NumberOfSources, PositiveFloat, SampleRate
from sepnet.separators.checks import require_rate
from sepnet.separators.frame_stream import FrameStream, StreamSetup
from sepnet.separators.mask_estimator.checks import (
    Level,
    Scale,
    SourceCount,
    check_choices,
    check_counting,
    check_transform,
)
from sepnet.separators.mask_estimator.masking import Activation, Features, Masking
from sepnet.separators.mask_estimator.objectives import (
    Estimate,
    Objective,
    SpectralObjective,
)
from sepnet.separators.mask_estimator.step import MaskEstimatorStep, MaskEstimatorStream
from sepnet.types import Batch, CannotSeparate, Mixture, Separation, SeparatorInfo, SepnetError

N_LOGGED_MIXTURES = 4  # of a batch, whose improvement is logged where the loss needs no waveforms
SOLE_SOURCE_PEAK = 1e-4  # a rest below this amplitude (80 dB below unit level): the source is all there is


class MaskEstimator(nn.Module):
    """Filterbank, masking network, decoder and loss, each from the configuration.

    The mixture is brought to a fixed RMS before the network and the estimates back after it, so that scaling
    the input scales the output.

    Args:
        filterbank: Analysis and synthesis.
        network: Called with (n_in, n_out); makes a module (batch, n_in, frame) -> (batch, n_out, frame).
        objective: What training minimises.
        n_sources: Number of outputs of the network.
        sample_rate: In Hz; mixtures at another rate are refused.
        features: Input of the network: ``coefficients`` of the filterbank as they are; or, of an STFT,
            ``magnitude``, ``log_magnitude`` or ``compressed`` (real and imaginary parts over the square root
            of the magnitude).
        activation: How outputs become masks. ``ratio`` divides their positive parts by the sum over the
            sources; ``complex`` (of an STFT) multiplies as complex numbers with parts within +-2, and
            ``complex_unbounded`` with the outputs as they are;
            ``mapping`` is no mask, but takes the outputs for the coefficients of the sources.
        consistent: Whether the part of the mixture that the estimates lack is shared among them
            (sepnet.dsp.consistency). It also sets their level, which SI-SDR leaves open.
        scale: The level of the estimates: as the network gives it (``network``), or with the gains that bring
            their sum closest to the mixture (``least_squares``).
        covers_mixture: Whether the sources are all that a mixture holds; False where noise is to be left out.
        input_rms: The RMS that a mixture is brought to before the network; it matters to a network that does
            not normalise its input.
        level: Which RMS is brought to it: that of the clip (``whole``), or in each frame that of the past
            (``running``), for causal networks.
        labels: The class of each output, in order; a mixture need not hold all of them. None, or with
            ``pit``: all outputs are of one kind, and training finds out which is which.
        pit: Whether training ignores the labels and is permutation-invariant.
        source_count: Which outputs are sources: all (``fixed``); the loudest, as many as n_sources of the
            mixture says (``given``); or those less than ``quiet_db`` below the mixture (``estimated``).
        quiet_db: How far below the mixture an output is no source, in dB.

    Raises:
        SepnetError: A value is unknown; features, activation or objective need an STFT, but the filterbank
            is another; there are not ``n_sources`` labels; the sources are to sum to a mixture that they
            do not cover, or that gives them their level; or they are counted although they have labels, or
            with an objective that is not defined for silence.
    """

    def __init__(
        self,
        *,
        filterbank: Filterbank,
        network: Callable[[int, int], nn.Module],
        objective: Objective,
        n_sources: NumberOfSources = 2,
        sample_rate: SampleRate = 8000,
        features: Features = "log_magnitude",
        activation: Activation = "sigmoid",
        consistent: bool = True,
        level: Level = "whole",
        labels: Sequence[str] | None = None,
        pit: bool = False,
        source_count: SourceCount = "fixed",
        quiet_db: float = 20.0,
        scale: Scale = "network",
        covers_mixture: bool = True,
        input_rms: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        check_choices(features, activation, level, source_count, scale)
        check_transform(filterbank, features, activation, objective)
        if labels is not None and not pit and len(labels) != n_sources:
            raise SepnetError(
                f"n_sources={n_sources}, but there are {len(labels)} labels ({', '.join(labels)}): they have "
                "to agree"
            )
        if consistent and n_sources == 1:
            raise SepnetError(
                "n_sources=1 with consistent=true would return the mixture: set consistent=false and "
                "covers_mixture=false"
            )
        if consistent and (scale != "network" or not covers_mixture):
            raise SepnetError(
                f"consistent=true makes the sources sum to the mixture, which scale={scale} and "
                f"covers_mixture={covers_mixture} do not go with: set consistent=false"
            )
        if level == "running" and input_rms != 1.0:
            raise SepnetError(f"level=running brings frames to an RMS of 1, not to input_rms={input_rms}")
        if source_count != "fixed":
            check_counting(source_count, quiet_db, None if pit else labels, objective)
        self.filterbank, self.objective = filterbank, objective
        self.n_outputs, self.sample_rate = n_sources, sample_rate
        self.source_count, self.quiet_db = source_count, quiet_db
        self.consistent, self.level = consistent, level
        self.scale, self.covers_mixture = scale, covers_mixture
        self.input_rms = input_rms
        self.labels = None if labels is None or pit else tuple(labels)
        self.masking = Masking(filterbank=filterbank, features=features, activation=activation)
        self.network = network(self.masking.n_features, n_sources * self.masking.n_mask)

    @property
    def info(self) -> SeparatorInfo:
        """Its outputs are its sources, unless their number is given or estimated; live where it is causal."""
        fixed = self.source_count == "fixed"
        causal = self.level == "running" and self.network_is_causal
        return SeparatorInfo(
            needs=frozenset({"n_sources"}) if self.source_count == "given" else frozenset(),
            n_sources=self.n_outputs if fixed else None,
            sample_rate=self.sample_rate,
            labels=self.labels,
            latency_seconds=self.filterbank.window_samples / self.sample_rate if causal else None,
            counts_sources=not fixed,
            covers_mixture=self.covers_mixture,
        )

    @property
    def network_is_causal(self) -> bool:
        """Whether the network uses no future frames, as a causal TCN."""
        return isinstance(self.network, TCN) and self.network.causal

    def forward(self, signal: Float[Tensor, "batch time"]) -> Estimate:
        """Estimate the sources of mixtures, which are at the input level where ``level`` is ``whole``."""
        analysis = self.filterbank.encode(signal)  # (batch, channel, frame)
        levelled = analysis / running_level(analysis) if self.level == "running" else analysis
        output = self.network(self.masking.features_of(levelled)).float()
        logits = output.unflatten(1, (self.n_outputs, self.masking.n_mask))  # (batch, source, mask, frame)
        masked = self.masking.apply(logits, analysis.unsqueeze(1))
        return Estimate(analysis, masked, signal, self._synthesise)

    def to_input_level(
        self, mixtures: Float[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch 1"]]:
        """Bring mixtures to the RMS ``input_rms``; return also what the estimates are to be multiplied by."""
        signal, level = unit_level(mixtures)
        return signal * self.input_rms, level / self.input_rms

    def at_level_of(self, signal: Float[Tensor, "batch time"]) -> Float[Tensor, "batch source time"]:
        """Estimate the sources of mixtures, as ``forward``, at the level that ``scale`` says."""
        sources: Tensor = self(signal).sources
        return scale_to_mixture(sources, signal) if self.scale == "least_squares" else sources

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss, and the SI-SDR improvement of the active sources in dB, for the log.

        With a loss of spectra the improvement is that of the first mixtures alone, since only the log needs
        their waveforms.

        Raises:
            SepnetError: A mixture holds more sources than the network has outputs.
        """
        signal, level = self.to_input_level(batch.mixture[:, 0])
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
                estimate = estimate.head(N_LOGGED_MIXTURES)
            gain = _mean_improvement(estimate, references, order)
        return {"loss": losses.mean(), "si_sdri": gain}

    @torch.no_grad()
    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0.

        Raises:
            CannotSeparate: The mixture is at another sample rate than the network's, or has more sources
                than the network has outputs.
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
        if self.consistent:  # the other outputs hold parts of the mixture, too
            sources = make_consistent(sources, mixture.audio[0].to(sources))
        return Separation(sources.to(mixture.audio.device))

    @torch.no_grad()
    def estimate_n_sources(self, mixture: Mixture) -> int:
        """Count the outputs that are not silent, at least 1; with a fixed number return that."""
        if self.source_count == "fixed":
            return self.n_outputs
        return self._count_outputs(self._outputs(mixture), mixture)

    def live_step(self) -> MaskEstimatorStep:
        """Make the module that separates hop by hop; it shares the weights of this model.

        Raises:
            CannotSeparate: The model needs the whole recording; the message says why.
        """
        self._check_live()
        assert isinstance(self.network, TCN)
        return MaskEstimatorStep(
            filterbank=self.filterbank,
            network=self.network,
            masking=self.masking,
            n_sources=self.n_outputs,
            sample_rate=self.sample_rate,
            consistent=self.consistent,
        ).eval()

    def stream(self, setup: StreamSetup) -> FrameStream:
        """Prepare separation hop by hop. Raises CannotSeparate as ``live_step``, and for another rate."""
        setup.resolve_rate(self.sample_rate)
        return MaskEstimatorStream(self.live_step(), self.labels)

    def _check_live(self) -> None:
        reasons: Sequence[tuple[bool, str]] = (
            (self.scale != "network", f"its level comes from the whole recording (scale={self.scale})"),
            (self.level != "running", "it brings the whole recording to unit level first (level=whole)"),
            (not self.network_is_causal, "its network uses future frames"),
            (
                self.source_count != "fixed",
                f"it counts the sources of the whole recording (source_count={self.source_count})",
            ),
            (self.masking.activation == "mapping", "a mapping is no mask: of silence it may make sound"),
        )
        for applies, reason in reasons:
            if applies:
                raise CannotSeparate(f"this model can't go live, for {reason}: take pit-causal-2spk-8k")

    def _outputs(self, mixture: Mixture) -> Float[Tensor, "output time"]:
        require_rate(mixture, self.sample_rate, made="the network was")
        signal, level = mixture.audio[:1].to(next(self.parameters()).device), None
        if self.level == "whole":
            signal, level = self.to_input_level(signal)
        if not signal.any():  # a mapping might make sound of silence
            return signal.new_zeros(self.n_outputs, signal.shape[-1])
        sources = self.at_level_of(signal)[0]
        return sources if level is None else sources * level

    def _count_outputs(self, outputs: Float[Tensor, "output time"], mixture: Mixture) -> int:
        """Count the outputs that are less than ``quiet_db`` below the mixture, at least 1."""
        min_power = mixture.audio[0].square().mean() * 10 ** (-self.quiet_db / 10)
        return max(int((outputs.square().mean(dim=-1) > min_power.to(outputs.device)).sum()), 1)

    def _synthesise(self, masked: Tensor, signal: Tensor) -> Tensor:
        sources: Tensor = self.filterbank.decode(masked, signal.shape[-1])
        return make_consistent(sources, signal) if self.consistent else sources


def _mean_improvement(estimate: Estimate, references: Tensor, order: Tensor) -> Tensor:
    """The mean SI-SDR improvement in dB of the sources that sound and are not all of their mixture."""
    signal = estimate.signal
    references, order = references[: len(signal)], order[: len(signal)]
    sources = permute(estimate.sources, order)
    gains = improvement(si_sdr, sources, references, signal.unsqueeze(1).expand_as(references))
    rest = signal.unsqueeze(1) - references  # zero where one source is all of its mixture
    active = (references.abs().amax(dim=-1) > 0) & (rest.abs().amax(dim=-1) > SOLE_SOURCE_PEAK)
    # 0 dB where there is nothing to gain: a NaN would spoil the mean of the whole epoch.
    return gains[active].sum() / active.sum().clamp_min(1)
