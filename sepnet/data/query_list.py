"""Written lists of mixtures with a query: a target, when it sounds, what else sounds, and examples of both.

A list is a CSV with a row for each piece of sound: the mixture, what the piece is for (``role``), the file,
which part of it (``start_seconds``, ``seconds``), from when on it is heard (``at_seconds``), and its linear
``gain``. Roles: ``target``, ``interference``, and three examples of which a test hands out one: ``query`` of
the target's class, ``query_other`` of the interference's, ``query_absent`` of a class that is not there. So
the list alone says what a mixture is, and when exactly its target sounds.

Target and interference are recordings of different classes. Each is the active stretches (see
sepnet.data.activity) of its clip, then of other clips of the same recording, one after the other and again
from the first: the target in bursts that last ``active`` of the mixture, the interference throughout. The
level of a mixture is the power of the target over that of the interference, both where the target is active.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from sepnet.data.activity import (
    FADE_SECONDS,
    Cut,
    Stretch,
    active_stretches,
    draw_bursts,
    faded,
    looped,
    spans,
)
from sepnet.data.corpus import Manifest, Utterance
from sepnet.data.librimix import EQUAL_POWER_DB, LARGEST_PEAK, draw_groups
from sepnet.data.queries import loudest_start
from sepnet.data.table import named, read_table, write_table
from sepnet.types import SepnetError

ROLES = ("target", "interference", "query", "query_other", "query_absent")
NUMBERS = ("level_db", "length_seconds", "start_seconds", "seconds", "at_seconds", "gain")
COLUMNS = ("mixture_ID", "level_db", "length_seconds", "role", "path", *NUMBERS[2:])
Reader = Callable[[str], Float[np.ndarray, " time"]]
"""Path as the list has it -> samples at the rate of the mixtures."""


@dataclass(frozen=True)
class QueryMixture:
    """One mixture of a list: ``seconds`` long, its target at ``level_db`` over the interference.

    target, interference: what is heard, each with a linear gain for all. queries: an example each for the
    roles query, query_other and query_absent.
    """

    id: str
    seconds: float
    level_db: float
    target: tuple[Cut, ...]
    target_gain: float
    interference: tuple[Cut, ...]
    interference_gain: float
    queries: tuple[Cut, Cut, Cut]

    @cached_property
    def segments(self) -> tuple[Stretch, ...]:
        """When the target sounds: (begin, end) in seconds, in order and apart."""
        return spans(self.target)

    @property
    def paths(self) -> frozenset[str]:
        """All files of the mixture and its queries."""
        return frozenset(cut.path for cut in (*self.target, *self.interference, *self.queries))


def render(cuts: Sequence[Cut], seconds: float, sample_rate: int, read: Reader) -> Float[np.ndarray, " time"]:
    """The cuts at their places in ``seconds`` of silence, each faded in and out; float32."""
    signal = np.zeros(round(seconds * sample_rate), dtype=np.float32)
    for cut in cuts:
        begin, place = round(cut.start * sample_rate), round(cut.at * sample_rate)
        piece = read(cut.path)[begin : begin + round(cut.seconds * sample_rate)]
        piece = faded(piece[: len(signal) - place], sample_rate)
        signal[place : place + len(piece)] += piece
    return signal


def draw_query_list(
    manifest: Manifest,
    read: Reader,
    sample_rate: int,
    *,
    n_mixtures: int,
    seconds: float,
    active: tuple[float, float] = (1.0, 1.0),
    levels_db: Sequence[float] = (0.0,),
    query_seconds: tuple[float, float] = (1.0, 3.0),
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> list[QueryMixture]:
    """Draw a list; each clip is a target or an interference about as often as any other.

    seconds: of each mixture. active: interval of the share of it in which the target sounds. levels_db: one
    after the other, so that the first so many mixtures hold all. query_seconds: interval of an example's
    length; it is the loudest part of a clip. labels: the classes; null: all. The draw depends on the files
    and ``seed`` alone. Raises SepnetError for bad numbers, fewer than three classes, and a class of one
    recording, which has no query.
    """
    _check(n_mixtures, seconds, active, levels_db, query_seconds)
    pool = _Pool(manifest, read, sample_rate, labels)
    rng = np.random.default_rng(seed)
    kinds = {u.path: u.label for u in pool.utterances}
    taken: Counter[str] = Counter()
    drawn = []
    for number, (wanted, other) in enumerate(draw_groups(pool.utterances, kinds, n_mixtures, 2, rng)):
        level_db = float(levels_db[number % len(levels_db)])
        share = float(rng.uniform(*active))
        bursts = [(0.0, seconds)] if share == 1 else draw_bursts(rng, seconds, share)
        target = [cut for a, b in bursts for cut in looped(pool.stretches(wanted), b - a, a)]
        interference = looped(pool.stretches(other), seconds)
        queries = pool.queries(rng, (wanted, other), query_seconds)
        name = f"{PurePosixPath(wanted.path).stem}_{PurePosixPath(other.path).stem}_{level_db:+g}dB"
        taken[name] += 1
        unique = name if taken[name] == 1 else f"{name}-{taken[name]}"
        gains = _gains(target, interference, seconds, level_db, sample_rate, read)
        drawn.append(
            QueryMixture(
                unique, seconds, level_db, tuple(target), gains[0], tuple(interference), gains[1], queries
            )
        )
    return drawn


def _check(
    n_mixtures: int,
    seconds: float,
    active: tuple[float, float],
    levels_db: Sequence[float],
    query_seconds: tuple[float, float],
) -> None:
    if n_mixtures < 1 or seconds <= 0 or not levels_db:
        raise SepnetError(
            f"{n_mixtures} mixtures of {seconds} s at levels_db={list(levels_db)}: give one or more of each, "
            "of a positive length"
        )
    if not 0 < active[0] <= active[1] <= 1:
        raise SepnetError(f"active is {list(active)}: give two shares above 0 and up to 1, in order")
    if not 0.1 <= query_seconds[0] <= query_seconds[1]:
        raise SepnetError(
            f"query_seconds is {list(query_seconds)}: give two lengths in order, of 0.1 s at the least"
        )


class _Pool:
    """The clips to draw from, by class and by recording."""

    def __init__(
        self, manifest: Manifest, read: Reader, sample_rate: int, labels: Sequence[str] | None
    ) -> None:
        if missing := sorted({*(labels or ())} - {*manifest.labels}):
            raise SepnetError(
                f"{manifest.root} has nothing of the class {', '.join(missing)}; it has "
                f"{', '.join(manifest.labels) or 'none'}"
            )
        self.read, self.sample_rate = read, sample_rate
        wanted = manifest.labels if labels is None else labels
        found = [u for u in manifest if u.label and u.label in wanted]
        self.utterances = sorted(found, key=lambda u: u.path)
        self._by_class: defaultdict[str, list[Utterance]] = defaultdict(list)
        for utterance in self.utterances:
            self._by_class[utterance.label].append(utterance)
        if len(self._by_class) < 3:
            raise SepnetError(
                f"a target, an interference and a query of neither want three classes, but {manifest.root} "
                f"has {len(self._by_class)}: add classes, or name more in labels"
            )
        lonely = [name for name, own in self._by_class.items() if len({u.speaker for u in own}) < 2]
        if lonely:
            raise SepnetError(
                f"a query is of another recording, but {named(lonely)} of {manifest.root} has only one: add "
                "another, or leave the class out of labels"
            )
        self._active = lru_cache(maxsize=None)(self._stretches_of)

    def _stretches_of(self, path: str) -> list[Stretch]:
        return active_stretches(self.read(path), self.sample_rate)

    def stretches(self, first: Utterance) -> list[tuple[str, Stretch]]:
        """Of a clip, then of the others of its recording. Raises SepnetError where all are silent."""
        own = [u for u in self._by_class[first.label] if u.speaker == first.speaker and u != first]
        found = [(u.path, stretch) for u in (first, *own) for stretch in self._active(u.path)]
        if not any(b - a > 2 * FADE_SECONDS for _, (a, b) in found):
            raise SepnetError(f"{first.path} is silent: leave it out of the corpus (exclude)")
        return found

    def queries(
        self, rng: np.random.Generator, mixed: tuple[Utterance, Utterance], seconds: tuple[float, float]
    ) -> tuple[Cut, Cut, Cut]:
        """Examples of the target's class, of the interference's and of another, of recordings not mixed."""
        absent = [name for name in self._by_class if name not in (mixed[0].label, mixed[1].label)]
        names = (mixed[0].label, mixed[1].label, absent[int(rng.integers(len(absent)))])
        chosen = []
        for name in names:
            recordings = {u.speaker for u in mixed}
            others = [u for u in self._by_class[name] if u.speaker not in recordings]
            if not others:
                raise SepnetError(
                    f"all of {name} is of the recordings {named(sorted(recordings))}, which are mixed, so "
                    "there is no query: add another recording, or leave the class out of labels"
                )
            clip = others[int(rng.integers(len(others)))]
            samples = self.read(clip.path)
            length = min(
                round(rng.uniform(*seconds), 3), math.floor(len(samples) * 1e3 / self.sample_rate) / 1e3
            )
            begin = loudest_start(samples, round(length * self.sample_rate)) / self.sample_rate
            chosen.append(Cut(clip.path, round(begin, 6), length, 0.0))
        return chosen[0], chosen[1], chosen[2]


def _gains(
    target: Sequence[Cut],
    interference: Sequence[Cut],
    seconds: float,
    level_db: float,
    sample_rate: int,
    read: Reader,
) -> tuple[float, float]:
    """Of target and interference, by their powers where the target is active; the peak at most 0.9."""
    sounds = [render(cuts, seconds, sample_rate, read) for cuts in (target, interference)]
    there = within(spans(target), len(sounds[0]), sample_rate)
    powers = [float(np.square(sound[there], dtype=np.float64).mean()) for sound in sounds]
    if min(powers) <= 0:
        raise SepnetError(
            f"{target[0].path} or {interference[0].path} is silent: leave it out of the corpus (exclude)"
        )
    wanted = (EQUAL_POWER_DB + level_db, EQUAL_POWER_DB)
    gains = [10 ** (db / 20) / math.sqrt(power) for db, power in zip(wanted, powers, strict=True)]
    peak = float(np.abs(gains[0] * sounds[0] + gains[1] * sounds[1]).max())
    # To six digits, so that a list says the same on every machine.
    lowered = [float(f"{gain * min(1.0, LARGEST_PEAK / peak):.6g}") for gain in gains]
    return lowered[0], lowered[1]


def within(segments: Sequence[Stretch], n_samples: int, sample_rate: int) -> np.ndarray:
    """For each of ``n_samples`` whether it lies in a segment (seconds)."""
    there = np.zeros(n_samples, dtype=bool)
    for begin, end in segments:
        there[round(begin * sample_rate) : round(end * sample_rate)] = True
    return there


def write_query_list(csv: str | Path, mixtures: Sequence[QueryMixture]) -> None:
    """Write what ``read_query_list`` reads, whole or not at all."""
    rows = [
        (m.id, f"{m.level_db:g}", f"{m.seconds:g}", role, cut.path, *map(_digits, _numbers(cut)), f"{gain:g}")
        for m in mixtures
        for role, gain, cut in _pieces(m)
    ]
    write_table(csv, COLUMNS, rows)


def _pieces(mixture: QueryMixture) -> Iterator[tuple[str, float, Cut]]:
    yield from (("target", mixture.target_gain, cut) for cut in mixture.target)
    yield from (("interference", mixture.interference_gain, cut) for cut in mixture.interference)
    yield from ((role, 1.0, cut) for role, cut in zip(ROLES[2:], mixture.queries, strict=True))


def _numbers(cut: Cut) -> tuple[float, float, float]:
    return cut.start, cut.seconds, cut.at


def _digits(seconds: float) -> str:
    return f"{round(seconds, 6):.10g}"


def read_query_list(csv: str | Path) -> list[QueryMixture]:
    """Read a list. Raises SepnetError for a missing file, column or role, and for what is no number."""
    rows = read_table(csv, COLUMNS)
    mixtures = []
    for name, group in groupby(rows, key=lambda row: row[1]["mixture_ID"]):
        cuts: defaultdict[str, list[Cut]] = defaultdict(list)
        gains: dict[str, float] = {}
        for line, row in group:
            role = row["role"]
            if role not in ROLES:
                raise SepnetError(f"{csv}, line {line}: the role {role!r} is none of {', '.join(ROLES)}")
            try:
                level, length, start, seconds, at, gains[role] = (float(row[column]) for column in NUMBERS)
            except ValueError as error:
                raise SepnetError(f"{csv}, line {line}: {error}; give numbers") from error
            cuts[role].append(Cut(row["path"], start, seconds, at))
        if missing := [role for role in ROLES if role not in cuts]:
            raise SepnetError(f"{csv}: {name} has no {' and no '.join(missing)}; make the list again")
        queries = (cuts["query"][0], cuts["query_other"][0], cuts["query_absent"][0])
        target, other = tuple(cuts["target"]), tuple(cuts["interference"])
        mixtures.append(
            QueryMixture(name, length, level, target, gains["target"], other, gains["interference"], queries)
        )
    if not mixtures:
        raise SepnetError(f"{csv} has a header but no rows: make the list again")
    if twice := [name for name, count in Counter(m.id for m in mixtures).items() if count > 1]:
        raise SepnetError(f"{csv} has {len(twice)} mixture_IDs more than once: {named(twice)}; rename them")
    return mixtures
