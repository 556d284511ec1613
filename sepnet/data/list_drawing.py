"""Draw a list of mixtures from a corpus, as LibriMix draws its own."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
from annotated_types import Len
from jaxtyping import Float

from sepnet.data.list_files import read_mono
from sepnet.data.manifest import Manifest, Utterance
from sepnet.data.mixture_list import FileGain, FixedMixture
from sepnet.dsp.loudness import integrated_loudness
from sepnet.dsp.resample import resample
from sepnet.ranges import NonNegativeFloat, NumberOfSources, PositiveInt, Seed
from sepnet.types import SepnetError

LOUDNESS_LUFS = (-33.0, -25.0)  # each source's, uniform
EQUAL_POWER_DB = -26.0  # each source's, re full scale, where all have the same
MAX_PEAK = 0.9


@dataclass(frozen=True, kw_only=True)
class ListRecipe:
    """What a list is drawn by.

    Args:
        n_mixtures: Number of mixtures.
        n_sources: Sources in each mixture; or several numbers, for as many mixtures of each.
        seed: Another seed gives another list.
        min_seconds: Leave out utterances that are shorter.
        labels: The classes to draw from; the sources of a mixture are then of different classes. None: no
            classes, the sources of a mixture are of different speakers.
        equal_power: Give all sources the same power, instead of a loudness uniform in -33 to -25 LUFS.
    """

    n_mixtures: PositiveInt
    n_sources: NumberOfSources | Annotated[Sequence[NumberOfSources], Len(1)] = 2
    seed: Seed = 0
    min_seconds: NonNegativeFloat = 0.0
    labels: Sequence[str] | None = None
    equal_power: bool = False

    @property
    def source_counts(self) -> tuple[int, ...]:
        """The numbers of sources, sorted."""
        return (self.n_sources,) if isinstance(self.n_sources, int) else tuple(sorted({*self.n_sources}))


def draw_list(manifest: Manifest, recipe: ListRecipe) -> list[FixedMixture]:
    """Draw a list as LibriMix does: different speakers, each utterance about as often as any other.

    Where the sum of the whole utterances has a peak over 0.9, all gains of the mixture are lowered
    together. The draw depends on the manifest's rows and on the recipe alone.

    Args:
        manifest: The utterances to draw from.
        recipe: What to draw.

    Returns:
        The mixtures; those of different numbers of sources take turns, so that the beginning of the list
        has all numbers, too.

    Raises:
        SepnetError: There are fewer speakers or classes than sources, a class is not there, or an utterance
            is too quiet to have a loudness.
    """
    counts = recipe.source_counts
    lists = []
    for place, n_sources in enumerate(counts):
        n_mixtures = len(range(place, recipe.n_mixtures, len(counts)))
        rng = np.random.default_rng((recipe.seed, n_sources) if len(counts) > 1 else recipe.seed)
        lists.append(_draw_mixtures(manifest, recipe, n_mixtures, n_sources, rng))
    return [mixture for turn in zip_longest(*lists) for mixture in turn if mixture is not None]


def _draw_mixtures(
    manifest: Manifest, recipe: ListRecipe, n_mixtures: int, n_sources: int, rng: np.random.Generator
) -> list[FixedMixture]:
    if n_mixtures < 1 or n_sources < 1:
        raise SepnetError(f"{n_mixtures} mixtures of {n_sources} sources: both have to be 1 or more")
    check_labels(manifest, recipe.labels)
    labels = recipe.labels
    eligible = [
        u for u in manifest if u.seconds >= recipe.min_seconds and (labels is None or u.label in labels)
    ]
    utterances = sorted(eligible, key=lambda u: u.path)
    groups = {u.path: u.speaker if labels is None else u.label for u in utterances}
    n_groups = len({*groups.values()})
    if n_groups < n_sources:
        raise SepnetError(
            f"{n_sources} {'speakers' if labels is None else 'classes'} are needed for a mixture, but "
            f"{manifest.described} has {n_groups} ({len(utterances)} files of {recipe.min_seconds} s or more "
            f"of {len(manifest)}): index more or lower n_sources"
        )
    namer = UniqueNames()
    loudness: dict[str, float] = {}
    mixtures = []
    for chosen in draw_groups(utterances, groups, n_mixtures, n_sources, rng):
        paths = [manifest.path(u) for u in chosen]
        gains = _draw_gains(paths, loudness, None if recipe.equal_power else rng)
        name = namer("_".join(PurePosixPath(u.path).stem for u in chosen))
        sources = tuple(FileGain(u.path, gain) for u, gain in zip(chosen, gains, strict=True))
        mixtures.append(FixedMixture(name, sources))
    return mixtures


def check_labels(manifest: Manifest, labels: Sequence[str] | None) -> None:
    """Raise SepnetError if a corpus lacks one of these classes."""
    if missing := sorted({*(labels or ())} - {*manifest.labels}):
        raise SepnetError(
            f"{manifest.described} has nothing of the class {', '.join(missing)}; it has "
            f"{', '.join(manifest.labels) or 'none'}"
        )


class UniqueNames:
    """Numbers names that occur again: a, b, a-2."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __call__(self, name: str) -> str:
        """Return the name, numbered from its second time on."""
        self._counts[name] += 1
        return name if self._counts[name] == 1 else f"{name}-{self._counts[name]}"


