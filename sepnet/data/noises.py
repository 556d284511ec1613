"""Noise for training mixtures: recordings, and three kinds that are generated.

recorded  a stretch of a recording from a corpus of noise; a short one repeats
coloured  Gaussian noise whose power falls by 0 (white) to 6 dB (brown) per octave; 3 dB is pink
hum       harmonics of the mains, 50 or 60 Hz
babble    several other speakers of the training corpus at once

Each is a pure function of the random generator, and at no level in particular: the mixer sets that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int

from sepnet.data.cache import Cache
from sepnet.types import SepnetError

NoiseKind = Literal["recorded", "coloured", "hum", "babble"]
Noise = Float32[np.ndarray, " time"]

MAX_SLOPE_DB = 6.0  # per octave
MIN_COLOURED_HZ = 20.0  # below it, the power falls no further
MAINS_HZ = (50.0, 60.0)
MAX_DETUNING = 0.004  # of the mains, relative
MAX_HARMONICS = 60
HARMONIC_SLOPE = (0.5, 2.0)  # amplitudes fall with the number of the harmonic to this power
HARMONIC_SPREAD_DB = 6.0  # standard deviation of each amplitude about that
BABBLE_VOICES = (4, 9)  # from, and below


class NoiseMaker:
    """Draws noise for training mixtures.

    Args:
        kinds: The kinds to draw from; one that is named twice is drawn twice as often.
        recordings: The corpus of noise, for the kind ``recorded``.
        voices: The training corpus, for the kind ``babble``.
        speakers: (utterance,), the number of the speaker of each utterance of ``voices``.
        usable: (number,), the utterances of ``voices`` that are not silent.

    Raises:
        SepnetError: Recordings are asked for, but there are none; or there are too few speakers to babble.
    """

    def __init__(
        self,
        kinds: Sequence[NoiseKind],
        *,
        recordings: Cache | None,
        voices: Cache,
        speakers: Int[np.ndarray, " utterance"],
        usable: Int[np.ndarray, " number"],
    ) -> None:
        if "recorded" in kinds and recordings is None:
            raise SepnetError(
                "noise_kinds has 'recorded', but there are no recordings of noise: give data.noise, or leave "
                "it out of data.mixing.noise_kinds"
            )
        n_speakers = len(np.unique(speakers[usable]))
        if "babble" in kinds and n_speakers < BABBLE_VOICES[1]:
            raise SepnetError(
                f"noise_kinds has 'babble', but the training corpus has {n_speakers} speakers, and babble "
                f"takes {BABBLE_VOICES[1]} or more: leave it out of data.mixing.noise_kinds"
            )
        self.kinds, self.recordings, self.voices = tuple(kinds), recordings, voices
        self._speakers, self._usable = speakers, usable

    def __call__(self, rng: np.random.Generator, n_samples: int, *, in_mixture: Collection[int]) -> Noise:
        """Draw one noise.

        Args:
            rng: The generator.
            n_samples: Its length.
            in_mixture: The speakers of the mixture, who don't babble.

        Returns:
            (time,).
        """
        kinds = self.kinds
        kind = kinds[0] if len(kinds) == 1 else kinds[int(rng.integers(len(kinds)))]
        if kind == "recorded":
            noise = self._recorded(rng, n_samples)
        elif kind == "coloured":
            noise = coloured_noise(rng, n_samples, self.voices.sample_rate)
        elif kind == "hum":
            noise = mains_hum(rng, n_samples, self.voices.sample_rate)
        else:
            noise = self._babble(rng, n_samples, in_mixture)
        return noise.astype(np.float32)

    def _recorded(self, rng: np.random.Generator, n_samples: int) -> np.ndarray:
        assert self.recordings is not None
        return _stretch(rng, self.recordings, int(rng.integers(len(self.recordings))), n_samples)

    def _babble(self, rng: np.random.Generator, n_samples: int, in_mixture: Collection[int]) -> np.ndarray:
        """The sum of stretches of equal power, one for each of several speakers."""
        others = self._usable[~np.isin(self._speakers[self._usable], list(in_mixture))]
        speakers = np.unique(self._speakers[others])
        n_voices = min(int(rng.integers(*BABBLE_VOICES)), len(speakers))
        total = np.zeros(n_samples)
        for speaker in rng.choice(speakers, size=n_voices, replace=False):
            utterance = int(rng.choice(others[self._speakers[others] == speaker]))
            voice = _stretch(rng, self.voices, utterance, n_samples)
            total += voice / max(np.sqrt(np.square(voice).mean()), 1e-8)
        return total


def coloured_noise(rng: np.random.Generator, n_samples: int, sample_rate: int) -> np.ndarray:
    """Draw Gaussian noise whose power falls by a drawn number of dB per octave, between white and brown.

    Args:
        rng: The generator.
        n_samples: Its length.
        sample_rate: In Hz.

    Returns:
        (time,).
    """
    slope_db = rng.uniform(0.0, MAX_SLOPE_DB)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(n_samples, 1 / sample_rate), MIN_COLOURED_HZ))
    octaves -= octaves[-1]  # 0 dB at the highest frequency
    spectrum = np.fft.rfft(rng.standard_normal(n_samples)) * 10 ** (-slope_db * octaves / 20)
    noise: np.ndarray = np.fft.irfft(spectrum, n_samples)
    return noise


def mains_hum(rng: np.random.Generator, n_samples: int, sample_rate: int) -> np.ndarray:
    """Draw a hum of the mains: harmonics with drawn amplitudes and phases.

    Args:
        rng: The generator.
        n_samples: Its length.
        sample_rate: In Hz.

    Returns:
        (time,).
    """
    mains_hz = MAINS_HZ[int(rng.integers(len(MAINS_HZ)))] * (1 + rng.uniform(-MAX_DETUNING, MAX_DETUNING))
    numbers = np.arange(1, max(2, min(MAX_HARMONICS + 1, int(sample_rate / 2 / mains_hz))))
    gains_db = -20 * rng.uniform(*HARMONIC_SLOPE) * np.log10(numbers)
    amplitudes = 10 ** ((gains_db + rng.normal(0.0, HARMONIC_SPREAD_DB, size=len(numbers))) / 20)
    phases = rng.uniform(0.0, 2 * np.pi, size=len(numbers))
    angles = 2 * np.pi * mains_hz / sample_rate * np.arange(n_samples)
    hum = np.zeros(n_samples)
    for number, amplitude, phase in zip(numbers, amplitudes, phases, strict=True):
        hum += amplitude * np.sin(number * angles + phase)
    return hum


def _stretch(rng: np.random.Generator, cache: Cache, number: int, n_samples: int) -> np.ndarray:
    """``n_samples`` of a recording from a drawn start; a short one repeats."""
    available = int(cache.lengths[number])
    taken = min(n_samples, available)
    start = int(rng.integers(available - taken + 1))
    return np.resize(cache.read(number, start, taken), n_samples)
