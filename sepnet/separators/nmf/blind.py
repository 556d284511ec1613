"""Unsupervised NMF: the mixture's spectrogram as a sum of components, shared out among the sources.

The magnitudes |Y| (bin, frame) become W H (Lee and Seung, NIPS 2000; see sepnet.dsp.nmf). Either each
source is one component, as in the textbook; or there are many components, each gets features, and k-means
groups similar ones into one source. Source i then has the model V_i = sum of its w_k h_k, and

    Y_i = V_i^p / sum_j V_j^p  Y,

a Wiener-like gain, so that the estimates sum to the mixture: Wiener's own has p = 2 where V models
magnitudes, p = 1 is more careful where the model is poor.

The method has no model of a voice: similar components need not come from one mouth. What was tried
on 100 two-speaker mixtures of speech8k (data.valid, 80 components, p = 1; SI-SDR improvement in dB, each
+-0.3 at most; p = 2 loses 0.2 to 0.6 dB throughout):

    one component a source    -0.30        pitch and timbre (0.5)           1.45
    activations               -1.19        pitch and activations            1.08
    timbre                    -0.59        pitch, bands and activations     1.15
    bands                      0.16        pitch (1.5) and bands            1.56
    pitch                      0.94        pitch and bands (the default)    1.83

On the 100 others of data.valid, on which no setting was chosen, one component a source has -0.94 dB and the
default 0.88 dB. Assigned to the best-fitting source by means of the references, components reach 6 dB.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from sepnet.dsp import nmf
from sepnet.dsp.blocks import excerpt_spectrogram, mask_in_blocks
from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.fast_stft import FastSTFT
from sepnet.dsp.kmeans import kmeans
from sepnet.ranges import Depth, LayerSize, NonNegativeFloat, NonNegativeInt, Seconds, Seed
from sepnet.separators.checks import require_n_sources
from sepnet.separators.nmf.features import FEATURES
from sepnet.types import CannotSeparate, Mixture, Separation, SeparatorInfo, SepnetError

EXCERPT_SECONDS = 5.0  # length of the excerpts of a long mixture from which the dictionary is learnt


class NMF:
    """Factorises channel 0 of the mixture and shares its components out among ``n_sources``.

    A component counts by its level, and with ``pitch`` by how clear its pitch is.

    Args:
        n_components: Number of components; None: one for each source.
        features: What components are clustered by, each with its weight: ``pitch``, ``bands``, ``timbre``
            and ``activations`` (sepnet.separators.nmf.features).
        divergence: See sepnet.dsp.nmf, as ``start``, ``n_restarts``, ``n_iterations``, ``sparsity`` and
            ``solver``.
        magnitude_power: The magnitudes to this power are factorised.
        mask_exponent: p above.
        start: How the factorisation starts.
        n_restarts: Restarts of the factorisation.
        n_iterations: Iterations of the factorisation.
        sparsity: Penalty on the activations.
        solver: ``multiplicative``, the updates of the textbooks, ``accelerated``, or ``auto``: the one that
            takes less time; see sepnet.dsp.nmf.
        window_seconds: Length of the Hann window of the STFT, whose hop is a quarter of it.
        learn_seconds: Of a longer mixture, excerpts of this total length give the dictionary, which then
            explains the rest.
        block_seconds: Length of the blocks in which a longer mixture is masked; bounds the memory.
        seed: Seed of the factorisation and of the clustering.

    Raises:
        SepnetError: A setting is out of range.
    """

    info = SeparatorInfo(needs=frozenset({"n_sources"}))

    def __init__(
        self,
        *,
        n_components: LayerSize | None = 80,
        features: Mapping[str, float] = MappingProxyType({"pitch": 1.0, "bands": 1.0}),
        divergence: nmf.Divergence = "kullback_leibler",
        magnitude_power: float = 1.0,
        mask_exponent: float = 1.0,
        start: nmf.Start = "random",
        n_restarts: Depth = 1,
        n_iterations: NonNegativeInt = 30,
        sparsity: NonNegativeFloat = 0.0,
        solver: nmf.Solver = "auto",
        window_seconds: Seconds = 0.064,
        learn_seconds: Seconds = 60.0,
        block_seconds: Seconds = 30.0,
        seed: Seed = 0,
    ) -> None:
        if not features or not set(features) <= set(FEATURES) or min(features.values()) <= 0:
            raise SepnetError(
                f"features={dict(features)}: give one or more of {', '.join(FEATURES)}, each with a factor "
                "above zero"
            )
        if min(magnitude_power, mask_exponent, window_seconds, learn_seconds, block_seconds) <= 0:
            raise SepnetError(
                f"magnitude_power={magnitude_power}, mask_exponent={mask_exponent}, "
                f"window_seconds={window_seconds}, learn_seconds={learn_seconds} and "
                f"block_seconds={block_seconds} all have to be positive"
            )
        self.n_components, self.features = n_components, dict(features)
        self.magnitude_power, self.mask_exponent = magnitude_power, mask_exponent
        self.divergence, self.start, self.n_restarts = divergence, start, n_restarts
        self.n_iterations, self.sparsity, self.seed = n_iterations, sparsity, seed
        self.solver = solver
        self.window_seconds = window_seconds
        self.learn_seconds, self.block_seconds = learn_seconds, block_seconds

    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into unlabelled sources, always the same for the same mixture.

        Raises:
            CannotSeparate: There are more sources than components.
        """
        n_sources = require_n_sources(mixture)
        n_components = n_sources if self.n_components is None else self.n_components
        if n_components < n_sources:
            raise CannotSeparate(
                f"{n_sources} sources can't share {n_components} components: raise n_components"
            )
        rate = mixture.sample_rate
        hop = max(1, round(self.window_seconds * rate / 4))
        stft = FastSTFT(window_samples=4 * hop, hop_samples=hop, window="hann")
        signal = mixture.audio[0]
        peak = signal.abs().max()
        if peak > 0:
            signal = signal / peak
        max_samples = round(self.learn_seconds * rate)
        short = len(signal) <= max_samples  # then the factorisation gives all activations
        spectrogram = excerpt_spectrogram(
            signal, stft, max_samples=max_samples, piece_samples=round(EXCERPT_SECONDS * rate)
        )
        factors = self._factorise(self._magnitudes(spectrogram), n_components)
        groups = self._groups(factors, n_sources, rate, hop)

        def mask_of(spectrogram: Tensor) -> Tensor:
            activations = factors.activations if short else self._activations(spectrogram, factors.dictionary)
            return nmf.source_masks(
                factors.dictionary[0], activations[0], groups, n_sources, self.mask_exponent
            )

        block = len(signal) + hop if short else round(self.block_seconds * rate)
        estimates = mask_in_blocks(signal, stft, mask_of, block_samples=block)
        return Separation(make_consistent(estimates * peak, mixture.audio[0]))

    def _factorise(self, magnitudes: Tensor, n_components: int) -> nmf.Factorisation:
        return nmf.factorise(
            magnitudes,
            n_components=n_components,
            divergence=self.divergence,
            start=self.start if n_components <= min(magnitudes.shape[1:]) else "random",
            n_restarts=self.n_restarts,
            n_iterations=self.n_iterations,
            tolerance=0,
            sparsity=self.sparsity,
            seed=self.seed,
            solver=self.solver,
        )

    def _magnitudes(self, spectrogram: Tensor) -> Tensor:
        """(bin, frame) to (1, bin, frame)."""
        return spectrogram.abs().pow(self.magnitude_power)[None]

    def _activations(self, spectrogram: Tensor, dictionary: Tensor) -> Tensor:
        return nmf.activate(
            self._magnitudes(spectrogram),
            dictionary,
            divergence=self.divergence,
            n_iterations=self.n_iterations,
            sparsity=self.sparsity,
            solver=self.solver,
        )

    def _groups(self, factors: nmf.Factorisation, n_sources: int, rate: int, hop: int) -> Tensor:
        """The source of each component (component,)."""
        dictionary, activations = factors.dictionary[0], factors.activations[0]
        if dictionary.shape[1] == n_sources:
            return torch.arange(n_sources, device=dictionary.device)
        weights = dictionary.sum(dim=0) * activations.sum(dim=1)  # what each adds to the model
        parts = []
        for name, factor in self.features.items():
            points, clarity = FEATURES[name](dictionary, activations, rate, hop)
            parts.append(factor * points)
            weights = weights * clarity
        points = torch.cat(parts, dim=1).double()
        return kmeans(points, n_sources, weights=weights.double(), seed=self.seed).labels
