"""Fixed sets of mixtures: the LibriMix lists, and lists drawn as LibriMix draws its own.

LibriMix (J. Cosentino et al., "LibriMix: An Open-Source Dataset for Generalizable Speech Separation",
2020) publishes lists of files and gains. A mixture is made of one row so: each source times its gain,
resampled by ``scipy.signal.resample_poly``, cut to the shortest (min) or filled up with zeros to the
longest (max), summed; the noise is the first channel of its file. Here that is done in memory, in
float32; LibriMix' own files are the same rounded to 16 bit.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import zip_longest
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.data import audio
from sepnet.data.corpus import Manifest, Utterance
from sepnet.data.mixing import Responses
from sepnet.data.queries import QueryChooser, loudest, name_of
from sepnet.data.rooms import convolve
from sepnet.data.table import named, read_table, write_table
from sepnet.dsp.loudness import integrated_loudness
from sepnet.dsp.resample import resample
from sepnet.types import Mixture, Query, SepnetError

MODES = ("min", "max")
LOUDNESS_LUFS = (-33.0, -25.0)  # each source's, uniform
EQUAL_POWER_DB = -26.0  # each source's, re full scale, where all have the same
LARGEST_PEAK = 0.9
SOURCE_PATH = re.compile(r"source_(\d+)_path")

Part = tuple[str, float]  # path as the list has it, gain


@dataclass(frozen=True)
class FixedMixture:
    """One row of a list: what is mixed, each file with its linear gain."""

    id: str
    sources: tuple[Part, ...]
    noise: Part | None = None


def read_list(csv: str | Path) -> list[FixedMixture]:
    """Read LibriMix metadata: mixture_ID, source_1_path, source_1_gain, ..., and perhaps the noise.

    A row may leave its last sources empty, to hold fewer than another. Raises SepnetError for a missing
    file or column, no rows, a gain that is no number, and an id that stands there twice.
    """
    rows = read_table(csv, ("mixture_ID", "source_1_path", "source_1_gain"))
    mixtures = []
    for line, row in rows:
        numbers = sorted(int(match[1]) for name in row if (match := SOURCE_PATH.fullmatch(name)))
        parts = [_part(row, f"source_{number}", csv, line) for number in numbers]
        sources = tuple(part for part in parts if part is not None)
        if not sources:
            raise SepnetError(f"{csv}, line {line}: no source; write one into source_1_path")
        mixtures.append(FixedMixture(row["mixture_ID"], sources, _part(row, "noise", csv, line)))
    if not mixtures:
        raise SepnetError(f"{csv} has a header but no rows: make the list again")
    if twice := [name for name, count in Counter(m.id for m in mixtures).items() if count > 1]:
        raise SepnetError(f"{csv} has {len(twice)} mixture_IDs more than once: {named(twice)}; rename them")
    return mixtures


def _part(row: dict[str, str], name: str, csv: str | Path, line: int) -> Part | None:
    path, gain = row.get(f"{name}_path", ""), row.get(f"{name}_gain", "")
    if not path:
        return None
    try:
        return path, float(gain)
    except ValueError as error:
        raise SepnetError(f"{csv}, line {line}: {name}_gain is {gain!r}, not a number") from error


def write_list(csv: str | Path, mixtures: Sequence[FixedMixture]) -> None:
    """Write what ``read_list`` reads, whole or not at all."""
    n_sources = max(len(mixture.sources) for mixture in mixtures)
    names = [f"source_{number + 1}" for number in range(n_sources)]
    names += ["noise"] if any(mixture.noise for mixture in mixtures) else []
    columns = ["mixture_ID", *(f"{name}_{what}" for name in names for what in ("path", "gain"))]
    rows = []
    for mixture in mixtures:
        empty = [("", "")] * (n_sources - len(mixture.sources))
        parts = [*mixture.sources, *empty, *([mixture.noise or ("", "")] if names[-1] == "noise" else [])]
        rows.append([mixture.id, *(cell for part in parts for cell in part)])
    write_table(csv, columns, rows)


def draw_list(
    manifest: Manifest,
    *,
    n_mixtures: int,
    n_sources: int = 2,
    seed: int | Sequence[int] = 0,
    min_seconds: float = 0.0,
    labels: Sequence[str] | None = None,
    equal_power: bool = False,
) -> list[FixedMixture]:
    """Draw a list as LibriMix does: different speakers, each utterance about as often as any other.

    The loudness of each source is uniform in -33 to -25 LUFS, or with ``equal_power`` all have the same
    power; where the sum of the whole utterances has a peak over 0.9, all gains of the mixture are lowered
    together. The draw depends on the manifest's rows and on ``seed`` alone. min_seconds leaves shorter
    utterances out. labels: the classes to draw from; the sources of a mixture are then of different ones.
    Raises SepnetError if there are fewer speakers or classes than sources, for a class that is not there,
    and for an utterance too quiet to have a loudness.
    """
    if n_mixtures < 1 or n_sources < 1:
        raise SepnetError(f"{n_mixtures} mixtures of {n_sources} sources: both have to be 1 or more")
    if missing := sorted({*(labels or ())} - {*manifest.labels}):
        raise SepnetError(
            f"{manifest.root} has nothing of the class {', '.join(missing)}; it has "
            f"{', '.join(manifest.labels) or 'none'}"
        )
    eligible = [u for u in manifest if u.seconds >= min_seconds and (labels is None or u.label in labels)]
    utterances = sorted(eligible, key=lambda u: u.path)
    kinds = {u.path: u.speaker if labels is None else u.label for u in utterances}
    n_kinds = len({*kinds.values()})
    if n_kinds < n_sources:
        raise SepnetError(
            f"{n_sources} {'speakers' if labels is None else 'classes'} are needed for a mixture, but "
            f"{manifest.root} has {n_kinds} ({len(utterances)} utterances of {min_seconds} s or more of "
            f"{len(manifest)}): index more or lower n_sources"
        )
    rng = np.random.default_rng(seed)
    taken: Counter[str] = Counter()
    loudness: dict[str, float] = {}
    mixtures = []
    for chosen in draw_groups(utterances, kinds, n_mixtures, n_sources, rng):
        paths = [manifest.path(u) for u in chosen]
        gains = _draw_gains(paths, loudness, None if equal_power else rng)
        name = "_".join(PurePosixPath(u.path).stem for u in chosen)
        taken[name] += 1
        unique = name if taken[name] == 1 else f"{name}-{taken[name]}"
        mixtures.append(FixedMixture(unique, tuple((u.path, g) for u, g in zip(chosen, gains, strict=True))))
    return mixtures


def draw_groups(
    utterances: Sequence[Utterance],
    kinds: Mapping[str, str],
    n_mixtures: int,
    n_sources: int,
    rng: np.random.Generator,
) -> Iterator[list[Utterance]]:
    """Groups of different kinds: always the utterances used the least, in random order among equals."""
    deck = [(0, float(rng.random()), number) for number in range(len(utterances))]
    heapq.heapify(deck)
    for _ in range(n_mixtures):
        drawn: dict[str, tuple[int, float, int]] = {}
        aside = []
        while len(drawn) < n_sources:
            card = heapq.heappop(deck)
            kind = kinds[utterances[card[2]].path]
            if kind in drawn:
                aside.append(card)
            else:
                drawn[kind] = card
        yield [utterances[number] for _, _, number in drawn.values()]
        for card in aside:
            heapq.heappush(deck, card)
        for used, _, number in drawn.values():
            heapq.heappush(deck, (used + 1, float(rng.random()), number))


def read_mono(path: Path) -> tuple[Float[np.ndarray, " time"], int]:
    """The samples of a file and its rate in Hz. Raises SepnetError for one of several channels."""
    samples, sample_rate = audio.read(path)
    if len(samples) != 1:
        raise SepnetError(
            f"{path} has {len(samples)} channels, but a source of a fixed mixture has one: convert it to mono"
        )
    return samples[0], sample_rate


def at_rate(
    samples: Float[np.ndarray, " time"], rate: int, sample_rate: int, path: str | Path
) -> Float[np.ndarray, " resampled"]:
    """The samples at the rate of the mixtures. Raises SepnetError for a file, ``path``, of a lower one."""
    if rate < sample_rate:
        raise SepnetError(
            f"{path} is at {rate} Hz, but the mixtures are to be at {sample_rate} Hz: "
            f"set the sample rate to {rate} Hz or lower"
        )
    return resample(samples, rate, sample_rate)


def _draw_gains(
    paths: Sequence[Path], known: dict[str, float], rng: np.random.Generator | None
) -> list[float]:
    """A gain for each file, drawn, or without ``rng`` to the same power.

    known: the loudness of files, in LUFS (or 20 log10 of the RMS), kept because each is drawn again.
    """
    sounds = [read_mono(path) for path in paths]
    gains = []
    for path, (samples, rate) in zip(map(str, paths), sounds, strict=True):
        if path not in known:
            known[path] = integrated_loudness(samples, rate) if rng else _rms_db(samples)
        if not math.isfinite(known[path]):
            raise SepnetError(f"{path} is too quiet to have a loudness: leave it out of the corpus (exclude)")
        wanted = rng.uniform(*LOUDNESS_LUFS) if rng else EQUAL_POWER_DB
        gains.append(10 ** ((wanted - known[path]) / 20))
    lowest = min(rate for _, rate in sounds)
    scaled = [resample(x, rate, lowest) * gain for (x, rate), gain in zip(sounds, gains, strict=True)]
    peak = float(np.abs(np.sum(_fitted(scaled, "max"), axis=0)).max())
    # To six digits, so that a list says the same on every machine.
    return [float(f"{gain * min(1.0, LARGEST_PEAK / peak):.6g}") for gain in gains]


def _rms_db(samples: Float[np.ndarray, " time"]) -> float:
    power = float(np.square(samples, dtype=np.float64).mean())
    return 10 * math.log10(power) if power > 0 else -math.inf


def _fitted(signals: Sequence[np.ndarray], mode: str) -> list[np.ndarray]:
    """All cut to the shortest (min) or filled up with zeros to the longest (max)."""
    lengths = [len(signal) for signal in signals]
    if mode == "min":
        return [signal[: min(lengths)] for signal in signals]
    return [np.pad(signal, (0, max(lengths) - len(signal))) for signal in signals]


def extended(
    noise: Float[np.ndarray, " time"], length: int, sample_rate: int
) -> Float[np.ndarray, " longer"]:
    """The first ``length`` samples of ``noise``, repeated as often as needed.

    Repetitions overlap by half a second, under the halves of a Hann window, as in LibriMix. Raises
    SepnetError for noise that is shorter than this overlap and would have to be repeated.
    """
    overlap = sample_rate // 2 + 1
    if len(noise) < length and len(noise) <= overlap:
        raise SepnetError(
            f"a noise of {len(noise)} samples can't be repeated to {length}: "
            f"it has to be longer than {overlap}"
        )
    rising = np.hanning(2 * overlap - 1)[:overlap].astype(noise.dtype)
    longer = noise
    while len(longer) < length:
        joint = longer[-overlap:] * rising[::-1] + noise[:overlap] * rising
        longer = np.concatenate([longer[:-overlap], joint, noise[overlap:]])
    return longer[:length]


def locate(manifest: Manifest, paths: Iterable[str]) -> dict[str, str | None]:
    """For each path of a list, the path of the file in ``manifest`` that it means, or None.

    That is the path itself where the manifest has it, as a LibriSpeech has those of LibriMix; else the
    one file with that name (without suffix), so that a corpus laid out anew serves the official lists.
    Raises SepnetError where several files have the name.
    """
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for utterance in manifest:
        by_stem[PurePosixPath(utterance.path).stem].append(utterance.path)
    meant: dict[str, str | None] = {}
    for path in paths:
        stem = PurePosixPath(path).stem
        found = by_stem.get(stem, [])
        if path not in found and len(found) > 1:
            raise SepnetError(
                f"{path} is not in {manifest.root}, and {len(found)} files there are named {stem}: "
                f"{named(found)}. Write the path of one of them into the list"
            )
        meant[path] = path if path in found else next(iter(found), None)
    return meant


class FixedSet:
    """Mixtures made from a list, when asked for: ``fixed_set[i]`` is a ``Mixture`` with its references.

    mixtures: the list. manifest: the corpus of the sources. sample_rate: of the mixtures, in Hz; files of
    higher rates are resampled, files of lower ones refused. mode: "min" or "max". with_noise: add the
    noise of the list, from noise_root; it belongs to the audio and not to the references. max_seconds:
    keep no more of each mixture, from its beginning. query_seconds: give each mixture a query for each of
    its sources, that long, of the same speaker or class (see sepnet.data.queries); none where there is none.
    responses: a room or a mixing matrix (see sepnet.data.rooms), drawn anew for each mixture as a pure
    function of ``response_seed`` and its id; the mixture then has several channels, and the references are
    the sources' images at channel 0.

    Raises SepnetError if files are missing, naming the first ten, and for noise with responses: the
    lists' noise was recorded by one microphone.
    """

    def __init__(
        self,
        *,
        mixtures: Sequence[FixedMixture],
        manifest: Manifest,
        sample_rate: int,
        mode: str = "min",
        with_noise: bool = False,
        noise_root: str | Path | None = None,
        max_seconds: float | None = None,
        query_seconds: float | None = None,
        responses: Responses | None = None,
        response_seed: int = 0,
    ) -> None:
        if with_noise and responses is not None:
            raise SepnetError(
                "with_noise and responses can't go together: the noise of the list has one microphone, "
                "the mixtures have several; leave one of them out"
            )
        if query_seconds is not None and query_seconds <= 0:
            raise SepnetError(f"query_seconds is {query_seconds}: give a positive length, or null for none")
        if mode not in MODES:
            raise SepnetError(f"mode {mode!r} is not one of {', '.join(MODES)}")
        if with_noise and noise_root is None:
            raise SepnetError("with_noise needs noise_root: the folder that noise_path is relative to")
        self.mixtures = tuple(mixtures)
        self.sample_rate = sample_rate
        self.mode = mode
        self.with_noise = with_noise
        self.max_seconds = max_seconds
        self.responses, self.response_seed = responses, response_seed
        self._sha1 = {utterance.path: utterance.sha1 for utterance in manifest}
        self._sex = {utterance.path: manifest.sexes.get(utterance.speaker, "") for utterance in manifest}
        self._label = {utterance.path: utterance.label for utterance in manifest}
        self._root = manifest.root
        meant = locate(manifest, (path for mixture in self.mixtures for path, _ in mixture.sources))
        if missing := [path for path, located in meant.items() if located is None]:
            raise SepnetError(
                f"{len(missing)} files of the list are not among the {len(manifest)} of {manifest.root}: "
                f"{named(missing)}. Choose the corpus and the split that the list was made for"
            )
        self._located = {path: located for path, located in meant.items() if located is not None}
        self._queries = None if query_seconds is None else QueryChooser(manifest, query_seconds)
        self._noises = self._locate_noises(Path(noise_root)) if with_noise and noise_root else {}

    def _locate_noises(self, root: Path) -> dict[str, Path]:
        if without := [mixture.id for mixture in self.mixtures if mixture.noise is None]:
            raise SepnetError(f"{len(without)} mixtures have no noise in the list: {named(without)}")
        noises = {path: root / path for path, _ in (m.noise for m in self.mixtures if m.noise)}
        if missing := [str(path) for path in noises.values() if not path.is_file()]:
            raise SepnetError(f"{len(missing)} noises of the list are not there: {named(missing)}")
        return noises

    def __len__(self) -> int:
        return len(self.mixtures)

    def __iter__(self) -> Iterator[Mixture]:
        return (self[index] for index in range(len(self)))

    def id(self, index: int) -> str:
        """The mixture_ID of the list."""
        return self.mixtures[index].id

    def sexes(self, index: int) -> tuple[str, ...]:
        """For the speaker of each source f or m, or nothing where the corpus does not tell it."""
        return tuple(self._sex[self._located[path]] for path, _ in self.mixtures[index].sources)

    def labels(self, index: int) -> tuple[str, ...] | None:
        """The class of each source; None where the corpus has none."""
        found = tuple(self._label[self._located[path]] for path, _ in self.mixtures[index].sources)
        return found if all(found) else None

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the list, the settings and the sources' bytes."""
        settings = (self.sample_rate, self.mode, self.with_noise, self.max_seconds)
        rows = [(m.id, m.sources, m.noise if self.with_noise else None) for m in self.mixtures]
        files = [self._sha1[path] for path in self._located.values()]
        content: list[object] = [settings, rows, files]
        if self._queries is not None:
            chosen = [self._chosen_queries(mixture) for mixture in self.mixtures]
            content.append([self._queries.seconds, *([u.sha1 for u in found or ()] for found in chosen)])
        if self.responses is not None:
            content.append([repr(self.responses), self.response_seed])
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()[:16]

    def __getitem__(self, index: int) -> Mixture:
        row = self.mixtures[index]
        parts, longest = [], Fraction(0)
        for path, gain in row.sources:
            samples, rate = read_mono(self._root / self._located[path])
            longest = max(longest, Fraction(len(samples), rate))
            parts.append(at_rate(samples * np.float32(gain), rate, self.sample_rate, path))
        if self.with_noise and row.noise is not None:
            path, gain = row.noise
            samples, rate = audio.read(self._noises[path])
            noise = extended(samples[0], math.ceil(longest * rate), rate)  # the first channel, as LibriMix
            noise = at_rate(noise * np.float32(gain), rate, self.sample_rate, path)
            parts.append(noise[: max(len(part) for part in parts)])
        fitted = np.stack(_fitted(parts, self.mode))  # (source [+ noise], time)
        if self.max_seconds is not None:
            fitted = fitted[:, : max(1, round(self.max_seconds * self.sample_rate))]
        signals = self._images(row, np.ascontiguousarray(fitted, dtype=np.float32))
        n_sources = len(row.sources)
        references = signals[:n_sources, 0].clone()
        mixture = signals.sum(dim=0)  # (channel, time)
        queries, labels = self._make_queries(row), self.labels(index)
        return Mixture(mixture, self.sample_rate, n_sources, queries, references, labels)

    def _images(self, row: FixedMixture, dry: Float[np.ndarray, "source time"]) -> Tensor:
        """(source, channel, time): what each microphone hears of each source; the dry source without any."""
        if self.responses is None:
            return torch.from_numpy(dry[:, None])
        digest = hashlib.sha1(row.id.encode()).digest()
        rng = np.random.default_rng((self.response_seed, int.from_bytes(digest[:8])))
        responses = self.responses.draw_responses(rng, len(dry), self.sample_rate)
        return torch.from_numpy(np.stack([convolve(x, h) for x, h in zip(dry, responses, strict=True)]))

    def _chosen_queries(self, row: FixedMixture) -> tuple[Utterance, ...] | None:
        if self._queries is None:
            return None
        return self._queries.choose(row.id, [self._located[path] for path, _ in row.sources])

    def _make_queries(self, row: FixedMixture) -> tuple[Query, ...] | None:
        chosen = self._chosen_queries(row)
        if self._queries is None or chosen is None:
            return None
        n_samples = max(1, round(self._queries.seconds * self.sample_rate))
        queries = []
        for utterance in chosen:
            samples, rate = read_mono(self._root / utterance.path)
            excerpt = loudest(at_rate(samples, rate, self.sample_rate, utterance.path), n_samples)
            queries.append(Query(torch.from_numpy(excerpt.copy()), self.sample_rate, name_of(utterance)))
        return tuple(queries)


