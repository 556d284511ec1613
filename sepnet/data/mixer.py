"""LibriMix-style training mixtures from a cache of utterances, drawn on the fly.

A mixture is a pure function of the random generator that it is drawn with. The order of events for
each source: an utterance, a speed, a crop, a filter, a loudness, a place in the mixture, a room. Then come
the noise, and the band that all is heard in.

Overlap. n segments of d samples start h = (1 - r) d apart, so that neighbours share the fraction r:

    T = d + (n - 1) (1 - r) d          (1)    length of the mixture
    d = T / (1 + (n - 1) (1 - r))      (2)    length of a segment, for a given T

``crop`` fixes T and draws the crops; ``min`` cuts all segments to the shortest; ``max`` keeps each
whole and pads.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

import numpy as np
import scipy

from sepnet.data.activity import Stretch, active_stretches, draw_bursts
from sepnet.data.augment import draw_loop, equalise, narrow
from sepnet.data.cache import Cache
from sepnet.data.manifest import speaker_noun
from sepnet.data.mixing import Interval, Mixing
from sepnet.data.noises import NoiseMaker
from sepnet.data.queries import TrainingQueries
from sepnet.data.responses import mix_in_room
from sepnet.types import SepnetError

Item = TypeVar("Item")
MAX_DRAWS = 1000  # tries at drawing another speaker before the corpus counts as too unbalanced


@dataclass(frozen=True)
class Example:
    """One training mixture.

    Attributes:
        mixture: (channel, time), float32.
        sources: (source, time), float32: the images at channel 0, or their early parts.
        id: The paths of the utterances, joined.
        query: (time,), float32: an example of the first source, or of a class that is not in the mixture.
        label: The class of the query.
    """

    mixture: np.ndarray
    sources: np.ndarray
    id: str
    query: np.ndarray | None = None
    label: str | None = None


class _Pool:
    """The utterances that a source may be.

    Args:
        utterances: Their numbers.
        weights: (utterance,), whole numbers for the whole corpus: each is drawn in proportion to its weight.
            None: all are drawn equally often.
    """

    def __init__(self, utterances: np.ndarray, weights: np.ndarray | None) -> None:
        self.utterances = utterances
        self._ends = None if weights is None else np.cumsum(weights[utterances])

    def __len__(self) -> int:
        return len(self.utterances)

    def draw(self, rng: np.random.Generator) -> int:
        """Draw the number of an utterance."""
        if self._ends is None:
            return int(self.utterances[rng.integers(len(self))])
        sample = rng.integers(self._ends[-1])
        return int(self.utterances[np.searchsorted(self._ends, sample, side="right")])


class Mixer:
    """Draws mixtures from a cache by a recipe.

    Args:
        cache: The utterances.
        mixing: The recipe.
        noise: Recordings of noise to add; None: no noise but that of the recipe's other kinds.

    Raises:
        SepnetError: The corpus does not suffice: too few speakers, a slot without utterances, utterances
            shorter than a crop, nothing but silence; or the noise is at another rate, or missing.
    """

    def __init__(self, cache: Cache, mixing: Mixing, noise: Cache | None = None) -> None:
        self.cache, self.mixing = cache, mixing
        if noise is not None and noise.sample_rate != cache.sample_rate:
            raise SepnetError(
                f"the noise is at {noise.sample_rate} Hz and the sources at {cache.sample_rate} Hz: "
                "they have to agree"
            )
        numbers = {name: i for i, name in enumerate(sorted({u.speaker for u in cache.utterances}))}
        self._speakers = np.array([numbers[u.speaker] for u in cache.utterances])
        self._pools = self._eligible_utterances()
        self._stretches: dict[int, list[Stretch]] = {}
        usable = np.unique(np.concatenate([pool.utterances for pool in self._pools]))
        self._noise: NoiseMaker | None = None
        if noise is not None or mixing.noise_kinds != ("recorded",):
            self._noise = NoiseMaker(
                mixing.noise_kinds, recordings=noise, voices=cache, speakers=self._speakers, usable=usable
            )
        self._queries = (
            TrainingQueries(cache, usable.tolist(), mixing.query_seconds, absent=mixing.p_absent > 0)
            if mixing.query_seconds is not None
            else None
        )

    def _eligible_utterances(self) -> list[_Pool]:
        """For each slot (without slots: once for all sources) the utterances that it may be."""
        cache, mixing = self.cache, self.mixing
        usable = self._usable_utterances()
        labels = np.array([u.label for u in cache.utterances])
        pools = [usable & (labels == slot) for slot in mixing.slots] if mixing.slots else [usable]
        for slot, pool in zip(mixing.slots or (), pools, strict=False):
            if not pool.any():
                raise SepnetError(
                    f"{cache.folder} has no usable utterance of {slot!r}, but of "
                    f"{', '.join(map(repr, sorted(set(labels.tolist()))))}: name these in slots"
                )
        n_speakers = len(np.unique(self._speakers[np.any(pools, axis=0)]))
        if n_speakers < max(mixing.n_simultaneous):
            noun = speaker_noun(cache.utterances)
            raise SepnetError(
                f"{cache.folder} has {n_speakers} {noun} with usable utterances, but mixtures of "
                f"{max(mixing.n_simultaneous)} need as many: add {noun}, or lower n_sources"
            )
        weights = self._weights() if mixing.drawn_by == "duration" else None
        return [_Pool(np.flatnonzero(pool), weights) for pool in pools]

    def _weights(self) -> np.ndarray:
        """For each utterance its length, or that of a crop, which may hold all of a shorter utterance."""
        if self.mixing.mode != "crop" or self.mixing.looped:
            return self.cache.lengths
        weights: np.ndarray = np.maximum(
            self.cache.lengths, round(self.mixing.seconds * self.cache.sample_rate)
        )
        return weights

    def _usable_utterances(self) -> np.ndarray:
        """For each utterance whether it is loud and long enough."""
        cache, mixing = self.cache, self.mixing
        usable: np.ndarray = np.isfinite(cache.loudness_lufs)
        if mixing.mode == "crop" and not mixing.looped:
            min_samples = mixing.longest_crop(cache.sample_rate)
            is_short = cache.lengths < min_samples
            if mixing.short_policy == "refuse" and is_short.any():
                raise SepnetError(
                    f"{int(is_short.sum())} of {len(cache)} utterances are shorter than "
                    f"{min_samples / cache.sample_rate:.2f} s, the longest crop at the highest speed (the "
                    f"shortest has {cache.lengths.min() / cache.sample_rate:.2f} s): set "
                    "data.mixing.short_policy=pad or skip, or a smaller data.mixing.seconds"
                )
            if mixing.short_policy == "skip":
                usable &= ~is_short
        return usable

    def __call__(self, rng: np.random.Generator) -> Example:
        """Draw one mixture, a pure function of the generator's state."""
        mixing, cache = self.mixing, self.cache
        places, n_outputs = self._draw_places(rng)
        overlap = _draw_within(rng, mixing.overlap)
        chosen = self._draw_utterances(rng, places)
        speeds = [_draw_item(rng, mixing.speeds) for _ in chosen]
        starts, lengths, n_samples = self._arrange(chosen, speeds, overlap)
        sources = np.zeros((n_outputs, n_samples), dtype=np.float32)
        for k, (utterance, speed, start) in enumerate(zip(chosen, speeds, starts, strict=True)):
            length = min(lengths[k], n_samples - start)
            if mixing.looped:
                segment = self._draw_looped(rng, utterance, speed, length, is_target=k == 0)
            else:
                segment = self._draw_crop(rng, utterance, speed, length)
            if mixing.equaliser_db is not None:
                segment = equalise(rng, segment, mixing.equaliser_db, cache.sample_rate)
            gain_db = _draw_within(rng, mixing.loudness_lufs) - cache.loudness_lufs[utterance]
            stop = start + len(segment)
            np.multiply(segment, 10 ** (gain_db / 20), out=sources[places[k], start:stop])
        name = "_".join(cache.utterances[u].path for u in chosen)
        speakers = set(self._speakers[chosen].tolist())
        if self._queries is None:
            return self._mix(rng, sources, name, speakers)
        is_absent = bool(rng.uniform() < mixing.p_absent)
        query, label = self._queries.draw(rng, chosen, absent=is_absent)
        if is_absent:
            sources[0] = 0.0
        return replace(self._mix(rng, sources, name, speakers), query=query, label=label)

    def _draw_places(self, rng: np.random.Generator) -> tuple[list[int], int]:
        """The slots that sound, in order, and the number of outputs."""
        if self.mixing.n_active is None:
            n_sources = _draw_item(rng, self.mixing.n_sources)
            return list(range(n_sources)), n_sources
        n_slots = len(self._pools)
        places = rng.choice(n_slots, size=_draw_item(rng, self.mixing.n_active), replace=False)
        return sorted(places.tolist()), n_slots

    def _draw_utterances(self, rng: np.random.Generator, places: Sequence[int]) -> list[int]:
        """Utterances of different speakers, each from the pool of its place.

        With queries also of different classes: otherwise a query would describe two sources.
        """
        chosen: list[int] = []
        speakers: set[int] = set()
        labels: set[str] = set()
        utterances = self.cache.utterances
        for place in places:
            pool = self._pools[place % len(self._pools)]
            for _ in range(MAX_DRAWS):
                utterance = pool.draw(rng)
                is_same_class = self._queries is not None and utterances[utterance].label in labels
                if self._speakers[utterance] not in speakers and not is_same_class:
                    break
            else:
                raise SepnetError(
                    f"no {len(chosen) + 1} different {speaker_noun(utterances)} in {MAX_DRAWS} draws from "
                    f"{self.cache.folder}: nearly all usable utterances are of a few; balance the corpus"
                )
            chosen.append(utterance)
            speakers.add(int(self._speakers[utterance]))
            labels.add(utterances[utterance].label)
        return chosen

    def _arrange(
        self, chosen: Sequence[int], speeds: Sequence[float], overlap: float
    ) -> tuple[list[int], list[int], int]:
        """The first sample and the length of each segment, and the length of the mixture."""
        mixing, cache, n_sources = self.mixing, self.cache, len(chosen)
        lengths = [int(cache.lengths[u] / speed) for u, speed in zip(chosen, speeds, strict=True)]
        if mixing.mode == "crop":
            n_samples = round(mixing.seconds * cache.sample_rate)
            lengths = [math.ceil(n_samples / (1 + (n_sources - 1) * (1 - overlap)))] * n_sources  # (2)
        elif mixing.mode == "min":
            lengths = [min(lengths)] * n_sources
        hop = (1 - overlap) * min(lengths)
        starts = [int(k * hop) for k in range(n_sources)]
        if mixing.mode != "crop":
            n_samples = max(start + length for start, length in zip(starts, lengths, strict=True))  # (1)
        return starts, lengths, n_samples

    def _draw_looped(
        self, rng: np.random.Generator, utterance: int, speed: float, n_samples: int, *, is_target: bool
    ) -> np.ndarray:
        """The active stretches of an utterance, repeated; of the target perhaps only in bursts."""
        mixing, rate = self.mixing, self.cache.sample_rate
        samples = self.cache.read(utterance)
        if utterance not in self._stretches:
            self._stretches[utterance] = active_stretches(samples, rate)
        stretches, bursts = self._stretches[utterance], [(0, n_samples)]
        in_bursts = is_target and tuple(mixing.target_share) != (1.0, 1.0)
        if in_bursts and rng.uniform() >= mixing.p_always_active:
            drawn = draw_bursts(rng, n_samples / rate, _draw_within(rng, mixing.target_share))
            bursts = [(round(a * rate), round(b * rate)) for a, b in drawn]
        signal = np.zeros(n_samples, dtype=np.float32)
        for begin, end in bursts:
            sound = draw_loop(rng, samples, stretches, math.ceil((end - begin) * speed), rate)
            sound = _change_speed(sound, speed)[: end - begin]
            signal[begin : begin + len(sound)] = sound
        return signal

    def _draw_crop(
        self, rng: np.random.Generator, utterance: int, speed: float, n_samples: int
    ) -> np.ndarray:
        """``n_samples`` of an utterance from a drawn start; a short one is padded, at a drawn place."""
        available = int(self.cache.lengths[utterance])
        required = n_samples if speed == 1.0 else math.ceil(n_samples * speed)
        start = int(rng.integers(max(available - required, 0) + 1))
        samples = self.cache.read(utterance, start, min(required, available))
        segment = _change_speed(samples, speed)[:n_samples]
        if len(segment) == n_samples:
            return segment
        padded = np.zeros(n_samples, dtype=np.float32)
        place = int(rng.integers(n_samples - len(segment) + 1))
        padded[place : place + len(segment)] = segment
        return padded

    def _mix(
        self, rng: np.random.Generator, sources: np.ndarray, name: str, speakers: Collection[int]
    ) -> Example:
        """Apply rooms, add noise, sum, and scale everything down if the peak is too high."""
        mixing = self.mixing
        mixture = sources.sum(axis=0, keepdims=True)  # (1, time)
        if mixing.responses is not None:
            mixture, sources = self._place_in_room(rng, sources)
        if self._noise is not None and _happens(rng, mixing.p_noise):
            mixture = mixture + self._draw_noise(self._noise, rng, mixture, speakers)
        if mixing.p_narrow and _happens(rng, mixing.p_narrow):
            n_channels, heard = len(mixture), np.concatenate([mixture, sources])
            heard = narrow(rng, heard, self.cache.sample_rate)
            mixture, sources = heard[:n_channels], heard[n_channels:]
        peak = max(np.abs(mixture).max(), np.abs(sources).max())
        if peak > mixing.max_peak:
            mixture, sources = mixture * (mixing.max_peak / peak), sources * (mixing.max_peak / peak)
        return Example(mixture, sources, name)

    def _place_in_room(self, rng: np.random.Generator, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mixture (channel, time), and the images of the sources at channel 0 (source, time)."""
        mixing, rate = self.mixing, self.cache.sample_rate
        assert mixing.responses is not None
        responses = mixing.responses.draw_responses(rng, len(sources), rate)  # (source, channel, tap)
        if not _happens(rng, mixing.p_responses):
            responses = np.ones((*responses.shape[:2], 1), dtype=responses.dtype)
        return mix_in_room(sources, responses, early_seconds=mixing.early_seconds, sample_rate=rate)

    def _draw_noise(
        self,
        maker: NoiseMaker,
        rng: np.random.Generator,
        clean: np.ndarray,
        speakers: Collection[int],
    ) -> np.ndarray:
        """Noise for each channel (channel, time), at a drawn level under channel 0 of ``clean``.

        Each channel has a noise of its own, and all have the same power.
        """
        snr_db = _draw_within(rng, self.mixing.noise_snr_db)
        rms = math.sqrt(float(np.square(clean[0]).mean())) * 10 ** (-snr_db / 20)
        channels = []
        for _ in clean:
            noise = maker(rng, clean.shape[-1], in_mixture=speakers)
            own_rms = math.sqrt(float(np.square(noise).mean()))
            channels.append(noise * np.float32(rms / own_rms if own_rms > 0 else 0.0))
        return np.stack(channels)


def _happens(rng: np.random.Generator, probability: float) -> bool:
    """Whether something of this probability happens; what is certain takes no draw."""
    return probability >= 1.0 or bool(rng.uniform() < probability)


def _draw_item(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def _draw_within(rng: np.random.Generator, interval: Interval) -> float:
    low, high = interval
    return rng.uniform(low, high)


def _change_speed(signal: np.ndarray, speed: float) -> np.ndarray:
    """The signal played ``speed`` times faster, and so much higher."""
    if speed == 1.0:
        return signal
    ratio = Fraction(speed).limit_denominator(1000)
    return np.asarray(
        scipy.signal.resample_poly(signal, ratio.denominator, ratio.numerator), dtype=np.float32
    )
