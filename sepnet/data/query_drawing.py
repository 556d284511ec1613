"""Draw a list of mixtures with a query: see sepnet.data.query_list.

Target and interference are recordings of different classes. Each consists of the active stretches (see
sepnet.data.activity) of its clip, then of other clips of the same recording, one after the other and again
from the first: the target in bursts that last ``target_share`` of the mixture, the interference throughout.
The level of a mixture is the power of the target over that of the interference, both where the target is
active.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np

from sepnet.data.activity import (
    FADE_SECONDS,
    Cut,
    Stretch,
    active_stretches,
    draw_bursts,
    loop_stretches,
    spans,
)
from sepnet.data.list_drawing import (
    EQUAL_POWER_DB,
    MAX_PEAK,
    UniqueNames,
    check_labels,
    draw_groups,
    round_gain,
)
from sepnet.data.manifest import Manifest, Utterance
from sepnet.data.queries import check_recordings, loudest_start
from sepnet.data.query_list import QueryMixture, Reader, render
from sepnet.data.table import join_names
from sepnet.ranges import PositiveInt, Seconds, Seed
from sepnet.types import SepnetError

MIN_QUERY_SECONDS = 0.1
MIN_CLASSES = 3  # a target, an interference, and a query of neither


@dataclass(frozen=True, kw_only=True)
class QueryRecipe:
    """What a list of mixtures with a query is drawn by.

    Args:
        n_mixtures: Number of mixtures.
        seconds: Length of each.
        target_share: Interval of the share of it in which the target is active.
        levels_db: Levels of the target over the interference, in turn, so that the beginning of the list has
            all of them.
        query_seconds: Interval of the length of an example, which is the loudest part of a clip.
        labels: The classes to draw from; None: all.
        seed: Another seed gives another list.

    Raises:
        SepnetError: A value is out of its range, or an interval is not two numbers in order.
    """

    n_mixtures: PositiveInt
    seconds: Seconds
    target_share: Sequence[float] = (1.0, 1.0)
    levels_db: Sequence[float] = (0.0,)
    query_seconds: Sequence[float] = (1.0, 3.0)
    labels: Sequence[str] | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        for name in ("target_share", "query_seconds"):
            if len(getattr(self, name)) != 2:
                raise SepnetError(f"{name} is {list(getattr(self, name))}: give two numbers, in order")
        if self.n_mixtures < 1 or self.seconds <= 0 or not self.levels_db:
            raise SepnetError(
                f"{self.n_mixtures} mixtures of {self.seconds} s at levels_db={list(self.levels_db)}: give "
                "one or more of each, of a positive length"
            )
        if not 0 < self.target_share[0] <= self.target_share[1] <= 1:
            raise SepnetError(
                f"target_share is {list(self.target_share)}: give two shares above 0 and up to 1, in order"
            )
        if not MIN_QUERY_SECONDS <= self.query_seconds[0] <= self.query_seconds[1]:
            raise SepnetError(
                f"query_seconds is {list(self.query_seconds)}: give two lengths in order, each at least "
                f"{MIN_QUERY_SECONDS} s"
            )


def draw_query_list(
    manifest: Manifest, read: Reader, sample_rate: int, recipe: QueryRecipe
) -> list[QueryMixture]:
    """Draw a list; each clip is a target or an interference about as often as any other.

    The draw depends on the files and the recipe alone.

    Args:
        manifest: The clips to draw from.
        read: Reads a file of the manifest at ``sample_rate``.
        sample_rate: In Hz.
        recipe: What to draw.

    Raises:
        SepnetError: There are fewer than three classes, or a class has only one recording and so no query.
    """
    pool = _Pool(manifest, read, sample_rate, recipe.labels)
    rng = np.random.default_rng(recipe.seed)
    labels = {u.path: u.label for u in pool.utterances}
    namer = UniqueNames()
    drawn = []
    for number, (target, other) in enumerate(draw_groups(pool.utterances, labels, recipe.n_mixtures, 2, rng)):
        level_db = float(recipe.levels_db[number % len(recipe.levels_db)])
        name = namer(f"{PurePosixPath(target.path).stem}_{PurePosixPath(other.path).stem}_{level_db:+g}dB")
        drawn.append(_draw_mixture(pool, rng, recipe, (target, other), level_db, name))
    return drawn


class _Pool:
    """The clips to draw from, by class and by recording."""

    def __init__(
        self, manifest: Manifest, read: Reader, sample_rate: int, labels: Sequence[str] | None
    ) -> None:
        check_labels(manifest, labels)
        self.read, self.sample_rate = read, sample_rate
        classes = manifest.labels if labels is None else labels
        self.utterances = sorted(
            (u for u in manifest if u.label and u.label in classes), key=lambda u: u.path
        )
        self._by_class: defaultdict[str, list[Utterance]] = defaultdict(list)
        for utterance in self.utterances:
            self._by_class[utterance.label].append(utterance)
        if len(self._by_class) < MIN_CLASSES:
            raise SepnetError(
                f"a target, an interference and a query of neither need three classes, but {manifest.root} "
                f"has {len(self._by_class)}: add classes, or name more in labels"
            )
        recordings = {name: {u.speaker for u in own} for name, own in self._by_class.items()}
        check_recordings(recordings, str(manifest.root))
        self._active = lru_cache(maxsize=None)(self._find_stretches)

    def _find_stretches(self, path: str) -> list[Stretch]:
        return active_stretches(self.read(path), self.sample_rate)

    def stretches(self, clip: Utterance) -> list[tuple[str, Stretch]]:
        """The active stretches of a clip, then of the other clips of its recording."""
        others = [u for u in self._by_class[clip.label] if u.speaker == clip.speaker and u != clip]
        stretches = [(u.path, stretch) for u in (clip, *others) for stretch in self._active(u.path)]
        if not any(b - a > 2 * FADE_SECONDS for _, (a, b) in stretches):
            raise SepnetError(f"{clip.path} is silent: leave it out of the corpus (exclude)")
        return stretches

    def draw_queries(
        self, rng: np.random.Generator, mixed: tuple[Utterance, Utterance], seconds: Sequence[float]
    ) -> tuple[Cut, Cut, Cut]:
        """Examples of the target's class, the interference's and a third one, of recordings not mixed."""
        absent = [name for name in self._by_class if name not in (mixed[0].label, mixed[1].label)]
        names = (mixed[0].label, mixed[1].label, absent[int(rng.integers(len(absent)))])
        cuts = [self._draw_query(rng, name, {u.speaker for u in mixed}, seconds) for name in names]
        return cuts[0], cuts[1], cuts[2]

    def _draw_query(
        self, rng: np.random.Generator, label: str, recordings: set[str], seconds: Sequence[float]
    ) -> Cut:
        """The loudest part of a clip of a class that is from none of these recordings."""
        others = [u for u in self._by_class[label] if u.speaker not in recordings]
        if not others:
            raise SepnetError(
                f"all of {label} is from the recordings {join_names(sorted(recordings))}, which are mixed, "
                "so there is no query: add another recording, or leave the class out of labels"
            )
        clip = others[int(rng.integers(len(others)))]
        samples = self.read(clip.path)
        clip_seconds = math.floor(len(samples) * 1e3 / self.sample_rate) / 1e3
        length = min(round(rng.uniform(seconds[0], seconds[1]), 3), clip_seconds)
        begin = loudest_start(samples, round(length * self.sample_rate)) / self.sample_rate
        return Cut(clip.path, round(begin, 6), length, 0.0)


def _draw_mixture(
    pool: _Pool,
    rng: np.random.Generator,
    recipe: QueryRecipe,
    mixed: tuple[Utterance, Utterance],
    level_db: float,
    name: str,
) -> QueryMixture:
    """A mixture of a target and an interference."""
    seconds = recipe.seconds
    share = float(rng.uniform(recipe.target_share[0], recipe.target_share[1]))
    bursts = [(0.0, seconds)] if share == 1 else draw_bursts(rng, seconds, share)
    target = tuple(cut for a, b in bursts for cut in loop_stretches(pool.stretches(mixed[0]), b - a, a))
    interference = tuple(loop_stretches(pool.stretches(mixed[1]), seconds))
    queries = pool.draw_queries(rng, mixed, recipe.query_seconds)
    gains = _compute_gains(pool, target, interference, seconds, level_db)
    return QueryMixture(name, seconds, level_db, target, gains[0], interference, gains[1], queries)


def _compute_gains(
    pool: _Pool, target: Sequence[Cut], interference: Sequence[Cut], seconds: float, level_db: float
) -> tuple[float, float]:
    """Gains by the powers where the target is active; the mixture's peak is at most 0.9."""
    sounds = [render(cuts, seconds, pool.sample_rate, pool.read) for cuts in (target, interference)]
    active = mask_segments(spans(target), len(sounds[0]), pool.sample_rate)
    powers = [float(np.square(sound[active], dtype=np.float64).mean()) for sound in sounds]
    if min(powers) <= 0:
        raise SepnetError(
            f"{target[0].path} or {interference[0].path} is silent: leave it out of the corpus (exclude)"
        )
    levels = (EQUAL_POWER_DB + level_db, EQUAL_POWER_DB)
    gains = [10 ** (db / 20) / math.sqrt(power) for db, power in zip(levels, powers, strict=True)]
    peak = float(np.abs(gains[0] * sounds[0] + gains[1] * sounds[1]).max())
    scale = min(1.0, MAX_PEAK / peak)
    return round_gain(gains[0] * scale), round_gain(gains[1] * scale)


def mask_segments(segments: Sequence[Stretch], n_samples: int, sample_rate: int) -> np.ndarray:
    """Mark the samples that lie in a segment.

    Args:
        segments: (begin, end) in seconds.
        n_samples: Length of the mask.
        sample_rate: In Hz.

    Returns:
        (time,), bool.
    """
    mask = np.zeros(n_samples, dtype=bool)
    for begin, end in segments:
        mask[round(begin * sample_rate) : round(end * sample_rate)] = True
    return mask
