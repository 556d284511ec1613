"""Unsupervised NMF: the mixture's spectrogram as a sum of components, shared out among the sources.

The magnitudes |Y| (bin, frame) become W H (Lee and Seung, NIPS 2000; see sepnet.dsp.nmf). Either each
source is one component, the textbook's version; or there are many, each gets features, and k-means puts
those that are alike into one source. Source i then has the model V_i = sum of its w_k h_k, and

    Y_i = V_i^p / sum_j V_j^p  Y,

a Wiener-like gain, so that the estimates sum to the mixture: Wiener's own has p = 2 where V models
magnitudes, p = 1 is more careful where the model is poor.

Nothing here knows what a voice is: components that are alike need not come from one mouth. What was tried
on 100 two-speaker mixtures of speech8k (data.valid, 80 components, p = 1; SI-SDR improvement in dB, each
+-0.3 at most; p = 2 loses 0.2 to 0.6 dB throughout):

    one component a source    -0.30        pitch and timbre (0.5)           1.45
    activations               -1.19        pitch and activations            1.08
    timbre                    -0.59        pitch, bands and activations     1.15
    bands                      0.16        pitch (1.5) and bands            1.56
    pitch                      0.94        pitch and bands (the default)    1.83

On the 100 others of data.valid, by which nothing was chosen, one component a source has -0.94 dB and the
default 0.88 dB. Given to the source that each fits best, with the references at hand, components reach 6 dB.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

from sepnet.dsp import nmf
from sepnet.dsp.blocks import excerpt, mask_in_blocks
from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.filterbank import STFT
from sepnet.dsp.kmeans import kmeans
from sepnet.separators.checks import require_n_sources
from sepnet.types import CannotSeparate, Mixture, Separation, SeparatorInfo, SepnetError

PIECE_SECONDS = 5.0  # of a long mixture, when the dictionary is learnt from excerpts
PITCH_HZ = (75.0, 350.0)
N_PITCHES, N_HARMONICS, DECAY = 80, 8, 0.84
N_BANDS = 60
N_MEL, N_MFCC = 24, 13
SMOOTHING_SECONDS = 0.1
RANGE = 1e-3  # of a spectrum: what lies 60 dB under its peak does not count


class NMF:
    """Factorises channel 0 of the mixture and shares its components out among ``n_sources``.

    n_components: None is one a source. features: what components are clustered by, each with the factor
    by which it counts. divergence, start, n_restarts, n_iterations, sparsity: see sepnet.dsp.nmf.
    magnitude_power: what is factorised is the magnitude to this power. mask_exponent: p above.
    window_seconds: of the STFT (Hann, hop a quarter). learn_seconds: of a longer mixture, so much is learnt
    from, in excerpts; the rest is explained by what was learnt. block_seconds: worked on at once, which
    bounds the memory.

    Features: ``pitch``, ``bands``, ``timbre`` and ``activations``, the functions below. A component counts
    by its level, and with ``pitch`` by how clear its pitch is.

    Raises SepnetError for settings that can't be; ``separate`` raises CannotSeparate for more sources
    than components.
    """

    info = SeparatorInfo(needs=frozenset({"n_sources"}))

    def __init__(
        self,
        *,
        n_components: int | None = None,
        features: Mapping[str, float] = MappingProxyType({"pitch": 1.0, "bands": 1.0}),
        divergence: nmf.Divergence = "kullback_leibler",
        magnitude_power: float = 1.0,
        mask_exponent: float = 1.0,
        start: nmf.Start = "random",
        n_restarts: int = 1,
        n_iterations: int = 200,
        sparsity: float = 0.0,
        window_seconds: float = 0.064,
        learn_seconds: float = 60.0,
        block_seconds: float = 30.0,
        seed: int = 0,
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
        self.window_seconds = window_seconds
        self.learn_seconds, self.block_seconds = learn_seconds, block_seconds

    def separate(self, mixture: Mixture) -> Separation:
        """Unlabelled sources, the same for the same mixture."""
        n_sources = require_n_sources(mixture)
        n_components = n_sources if self.n_components is None else self.n_components
        if n_components < n_sources:
            raise CannotSeparate(
                f"{n_sources} sources can't share {n_components} components: raise n_components"
            )
        rate = mixture.sample_rate
        hop = max(1, round(self.window_seconds * rate / 4))
        stft = STFT(window_samples=4 * hop, hop_samples=hop, window="hann")
        signal = mixture.audio[0]
        peak = signal.abs().max()
        if peak > 0:
            signal = signal / peak
        bound = round(self.learn_seconds * rate)
        whole = len(signal) <= bound  # then what is learnt from has its activations already
        seen = excerpt(signal, stft, max_samples=bound, piece_samples=round(PIECE_SECONDS * rate))
        X = self._magnitudes(seen)
        learnt = nmf.factorise(
            X,
            n_components=n_components,
            divergence=self.divergence,
            start=self.start if n_components <= min(X.shape[1:]) else "random",
            n_restarts=self.n_restarts,
            n_iterations=self.n_iterations,
            tolerance=0,
            sparsity=self.sparsity,
            seed=self.seed,
        )
        sources = self._groups(learnt, n_sources, rate, hop)

        def mask_of(spectrogram: Tensor) -> Tensor:
            activations = learnt.activations if whole else self._activations(spectrogram, learnt.dictionary)
            return nmf.gains(learnt.dictionary[0], activations[0], sources, n_sources, self.mask_exponent)

        block = len(signal) + hop if whole else round(self.block_seconds * rate)
        estimates = mask_in_blocks(signal, stft, mask_of, block_samples=block)
        return Separation(make_consistent(estimates * peak, mixture.audio[0]))

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
        )

    def _groups(self, learnt: nmf.Factorisation, n_sources: int, rate: int, hop: int) -> Tensor:
        """The source of each component (component,)."""
        dictionary, activations = learnt.dictionary[0], learnt.activations[0]
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


Points = Float[Tensor, "component feature"]
Clarity = Float[Tensor, " component"]
"""How much a component's point is worth, between 0 and 1."""