def draw_groups(
    utterances: Sequence[Utterance],
    groups: Mapping[str, str],
    n_mixtures: int,
    n_sources: int,
    rng: np.random.Generator,
) -> Iterator[list[Utterance]]:
    """Draw sets of utterances of different groups: always those used the least, in random order.

    Args:
        utterances: What to draw from.
        groups: The group of each path: its speaker or class.
        n_mixtures: Number of sets.
        n_sources: Utterances in a set.
        rng: The generator.

    Yields:
        The utterances of a set.
    """
    deck = [(0, float(rng.random()), number) for number in range(len(utterances))]
    heapq.heapify(deck)
    for _ in range(n_mixtures):
        drawn: dict[str, tuple[int, float, int]] = {}
        put_back = []
        while len(drawn) < n_sources:
            card = heapq.heappop(deck)
            group = groups[utterances[card[2]].path]
            if group in drawn:
                put_back.append(card)
            else:
                drawn[group] = card
        yield [utterances[number] for _, _, number in drawn.values()]
        for card in put_back:
            heapq.heappush(deck, card)
        for n_uses, _, number in drawn.values():
            heapq.heappush(deck, (n_uses + 1, float(rng.random()), number))


def _draw_gains(
    paths: Sequence[Path], levels: dict[str, float], rng: np.random.Generator | None
) -> list[float]:
    """A gain for each file, drawn, or without ``rng`` to the same power.

    ``levels`` keeps the loudness of files, in LUFS (or 20 log10 of the RMS): each is drawn several times.
    """
    sounds = [read_mono(path) for path in paths]
    gains = []
    for path, (samples, rate) in zip(map(str, paths), sounds, strict=True):
        if path not in levels:
            levels[path] = integrated_loudness(samples, rate) if rng else _rms_db(samples)
        if not math.isfinite(levels[path]):
            raise SepnetError(f"{path} is too quiet to have a loudness: leave it out of the corpus (exclude)")
        level = rng.uniform(*LOUDNESS_LUFS) if rng else EQUAL_POWER_DB
        gains.append(10 ** ((level - levels[path]) / 20))
    min_rate = min(rate for _, rate in sounds)
    scaled = [resample(x, rate, min_rate) * gain for (x, rate), gain in zip(sounds, gains, strict=True)]
    peak = float(np.abs(np.sum(fit_lengths(scaled, "max"), axis=0)).max())
    return [round_gain(gain * min(1.0, MAX_PEAK / peak)) for gain in gains]


def round_gain(gain: float) -> float:
    """Round a gain to six digits, so that a list is the same on every machine."""
    return float(f"{gain:.6g}")


def _rms_db(samples: Float[np.ndarray, " time"]) -> float:
    power = float(np.square(samples, dtype=np.float64).mean())
    return 10 * math.log10(power) if power > 0 else -math.inf


def fit_lengths(signals: Sequence[np.ndarray], mode: str) -> list[np.ndarray]:
    """Cut all signals to the shortest ("min") or pad them with zeros to the longest ("max")."""
    lengths = [len(signal) for signal in signals]
    if mode == "min":
        return [signal[: min(lengths)] for signal in signals]
    return [np.pad(signal, (0, max(lengths) - len(signal))) for signal in signals]
