"""LibriMix-style mixtures from a cache of utterances, drawn on the fly.

A mixture is a pure function of the random generator that it is drawn with. The order of events for
each source: an utterance, a speed, a crop, a loudness, a place in the mixture, a room.

Overlap. n segments of d samples start h = (1 - r) d apart, so that neighbours share the fraction r:

    T = d + (n - 1) (1 - r) d          (1)    length of the mixture
    d = T / (1 + (n - 1) (1 - r))      (2)    length of a segment, for a given T

``crop`` fixes T and draws the crops; ``min`` cuts all segments to the shortest; ``max`` keeps each
whole and pads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float
from scipy.signal import fftconvolve, resample_poly

from sepnet.data.cache import Cache
from sepnet.types import SepnetError

Interval = tuple[float, float]
DRAWS = 1000  # tries at finding another speaker before the corpus is called too lopsided


class Responses(Protocol):
    """Rooms and mixing matrices: see sepnet.data.rooms."""

    def draw_responses(
        self, rng: np.random.Generator, n_sources: int, sample_rate: int
    ) -> Float[np.ndarray, "source channel tap"]:
        """One impulse response for each source and channel."""
        ...


@dataclass(frozen=True)
class Example:
    """One mixture (channel, time) with its sources (source, time) at channel 0, all float32."""

    mixture: np.ndarray
    sources: np.ndarray
    id: str


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How to mix.

    n_sources: the numbers of sources to draw from. seconds: length of a crop (mode ``crop``).
    loudness_lufs: interval of each source's loudness, uniform. overlap: interval of the ratio r above.
    speeds: factors to draw from; 1.1 is faster and higher. noise_snr_db: interval of the level of all
    sources over the noise, where there is a noise corpus. responses: a room or a mixing matrix.
    slots: a label for each source, in order (``n_sources`` is then their number). short: what to do
    with utterances shorter than a crop: refuse, skip, or pad with silence at a drawn place.
    peak: the highest sample allowed; above it mixture and sources are scaled down together.
    """

    n_sources: tuple[int, ...] = (2,)
    mode: Literal["crop", "min", "max"] = "crop"
    seconds: float = 3.0
    loudness_lufs: Interval = (-33.0, -25.0)
    overlap: Interval = (1.0, 1.0)
    speeds: tuple[float, ...] = (1.0,)
    noise_snr_db: Interval = (0.0, 20.0)
    responses: Responses | None = None
    slots: tuple[str, ...] | None = None
    short: Literal["refuse", "skip", "pad"] = "refuse"
    peak: float = 0.9

    def __post_init__(self) -> None:
        # Lists from YAML become tuples, so that the recipe can be hashed.
        for name in ("n_sources", "speeds", "loudness_lufs", "overlap", "noise_snr_db", "slots"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.slots is not None:
            object.__setattr__(self, "n_sources", (len(self.slots),))
        if not self.n_sources or min(self.n_sources) < 1:
            raise SepnetError(
                f"n_sources is {list(self.n_sources)}: give one number or more, each at least 1"
            )
        if not 0.0 <= self.overlap[0] <= self.overlap[1] <= 1.0:
            raise SepnetError(f"overlap is {list(self.overlap)}: give two ratios between 0 and 1, in order")
        if self.seconds <= 0 or min(self.speeds, default=0.0) <= 0:
            raise SepnetError(f"seconds={self.seconds} and speeds={list(self.speeds)} have to be positive")


class Mixer:
    """Draws mixtures from a cache by a recipe.

    Raises SepnetError where the corpus can't serve it: too few speakers, a slot without utterances,
    utterances shorter than a crop, nothing but silence.
    """

    def __init__(self, cache: Cache, mixing: Mixing, noise: Cache | None = None) -> None:
        self.cache, self.mixing, self.noise = cache, mixing, noise
        if noise is not None and noise.sample_rate != cache.sample_rate:
            raise SepnetError(
                f"the noise is at {noise.sample_rate} Hz and the sources at {cache.sample_rate} Hz: they have to agree"
            )
        names = {name: i for i, name in enumerate(sorted({u.speaker for u in cache.utterances}))}
        self._speakers = np.array([names[u.speaker] for u in cache.utterances])
        self._slots = self._eligible()
        self._resamplers: dict[float, Callable[[np.ndarray], np.ndarray]] = {
            speed: _changed(speed) for speed in mixing.speeds
        }

    def _eligible(self) -> list[np.ndarray]:
        """For each source the utterances that it may be, checked to suffice."""
        cache, mixing = self.cache, self.mixing
        usable = np.isfinite(cache.loudness_lufs)
        if mixing.mode == "crop":
            need = int(mixing.seconds * cache.sample_rate * max(mixing.speeds))
            short = cache.lengths < need
            if mixing.short == "refuse" and short.any():
                raise SepnetError(
                    f"{int(short.sum())} of {len(cache)} utterances are shorter than a crop of {mixing.seconds} s at "
                    f"the highest speed (the shortest has {cache.lengths.min() / cache.sample_rate:.2f} s): set "
                    "data.mixing.short=pad or skip, or a smaller data.mixing.seconds"
                )
            if mixing.short == "skip":
                usable &= ~short
        labels = np.array([u.label for u in cache.utterances])
        slots = [usable & (labels == slot) for slot in mixing.slots] if mixing.slots else [usable]
        for slot, mask in zip(mixing.slots or ("",), slots, strict=True):
            speakers = len(np.unique(self._speakers[mask]))
            need = 1 if mixing.slots else max(mixing.n_sources)
            if speakers < need:
                raise SepnetError(
                    f"{cache.folder} has {speakers} speakers with usable utterances"
                    f"{f' of {slot!r}' if slot else ''}, but mixtures of {max(mixing.n_sources)} need {need}: "
                    "add speakers, or lower n_sources"
                )
        return [np.flatnonzero(mask) for mask in slots]

    def __call__(self, rng: np.random.Generator) -> Example:
        """Draw one mixture. A pure function of the generator's state."""
        mixing, cache = self.mixing, self.cache
        n = mixing.n_sources[rng.integers(len(mixing.n_sources))]
        overlap = rng.uniform(*mixing.overlap)
        chosen = self._choose(rng, n)
        speeds = [mixing.speeds[rng.integers(len(mixing.speeds))] for _ in chosen]
        lengths = [int(cache.lengths[u] / speed) for u, speed in zip(chosen, speeds, strict=True)]
        if mixing.mode == "crop":
            time = round(mixing.seconds * cache.sample_rate)
            lengths = [math.ceil(time / (1 + (n - 1) * (1 - overlap)))] * n  # (2)
        elif mixing.mode == "min":
            lengths = [min(lengths)] * n
        hop = (1 - overlap) * min(lengths)
        starts = [int(k * hop) for k in range(n)]
        if mixing.mode != "crop":
            time = max(start + length for start, length in zip(starts, lengths, strict=True))  # (1)
        sources = np.zeros((n, time), dtype=np.float32)
        for k, (utterance, speed, start) in enumerate(zip(chosen, speeds, starts, strict=True)):
            segment = self._segment(rng, utterance, speed, min(lengths[k], time - start))
            level = rng.uniform(*mixing.loudness_lufs) - cache.loudness_lufs[utterance]
            np.multiply(segment, 10 ** (level / 20), out=sources[k, start : start + len(segment)])
        return self._mix(rng, sources, "_".join(cache.utterances[u].path for u in chosen))

    def _choose(self, rng: np.random.Generator, n: int) -> list[int]:
        """n utterances of n different speakers, each uniform over what its slot allows."""
        chosen: list[int] = []
        speakers: set[int] = set()
        for k in range(n):
            pool = self._slots[k % len(self._slots)]
            for _ in range(DRAWS):
                utterance = int(pool[rng.integers(len(pool))])
                if self._speakers[utterance] not in speakers:
                    break
            else:
                raise SepnetError(
                    f"no {k + 1} different speakers in {DRAWS} draws from {self.cache.folder}: "
                    "nearly all utterances are of one speaker; balance the corpus"
                )
            chosen.append(utterance)
            speakers.add(int(self._speakers[utterance]))
        return chosen

    def _segment(self, rng: np.random.Generator, utterance: int, speed: float, n_samples: int) -> np.ndarray:
        """``n_samples`` of an utterance from a drawn start; a short one lies in silence at a drawn place."""
        available = int(self.cache.lengths[utterance])
        wanted = n_samples if speed == 1.0 else math.ceil(n_samples * speed)
        start = int(rng.integers(max(available - wanted, 0) + 1))
        raw = self.cache.read(utterance, start, min(wanted, available))
        segment = self._resamplers[speed](raw)[:n_samples]
        if len(segment) == n_samples:
            return segment
        padded = np.zeros(n_samples, dtype=np.float32)
        place = int(rng.integers(n_samples - len(segment) + 1))
        padded[place : place + len(segment)] = segment
        return padded

    def _mix(self, rng: np.random.Generator, sources: np.ndarray, name: str) -> Example:
        """Rooms, noise, sum, and one common gain if anything would clip."""
        mixing = self.mixing
        if mixing.responses is None:
            mixture = sources.sum(axis=0, keepdims=True)  # (1, time)
        else:
            responses = mixing.responses.draw_responses(rng, len(sources), self.cache.sample_rate)
            # (source, 1, time) * (source, channel, tap) -> (source, channel, time)
            images = fftconvolve(sources[:, None], responses, axes=-1)[..., : sources.shape[-1]].astype(
                np.float32
            )
            mixture, sources = images.sum(axis=0), np.ascontiguousarray(images[:, 0])
        if self.noise is not None:
            mixture = mixture + self._noise(rng, mixture)
        peak = max(np.abs(mixture).max(), np.abs(sources).max())
        if peak > mixing.peak:
            mixture, sources = mixture * (mixing.peak / peak), sources * (mixing.peak / peak)
        return Example(mixture, sources, name)

    def _noise(self, rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
        """Noise for each channel (channel, time), at a drawn level under ``clean``; short noise repeats."""
        assert self.noise is not None
        channels = []
        for _ in clean:
            pick = int(rng.integers(len(self.noise)))
            start = int(rng.integers(max(int(self.noise.lengths[pick]) - clean.shape[-1], 0) + 1))
            n_samples = min(clean.shape[-1], int(self.noise.lengths[pick]))
            channels.append(np.resize(self.noise.read(pick, start, n_samples), clean.shape[-1]))
        noise = np.stack(channels)
        power = float(np.square(noise[0]).mean())
        if power == 0.0:
            return noise
        snr_db = rng.uniform(*self.mixing.noise_snr_db)
        gain = math.sqrt(float(np.square(clean[0]).mean()) / power) * 10 ** (-snr_db / 20)
        return noise * np.float32(gain)


def _changed(speed: float) -> Callable[[np.ndarray], np.ndarray]:
    """A function that plays a signal ``speed`` times faster."""
    if speed == 1.0:
        return lambda signal: signal
    ratio = Fraction(speed).limit_denominator(100)
    return lambda signal: resample_poly(signal, ratio.denominator, ratio.numerator).astype(np.float32)