def pitch(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> tuple[Points, Clarity]:
    """The fundamental frequency in octaves, by summing harmonics: (component, 1).

    Hermes, "Measurement of pitch by subharmonic summation", JASA 83(1), 1988, on the root of the
    magnitudes; what lies half-way between the harmonics is taken away, as in Camacho and Harris, "A
    sawtooth waveform inspired pitch estimator for speech and music", JASA 124(3), 2008. The clarity is the
    sum that the best pitch reaches.
    """
    roots = _unit(dictionary.mT.sqrt())  # (component, bin)
    lowest, highest = (math.log10(hertz) for hertz in PITCH_HZ)
    hertz = torch.logspace(lowest, highest, N_PITCHES, device=roots.device)
    total = roots.new_zeros(len(roots), N_PITCHES)
    for harmonic in range(1, N_HARMONICS + 1):
        at, between = (_read(roots, hertz * k, rate) for k in (harmonic, harmonic - 0.5))
        total += DECAY ** (harmonic - 1) * (at - between)
    best = total.max(dim=1)
    return torch.log2(hertz[best.indices])[:, None].to(roots), (best.values / N_HARMONICS**0.5).clamp(0, 1)


def _read(spectra: Tensor, hertz: Tensor, rate: int) -> Tensor:
    """Spectra (component, bin) at frequencies (frequency,): linear between the bins, zero beyond them."""
    n_bins = spectra.shape[1]
    place = hertz * 2 * (n_bins - 1) / rate
    lower = place.long().clamp_max(n_bins - 2)
    part = (place - lower).to(spectra)
    values = spectra[:, lower] * (1 - part) + spectra[:, lower + 1] * part
    return torch.where(hertz <= rate / 2, values, 0.0)


def bands(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> tuple[Points, Clarity]:
    """Each component's spectrum in bands as wide as the ear's, at unit length."""
    points = _unit(dictionary.mT @ _mel(dictionary, rate, N_BANDS))
    return points, torch.ones_like(points[:, 0])


def timbre(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> tuple[Points, Clarity]:
    """The mel cepstrum of each component's spectrum, without its level, at unit length.

    Spiertz and Gnann, "Source-filter based clustering for monaural blind source separation", DAFx 2009.
    """
    levels = dictionary.mT @ _mel(dictionary, rate, N_MEL)  # (component, band)
    logarithms = torch.log(levels / _peak(levels) + RANGE)
    points = _unit((logarithms @ create_dct(N_MFCC, N_MEL, "ortho").to(dictionary))[:, 1:])
    return points, torch.ones_like(points[:, 0])


def active(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> tuple[Points, Clarity]:
    """When each component is active, averaged over 0.1 s, at unit length."""
    width = max(1, min(round(SMOOTHING_SECONDS * rate / hop), activations.shape[1]))
    points = _unit(torch.nn.functional.avg_pool1d(activations[:, None], width)[:, 0])
    return points, torch.ones_like(points[:, 0])


Feature = Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]
FEATURES: dict[str, Feature] = {"pitch": pitch, "bands": bands, "timbre": timbre, "activations": active}


def _mel(like: Tensor, rate: int, n_bands: int) -> Tensor:
    """(bin, band); low bands that are narrower than a bin stay empty."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filterbank")
        filters: Tensor = melscale_fbanks(like.shape[0], 0.0, rate / 2, n_bands, rate)
    return filters.to(like)


def _peak(values: Tensor) -> Tensor:
    return values.amax(dim=1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)


def _unit(rows: Tensor) -> Tensor:
    norms: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / norms.clamp_min(torch.finfo(rows.dtype).tiny)
