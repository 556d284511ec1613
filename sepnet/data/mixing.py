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
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Literal, Protocol, TypeVar, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.signal import fftconvolve, resample_poly

from sepnet.data.activity import Stretch, active_stretches, draw_bursts
from sepnet.data.augment import check_equaliser, drawn_loop, equalised
from sepnet.data.cache import Cache
from sepnet.data.training_queries import TrainingQueries
from sepnet.types import SepnetError

Interval = Sequence[float]
"""Lower and upper end."""
Item = TypeVar("Item")
Mode = Literal["crop", "min", "max"]
Short = Literal["refuse", "skip", "pad"]
LISTS = (
    "n_sources", "speeds", "loudness_lufs", "overlap", "noise_snr_db", "slots", "active",
    "query_seconds", "target_share",
)  # fmt: skip
ADDED = ("query_seconds", "looped", "target_share", "whole", "absent", "equaliser_db")
DRAWS = 1000  # tries at finding another speaker before the corpus is called too lopsided


@runtime_checkable
class Responses(Protocol):
    """Rooms and mixing matrices: see sepnet.data.rooms."""

    def draw_responses(
        self, rng: np.random.Generator, n_sources: int, sample_rate: int
    ) -> Float[np.ndarray, "source channel tap"]:
        """One impulse response for each source and channel."""
        ...