class LibriMixList:
    """A list in a file, as LibriMix publishes them.

    csv: the list. limit: the first so many rows. mode, with_noise, noise_root, max_seconds, query_seconds,
    responses, response_seed: as in ``FixedSet``. Raises SepnetError, when the set is made, for a list that
    can't be read, and for files that are not in the corpus.
    """

    def __init__(
        self,
        *,
        csv: str | Path,
        mode: str = "min",
        with_noise: bool = False,
        noise_root: str | Path | None = None,
        limit: int | None = None,
        max_seconds: float | None = None,
        query_seconds: float | None = None,
        responses: Responses | None = None,
        response_seed: int = 0,
    ) -> None:
        self.csv = Path(csv).expanduser()
        self.mode = mode
        self.with_noise = with_noise
        self.noise_root = None if noise_root is None else Path(noise_root).expanduser()
        self.limit = limit
        self.max_seconds = max_seconds
        self.query_seconds = query_seconds
        self.responses, self.response_seed = responses, response_seed

    def fixed_set(self, manifest: Manifest, sample_rate: int) -> FixedSet:
        """The mixtures of the list, at ``sample_rate`` Hz, from the files of ``manifest``."""
        return FixedSet(
            mixtures=read_list(self.csv)[: self.limit],
            manifest=manifest,
            sample_rate=sample_rate,
            mode=self.mode,
            with_noise=self.with_noise,
            noise_root=self.noise_root,
            max_seconds=self.max_seconds,
            query_seconds=self.query_seconds,
            responses=self.responses,
            response_seed=self.response_seed,
        )


