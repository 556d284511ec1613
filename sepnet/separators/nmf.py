"""Unsupervised NMF: the mixture's spectrogram as a sum of components, shared out among the sources.

The magnitudes |Y| (bin, frame) become W H (Lee and Seung, NIPS 2000; see sepnet.dsp.nmf). Either each
source is one component, the textbook's version; or there are many, each gets features, and k-means puts
those that are alike into one source. Source i then has the model V_i = sum of its w_k h_k, and

    Y_i = V_i^p / sum_j V_j^p  Y,

a Wiener-like gain (p = 2 where V models magnitudes), so that the estimates sum to the mixture.

Nothing here knows what a voice is: components that are alike need not come from one mouth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

from sepnet.dsp import nmf
from sepnet.dsp.blocks import excerpt, mask_in_blocks
from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.filterbank import STFT
from sepnet.dsp.kmeans import kmeans
from sepnet.types import CannotSeparate, Mixture, Separation, SepnetError

Features = Literal["timbre", "pitch", "activations", "timbre_activations"]
PIECE_SECONDS = 5.0  # of a long mixture, when the dictionary is learnt from excerpts
PITCH_HZ = (70.0, 400.0)
N_MEL, N_MFCC = 24, 13
SMOOTHING_SECONDS = 0.1
RANGE = 1e-3  # of a spectrum: what lies 60 dB under its peak does not count


class NMF:
    """Factorises channel 0 of the mixture and shares its components out among ``n_sources``.

    n_components: None is one a source. features: what components are clustered by, see below.
    divergence, start, n_restarts, n_iterations, sparsity: see sepnet.dsp.nmf. magnitude_power: what is
    factorised is the magnitude to this power. mask_exponent: p above. window_seconds: of the STFT (Hann,
    hop a quarter). learn_seconds: of a longer mixture, so much is learnt from, in excerpts; the rest is
    explained by what was learnt. block_seconds: worked on at once, which bounds the memory.

    timbre: the mel cepstrum of each spectrum (Spiertz and Gnann, "Source-filter based clustering for
    monaural blind source separation", DAFx 2009). pitch: the fine structure of its log spectrum, that is
    the cepstrum at the periods of a voice. activations: when it is active, at a resolution of 0.1 s.

    Raises SepnetError for settings that can't be; ``separate`` raises CannotSeparate for more sources
    than components.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"n_sources"})

    def __init__(
        self,
        *,
        n_components: int | None = None,
        features: Features = "timbre",
        divergence: nmf.Divergence = "kullback_leibler",
        magnitude_power: float = 1.0,
        mask_exponent: float = 2.0,
        start: nmf.Start = "random",
        n_restarts: int = 1,
        n_iterations: int = 200,
        sparsity: float = 0.0,
        window_seconds: float = 0.064,
        learn_seconds: float = 60.0,
        block_seconds: float = 30.0,
        seed: int = 0,
    ) -> None:
        if features not in get_args(Features):
            raise SepnetError(f"features={features!r} is none of {', '.join(get_args(Features))}")
        if min(magnitude_power, mask_exponent, window_seconds, learn_seconds, block_seconds) <= 0:
            raise SepnetError(
                f"magnitude_power={magnitude_power}, mask_exponent={mask_exponent}, "
                f"window_seconds={window_seconds}, learn_seconds={learn_seconds} and "
                f"block_seconds={block_seconds} all have to be positive"
            )
        self.n_components, self.features = n_components, features
        self.magnitude_power, self.mask_exponent = magnitude_power, mask_exponent
        self.divergence, self.start, self.n_restarts = divergence, start, n_restarts
        self.n_iterations, self.sparsity, self.seed = n_iterations, sparsity, seed
        self.window_seconds = window_seconds
        self.learn_seconds, self.block_seconds = learn_seconds, block_seconds

    def separate(self, mixture: Mixture) -> Separation:
        """Unlabelled sources, the same for the same mixture."""
        n_sources = mixture.n_sources
        assert n_sources is not None  # declared in needs
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
        n_components = dictionary.shape[1]
        if n_components == n_sources:
            return torch.arange(n_sources, device=dictionary.device)
        points = torch.cat(
            [feature(dictionary, activations, rate, hop) for feature in FEATURES[self.features]], dim=1
        )
        weights = dictionary.sum(dim=0) * activations.sum(dim=1)  # what each adds to the model
        found = kmeans(points.double(), n_sources, weights=weights.double(), seed=self.seed)
        return found.labels


def timbre(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> Float[Tensor, "component mfcc"]:
    """The mel cepstrum of each component's spectrum, without its level, at unit length."""
    mel = melscale_fbanks(dictionary.shape[0], 0.0, rate / 2, N_MEL, rate).to(dictionary)  # (bin, band)
    bands = dictionary.mT @ mel
    logarithm = torch.log(bands / _peak(bands) + RANGE)
    return _unit((logarithm @ create_dct(N_MFCC, N_MEL, "ortho").to(dictionary))[:, 1:])


def pitch(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> Float[Tensor, "component period"]:
    """The cepstrum of each component's spectrum at the periods of a voice, at unit length."""
    spectra = dictionary.mT
    cepstrum = torch.fft.irfft(torch.log(spectra / _peak(spectra) + RANGE))  # (component, quefrency)
    first = min(round(rate / PITCH_HZ[1]), cepstrum.shape[1] // 2 - 1)
    last = min(round(rate / PITCH_HZ[0]), cepstrum.shape[1] // 2)
    return _unit(cepstrum[:, first : last + 1])


def times(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> Float[Tensor, "component time"]:
    """When each component is active, averaged over 0.1 s, at unit length."""
    width = max(1, min(round(SMOOTHING_SECONDS * rate / hop), activations.shape[1]))
    averages: Tensor = torch.nn.functional.avg_pool1d(activations[:, None], width)
    return _unit(averages[:, 0])


FEATURES: dict[str, tuple[Callable[[Tensor, Tensor, int, int], Tensor], ...]] = {
    "timbre": (timbre,),
    "pitch": (pitch,),
    "activations": (times,),
    "timbre_activations": (timbre, times),
}


def _peak(values: Tensor) -> Tensor:
    return values.amax(dim=1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)


def _unit(rows: Tensor) -> Tensor:
    norms: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / norms.clamp_min(torch.finfo(rows.dtype).tiny)