@dataclass(frozen=True)
class Example:
    """One mixture (channel, time) with its sources (source, time) at channel 0, all float32.

    query: an example (time,) of the first source, or of what is not there, and ``label``, its class.
    """

    mixture: np.ndarray
    sources: np.ndarray
    id: str
    query: np.ndarray | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How to mix.

    n_sources: the numbers of sources to draw from. mode: whole utterances, cut to the shortest (``min``) or
    filled up to the longest (``max``), or a crop of each (``crop``), ``seconds`` long.
    loudness_lufs: interval of each source's loudness, uniform. overlap: interval of the ratio r above.
    speeds: factors to draw from; 1.1 is faster and higher. noise_snr_db: interval of the level of all
    sources over the noise, where there is a noise corpus. responses: a room or a mixing matrix.
    slots: a label for each source, in order (``n_sources`` is then their number). active: how many of the
    slots sound in a mixture, drawn, the others being silent; None: all. short: what to do
    with utterances shorter than a crop: refuse, skip, or pad with silence at a drawn place.
    peak: the highest sample allowed; above it mixture and sources are scaled down together.

    query_seconds: interval of the length of a query for the first source, of another recording of its
    class; the sources are then of different classes. None: no queries. looped: make each source of what
    sounds in its utterance, again and again (see sepnet.data.activity), instead of a crop. target_share:
    interval of the share of the crop in which the first source sounds, in one to three bursts, but for a
    share ``whole`` of the mixtures, in which it sounds throughout; absent: the share in which it is silent,
    and the query of a class that is not there. equaliser_db: range of a random filter for each source.

    Raises SepnetError for intervals that are not two numbers in order, and values out of their range.
    """

    n_sources: Sequence[int] = (2,)
    mode: Mode = "crop"
    seconds: float = 3.0
    loudness_lufs: Interval = (-33.0, -25.0)
    overlap: Interval = (1.0, 1.0)
    speeds: Sequence[float] = (1.0,)
    noise_snr_db: Interval = (0.0, 20.0)
    responses: Responses | None = None
    slots: Sequence[str] | None = None
    active: Sequence[int] | None = None
    short: Short = "refuse"
    peak: float = 0.9
    query_seconds: Interval | None = None
    looped: bool = False
    target_share: Interval = (1.0, 1.0)
    whole: float = 0.0
    absent: float = 0.0
    equaliser_db: float | None = None

    def __repr__(self) -> str:
        """The options as given, of those for queries and augmentation only what is not as by default.

        So the fingerprint of data that does without them is the one it had before there were any.
        """
        named = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name not in ADDED]
        named += [
            (f.name, v) for f in fields(self) if f.name in ADDED and (v := getattr(self, f.name)) != f.default
        ]
        return f"Mixing({', '.join(f'{name}={value!r}' for name, value in named)})"

    def __post_init__(self) -> None:
        # Lists from YAML become tuples, so that the recipe can be hashed.
        for name in LISTS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.slots is not None:
            object.__setattr__(self, "n_sources", (len(self.slots),))
        if self.active is not None and not (
            self.slots and self.active and 1 <= min(self.active) <= max(self.active) <= len(self.slots)
        ):
            raise SepnetError(
                f"active is {list(self.active)}, but there are {len(self.slots or ())} slots: give numbers "
                "from 1 to theirs"
            )
        if not self.n_sources or min(self.n_sources) < 1:
            raise SepnetError(
                f"n_sources is {list(self.n_sources)}: give one number or more, each at least 1"
            )
        for name in ("loudness_lufs", "overlap", "noise_snr_db"):
            ends = getattr(self, name)
            if len(ends) != 2 or not ends[0] <= ends[1]:
                raise SepnetError(f"{name} is {list(ends)}: give two numbers, in order")
        if not 0.0 <= self.overlap[0] <= self.overlap[1] <= 1.0:
            raise SepnetError(f"overlap is {list(self.overlap)}: give two ratios between 0 and 1")
        if self.seconds <= 0 or self.peak <= 0 or min(self.speeds, default=0.0) <= 0:
            raise SepnetError(
                f"seconds={self.seconds}, peak={self.peak} and speeds={list(self.speeds)} have to be positive"
            )
        for value, known in ((self.mode, get_args(Mode)), (self.short, get_args(Short))):
            if value not in known:
                raise SepnetError(f"{value!r} is none of {', '.join(known)}")
        self._check_queries()

    def _check_queries(self) -> None:
        check_equaliser(self.equaliser_db)
        for name, ends in (("query_seconds", self.query_seconds), ("target_share", self.target_share)):
            if ends is not None and (len(ends) != 2 or not 0 < ends[0] <= ends[1]):
                raise SepnetError(f"{name} is {list(ends)}: give two numbers above 0, in order")
        if self.target_share[1] > 1 or not (0 <= self.whole <= 1 and 0 <= self.absent <= 1):
            raise SepnetError(
                f"target_share={list(self.target_share)}, whole={self.whole} and absent={self.absent} are "
                "shares: give none above 1, or below 0"
            )
        if self.looped and self.mode != "crop":
            raise SepnetError(f"looped sources have any length, so mode={self.mode} says nothing: take crop")
        if (self.absent or tuple(self.target_share) != (1.0, 1.0)) and not self.looped:
            raise SepnetError("target_share and absent are for looped sources: set looped=true")
        if self.absent and self.query_seconds is None:
            raise SepnetError("a target that is absent is one that a query asks for: set query_seconds")

    @property
    def at_once(self) -> Sequence[int]:
        """The numbers of sources that may sound in a mixture."""
        return self.n_sources if self.active is None else self.active

    def longest_crop(self, sample_rate: int) -> int:
        """Samples of an utterance that the longest crop takes, at the highest speed; equation (2)."""
        time = round(self.seconds * sample_rate)
        segment = math.ceil(time / (1 + (min(self.at_once) - 1) * (1 - self.overlap[1])))
        return math.ceil(segment * max(self.speeds))


class Mixer:
    """Draws mixtures from a cache by a recipe.

    Raises SepnetError where the corpus can't serve it: too few speakers, a slot without utterances,
    utterances shorter than a crop, nothing but silence.
    """

    def __init__(self, cache: Cache, mixing: Mixing, noise: Cache | None = None) -> None:
        self.cache, self.mixing, self.noise = cache, mixing, noise
        if noise is not None and noise.sample_rate != cache.sample_rate:
            raise SepnetError(
                f"the noise is at {noise.sample_rate} Hz and the sources at {cache.sample_rate} Hz: "
                "they have to agree"
            )
        names = {name: i for i, name in enumerate(sorted({u.speaker for u in cache.utterances}))}
        self._speakers = np.array([names[u.speaker] for u in cache.utterances])
        self._slots = self._eligible()
        self._stretches: dict[int, list[Stretch]] = {}
        usable = np.unique(np.concatenate(self._slots)).tolist()
        self._queries = (
            TrainingQueries(cache, usable, mixing.query_seconds, absent=mixing.absent > 0)
            if mixing.query_seconds is not None
            else None
        )

    def _eligible(self) -> list[np.ndarray]:
        """For each source the utterances that it may be, checked to suffice."""
        cache, mixing = self.cache, self.mixing
        usable = np.isfinite(cache.loudness_lufs)
        if mixing.mode == "crop" and not mixing.looped:
            need = mixing.longest_crop(cache.sample_rate)
            short = cache.lengths < need
            if mixing.short == "refuse" and short.any():
                raise SepnetError(
                    f"{int(short.sum())} of {len(cache)} utterances are shorter than "
                    f"{need / cache.sample_rate:.2f} s, the longest crop at the highest speed (the shortest "
                    f"has {cache.lengths.min() / cache.sample_rate:.2f} s): set data.mixing.short=pad or "
                    "skip, or a smaller data.mixing.seconds"
                )
            if mixing.short == "skip":
                usable &= ~short
        labels = np.array([u.label for u in cache.utterances])
        pools = [usable & (labels == slot) for slot in mixing.slots] if mixing.slots else [usable]
        for slot, pool in zip(mixing.slots or (), pools, strict=False):
            if not pool.any():
                raise SepnetError(
                    f"{cache.folder} has no usable utterance of {slot!r}, but of "
                    f"{', '.join(map(repr, sorted(set(labels.tolist()))))}: name these in slots"
                )
        speakers = len(np.unique(self._speakers[np.any(pools, axis=0)]))
        if speakers < max(mixing.at_once):
            raise SepnetError(
                f"{cache.folder} has {speakers} speakers with usable utterances, but mixtures of "
                f"{max(mixing.at_once)} need as many: add speakers, or lower n_sources"
            )
        return [np.flatnonzero(pool) for pool in pools]

    def __call__(self, rng: np.random.Generator) -> Example:
        """Draw one mixture. A pure function of the generator's state."""
        mixing, cache = self.mixing, self.cache
        places, n_outputs = self._places(rng)
        n = len(places)
        overlap = _within(rng, mixing.overlap)
        chosen = self._choose(rng, places)
        speeds = [_pick(rng, mixing.speeds) for _ in chosen]
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
        sources = np.zeros((n_outputs, time), dtype=np.float32)
        for k, (utterance, speed, start) in enumerate(zip(chosen, speeds, starts, strict=True)):
            n_samples = min(lengths[k], time - start)
            if mixing.looped:
                segment = self._loop(rng, utterance, speed, n_samples, target=k == 0)
            else:
                segment = self._segment(rng, utterance, speed, n_samples)
            if mixing.equaliser_db is not None:
                segment = equalised(rng, segment, mixing.equaliser_db, cache.sample_rate)
            level = _within(rng, mixing.loudness_lufs) - cache.loudness_lufs[utterance]
            np.multiply(segment, 10 ** (level / 20), out=sources[places[k], start : start + len(segment)])
        name = "_".join(cache.utterances[u].path for u in chosen)
        if self._queries is None:
            return self._mix(rng, sources, name)
        absent = bool(rng.uniform() < mixing.absent)
        query, label = self._queries.draw(rng, chosen, absent=absent)
        if absent:
            sources[0] = 0.0
        return replace(self._mix(rng, sources, name), query=query, label=label)

    def _places(self, rng: np.random.Generator) -> tuple[list[int], int]:
        """Which of the sources sound, in order, and how many there are."""
        if self.mixing.active is None:
            n = _pick(rng, self.mixing.n_sources)
            return list(range(n)), n
        n_slots = len(self._slots)
        places = rng.choice(n_slots, size=_pick(rng, self.mixing.active), replace=False)
        return sorted(places.tolist()), n_slots

    def _choose(self, rng: np.random.Generator, places: Sequence[int]) -> list[int]:
        """Utterances of different speakers, each uniform over what its place allows.

        With queries also of different classes, or a query could mean two sources.
        """
        chosen: list[int] = []
        speakers: set[int] = set()
        labels: set[str] = set()
        utterances = self.cache.utterances
        for place in places:
            pool = self._slots[place % len(self._slots)]
            for _ in range(DRAWS):
                utterance = int(pool[rng.integers(len(pool))])
                same_class = self._queries is not None and utterances[utterance].label in labels
                if self._speakers[utterance] not in speakers and not same_class:
                    break
            else:
                raise SepnetError(
                    f"no {len(chosen) + 1} different speakers in {DRAWS} draws from {self.cache.folder}: "
                    "nearly all usable utterances are of the same few; balance the corpus"
                )
            chosen.append(utterance)
            speakers.add(int(self._speakers[utterance]))
            labels.add(utterances[utterance].label)
        return chosen

    def _loop(
        self, rng: np.random.Generator, utterance: int, speed: float, n_samples: int, *, target: bool
    ) -> np.ndarray:
        """What sounds in an utterance, again and again; of the target perhaps only in bursts."""
        mixing, rate = self.mixing, self.cache.sample_rate
        raw = self.cache.read(utterance)
        if utterance not in self._stretches:
            self._stretches[utterance] = active_stretches(raw, rate)
        stretches, bursts = self._stretches[utterance], [(0, n_samples)]
        if target and tuple(mixing.target_share) != (1.0, 1.0) and rng.uniform() >= mixing.whole:
            drawn = draw_bursts(rng, n_samples / rate, _within(rng, mixing.target_share))
            bursts = [(round(a * rate), round(b * rate)) for a, b in drawn]
        signal = np.zeros(n_samples, dtype=np.float32)
        for begin, end in bursts:
            wanted = end - begin
            sound = drawn_loop(rng, raw, stretches, math.ceil(wanted * speed), rate)
            sound = _faster(sound, speed)[:wanted]
            signal[begin : begin + len(sound)] = sound
        return signal

    def _segment(self, rng: np.random.Generator, utterance: int, speed: float, n_samples: int) -> np.ndarray:
        """``n_samples`` of an utterance from a drawn start; a short one lies in silence at a drawn place."""
        available = int(self.cache.lengths[utterance])
        wanted = n_samples if speed == 1.0 else math.ceil(n_samples * speed)
        start = int(rng.integers(max(available - wanted, 0) + 1))
        raw = self.cache.read(utterance, start, min(wanted, available))
        segment = _faster(raw, speed)[:n_samples]
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
        """Noise for each channel (channel, time), at a drawn level under channel 0 of ``clean``.

        Each channel has a clip of its own, and all have the same power; short noise repeats.
        """
        assert self.noise is not None
        snr_db = _within(rng, self.mixing.noise_snr_db)
        rms = math.sqrt(float(np.square(clean[0]).mean())) * 10 ** (-snr_db / 20)
        channels = []
        for _ in clean:
            pick = int(rng.integers(len(self.noise)))
            n_samples = min(clean.shape[-1], int(self.noise.lengths[pick]))
            start = int(rng.integers(int(self.noise.lengths[pick]) - n_samples + 1))
            noise = np.resize(self.noise.read(pick, start, n_samples), clean.shape[-1])
            own = math.sqrt(float(np.square(noise).mean()))
            channels.append(noise * np.float32(rms / own if own > 0 else 0.0))
        return np.stack(channels)


def _pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def _within(rng: np.random.Generator, interval: Interval) -> float:
    low, high = interval
    return rng.uniform(low, high)


def _faster(signal: np.ndarray, speed: float) -> np.ndarray:
    """The signal played ``speed`` times faster, and higher with it."""
    if speed == 1.0:
        return signal
    ratio = Fraction(speed).limit_denominator(1000)
    return np.asarray(resample_poly(signal, ratio.denominator, ratio.numerator), dtype=np.float32)