class DrawnList:
    """A list drawn from a split; see ``draw_list``.

    n_sources: one number, or several, of each as many mixtures. csv: where to keep the list, and to read it
    from again. limit: the first so many rows. seed, min_seconds, labels, equal_power: as for ``draw_list``.
    mode, max_seconds, query_seconds, responses, response_seed: as in ``FixedSet``. Raises SepnetError, when
    the set is made, as these do, and for a kept list of other mixtures than asked for.
    """

    def __init__(
        self,
        *,
        split: str,
        n_mixtures: int,
        n_sources: int | Sequence[int] = 2,
        seed: int = 0,
        mode: str = "min",
        csv: str | Path | None = None,
        limit: int | None = None,
        max_seconds: float | None = None,
        min_seconds: float = 0.0,
        labels: Sequence[str] | None = None,
        equal_power: bool = False,
        query_seconds: float | None = None,
        responses: Responses | None = None,
        response_seed: int = 0,
    ) -> None:
        self.split = split
        self.n_mixtures = n_mixtures
        self.n_sources = (n_sources,) if isinstance(n_sources, int) else tuple(sorted({*n_sources}))
        self.seed = seed
        self.mode = mode
        self.csv = None if csv is None else Path(csv).expanduser()
        self.limit = limit
        self.max_seconds = max_seconds
        self.min_seconds = min_seconds
        self.labels, self.equal_power = labels, equal_power
        self.query_seconds = query_seconds
        self.responses, self.response_seed = responses, response_seed

    def mixtures(self, manifest: Manifest) -> list[FixedMixture]:
        """The list: read where ``csv`` is there, else drawn, and written if ``csv`` is given."""
        if self.csv is not None and self.csv.is_file():
            return self._kept(self.csv)
        several = len(self.n_sources) > 1
        lists = [
            draw_list(
                manifest.split(self.split),
                n_mixtures=len(range(place, self.n_mixtures, len(self.n_sources))),
                n_sources=n_sources,
                seed=(self.seed, n_sources) if several else self.seed,
                min_seconds=self.min_seconds,
                labels=self.labels,
                equal_power=self.equal_power,
            )
            for place, n_sources in enumerate(self.n_sources)
        ]
        # In turns, so that the first so many hold all numbers, too.
        drawn = [mixture for turn in zip_longest(*lists) for mixture in turn if mixture is not None]
        if self.csv is not None:
            write_list(self.csv, drawn)
        return drawn

    def _kept(self, csv: Path) -> list[FixedMixture]:
        mixtures = read_list(csv)
        counts = sorted({len(mixture.sources) for mixture in mixtures})
        if len(mixtures) != self.n_mixtures or counts != list(self.n_sources):
            raise SepnetError(
                f"{csv} holds {len(mixtures)} mixtures of {counts} sources, but {self.n_mixtures} of "
                f"{list(self.n_sources)} are asked for: delete it to draw anew, or name another csv"
            )
        return mixtures

    def fixed_set(self, manifest: Manifest, sample_rate: int) -> FixedSet:
        """The mixtures of the list, at ``sample_rate`` Hz, from the files of ``manifest``."""
        return FixedSet(
            mixtures=self.mixtures(manifest)[: self.limit],
            manifest=manifest.split(self.split),
            sample_rate=sample_rate,
            mode=self.mode,
            max_seconds=self.max_seconds,
            query_seconds=self.query_seconds,
            responses=self.responses,
            response_seed=self.response_seed,
        )
