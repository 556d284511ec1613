"""Features of NMF components, by which k-means finds those that belong to one source.

Each feature is a function (dictionary, activations, rate, hop) -> (points, clarity) of the spectra
(bin, component) and activations (component, frame) of a factorisation, the sample rate in Hz and the hop in
samples. A point is (component, feature); its clarity, between 0 and 1, is how much it counts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

MIN_PITCH_HZ, MAX_PITCH_HZ = 75.0, 350.0
N_PITCHES = 80  # candidates between the two, evenly spaced in octaves
N_HARMONICS = 8
HARMONIC_DECAY = 0.84  # weight of a harmonic, relative to the one below
N_BANDS = 60
N_MEL, N_MFCC = 24, 13
SMOOTHING_SECONDS = 0.1
SPECTRUM_FLOOR = 1e-3  # of the peak, added before a logarithm: lower by 60 dB a spectrum does not count

Points = Float[Tensor, "component feature"]
Clarity = Float[Tensor, " component"]
Feature = Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]


def pitch(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> tuple[Points, Clarity]:
    """Estimate the fundamental frequency in octaves by summing harmonics.

    Hermes, "Measurement of pitch by subharmonic summation", JASA 83(1), 1988, on the root of the
    magnitudes; the value half-way between two harmonics is subtracted, as in Camacho and Harris, "A
    sawtooth waveform inspired pitch estimator for speech and music", JASA 124(3), 2008. The clarity is the
    sum that the best pitch reaches.
    """
    roots = _unit_length(dictionary.mT.sqrt())  # (component, bin)
    lowest, highest = math.log10(MIN_PITCH_HZ), math.log10(MAX_PITCH_HZ)
    hertz = torch.logspace(lowest, highest, N_PITCHES, device=roots.device)
    total = roots.new_zeros(len(roots), N_PITCHES)
    for harmonic in range(1, N_HARMONICS + 1):
        at, between = (_interpolate(roots, hertz * k, rate) for k in (harmonic, harmonic - 0.5))
        total += HARMONIC_DECAY ** (harmonic - 1) * (at - between)
    best = total.max(dim=1)
    return torch.log2(hertz[best.indices])[:, None].to(roots), (best.values / N_HARMONICS**0.5).clamp(0, 1)


def bands(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> tuple[Points, Clarity]:
    """Compute the spectrum of each component in mel bands, at unit length."""
    points = _unit_length(dictionary.mT @ _mel_filters(dictionary, rate, N_BANDS))
    return points, torch.ones_like(points[:, 0])


def timbre(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> tuple[Points, Clarity]:
    """Compute the mel cepstrum of each component without its level, at unit length.

    Spiertz and Gnann, "Source-filter based clustering for monaural blind source separation", DAFx 2009.
    """
    levels = dictionary.mT @ _mel_filters(dictionary, rate, N_MEL)  # (component, band)
    logarithms = torch.log(levels / _peak(levels) + SPECTRUM_FLOOR)
    points = _unit_length((logarithms @ create_dct(N_MFCC, N_MEL, "ortho").to(dictionary))[:, 1:])
    return points, torch.ones_like(points[:, 0])


def activity(dictionary: Tensor, activations: Tensor, rate: int, hop: int) -> tuple[Points, Clarity]:
    """Compute when each component is active, averaged over 0.1 s, at unit length."""
    width = max(1, min(round(SMOOTHING_SECONDS * rate / hop), activations.shape[1]))
    points = _unit_length(torch.nn.functional.avg_pool1d(activations[:, None], width)[:, 0])
    return points, torch.ones_like(points[:, 0])


FEATURES: dict[str, Feature] = {"pitch": pitch, "bands": bands, "timbre": timbre, "activations": activity}


def _interpolate(spectra: Tensor, hertz: Tensor, rate: int) -> Tensor:
    """Spectra (component, bin) at frequencies (frequency,): linear between the bins, zero beyond them."""
    n_bins = spectra.shape[1]
    position = hertz * 2 * (n_bins - 1) / rate
    lower = position.long().clamp_max(n_bins - 2)
    fraction = (position - lower).to(spectra)
    values = spectra[:, lower] * (1 - fraction) + spectra[:, lower + 1] * fraction
    return torch.where(hertz <= rate / 2, values, 0.0)


def _mel_filters(like: Tensor, rate: int, n_bands: int) -> Tensor:
    """(bin, band); low bands that are narrower than a bin stay empty."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filterbank")
        filters: Tensor = melscale_fbanks(like.shape[0], 0.0, rate / 2, n_bands, rate)
    return filters.to(like)


def _peak(values: Tensor) -> Tensor:
    return values.amax(dim=1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)


def _unit_length(rows: Tensor) -> Tensor:
    norms: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / norms.clamp_min(torch.finfo(rows.dtype).tiny)
