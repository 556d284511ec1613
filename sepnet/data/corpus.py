"""From any folder of sound to a manifest: which files there are, who speaks in them, and of what split.

A corpus is indexed once: each file is decoded and hashed, a bad one is listed and left out, and the
manifest is stored under the working directory, since the corpus itself may be read-only.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields, replace
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from sepnet.data import audio
from sepnet.data.layouts import LAYOUTS, TABLES, Place, choose, read_sexes
from sepnet.data.table import named, read_table, write_table
from sepnet.types import SepnetError

log = logging.getLogger(__name__)

INDEX_VERSION = 1


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest: a sound file and what is known of it.

    path is relative to the corpus' root, with forward slashes. label is a class or a stem, and empty for
    speech; split is empty where the corpus has none. sha1 is of the file's bytes.
    """

    path: str
    speaker: str
    split: str
    label: str
    seconds: float
    sample_rate: int
    sha1: str

    @property
    def frames(self) -> int:
        """Samples of one channel; exact, since seconds are kept to the microsecond."""
        return round(self.seconds * self.sample_rate)


@dataclass(frozen=True)
class Skipped:
    """A file that is not in the manifest, and why."""

    path: str
    reason: str


COLUMNS = tuple(field.name for field in fields(Utterance))


@dataclass(frozen=True)
class Manifest:
    """The sound files of a corpus; their paths are relative to root."""

    root: Path
    utterances: tuple[Utterance, ...]

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any file's bytes, name, speaker, split or label."""
        rows = sorted((u.path, u.sha1, u.split, u.speaker, u.label) for u in self.utterances)
        return hashlib.sha1(json.dumps(rows).encode()).hexdigest()[:16]

    @property
    def seconds(self) -> float:
        """Seconds of sound in all files together."""
        return sum(utterance.seconds for utterance in self.utterances)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, sorted; without the files that have none."""
        return tuple(sorted({u.split for u in self.utterances} - {""}))

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers (recordings, tracks), sorted."""
        return tuple(sorted({u.speaker for u in self.utterances}))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes or stems, sorted; empty for speech."""
        return tuple(sorted({u.label for u in self.utterances} - {""}))

    @cached_property
    def sexes(self) -> Mapping[str, str]:
        """For each speaker of whom the corpus' own table tells it, f or m; empty without such a table."""
        return read_sexes(self.root)

    def path(self, utterance: Utterance) -> Path:
        """Where the file lies."""
        return self.root / utterance.path

    def by_speaker(self) -> dict[str, tuple[Utterance, ...]]:
        """The utterances of each speaker, in the manifest's order, speakers sorted."""
        groups: defaultdict[str, list[Utterance]] = defaultdict(list)
        for utterance in self.utterances:
            groups[utterance.speaker].append(utterance)
        return {speaker: tuple(groups[speaker]) for speaker in sorted(groups)}

    def split(self, *names: str) -> Manifest:
        """The part that lies in the splits ``names``. Raises SepnetError for one that isn't there."""
        if missing := sorted(set(names) - set(self.splits)):
            raise SepnetError(
                f"{self.root} has no split {', '.join(missing)}: it has {', '.join(self.splits) or 'none'}. "
                "Name one of these, or set split_fractions to divide the speakers"
            )
        return replace(self, utterances=tuple(u for u in self.utterances if u.split in names))

    def check_disjoint(self) -> None:
        """Raises SepnetError if a speaker is in two splits: scores on such a split are not of new voices."""
        splits: defaultdict[str, set[str]] = defaultdict(set)
        for utterance in self.utterances:
            splits[utterance.speaker].add(utterance.split)
        if shared := sorted(speaker for speaker, names in splits.items() if len(names) > 1):
            raise SepnetError(
                f"{len(shared)} of {len(splits)} speakers of {self.root} are in more than one split: "
                f"{named(shared)}. Move each speaker into one split, or give different people different names"
            )

    def write(self, path: str | Path) -> None:
        """Write the CSV, whole or not at all."""
        write_table(path, COLUMNS, (astuple(utterance) for utterance in self.utterances))

    @classmethod
    def read(cls, path: str | Path, root: str | Path) -> Manifest:
        """Read what ``write`` wrote. Raises SepnetError for other columns and for cells that don't parse."""
        utterances = []
        for line, row in read_table(path, COLUMNS):
            try:
                rate, seconds = int(row["sample_rate"]), float(row["seconds"])
            except ValueError as error:
                raise SepnetError(f"{path}, line {line}: {error}; index the corpus again") from error
            text = {name: row[name] for name in ("path", "speaker", "split", "label", "sha1")}
            utterances.append(Utterance(**text, sample_rate=rate, seconds=seconds))
        return cls(Path(root), tuple(utterances))


def index(
    root: str | Path,
    *,
    layout: str = "auto",
    strict: bool = False,
    exclude: Sequence[str] = (),
    progress: bool = True,
    known: Manifest | None = None,
) -> tuple[Manifest, tuple[Skipped, ...]]:
    """Find the sound files under ``root``, decode and hash each, and say who speaks where.

    layout: a name of sepnet.data.layouts.LAYOUTS, or "auto". exclude: shell patterns of relative paths.
    strict: the first bad file raises instead of being skipped. known: rows whose files have not changed
    since; they are not decoded again. Raises SepnetError if there is no sound, the layout can't be told,
    no file is good, or (for speech) a speaker is in two splits.
    """
    root = Path(root).expanduser().absolute()
    files = list(sound_files(root, exclude))
    if not files:
        raise SepnetError(
            f"there is no sound under {root} (looked for {', '.join(sorted(audio.SUFFIXES))}"
            f"{', without ' + ', '.join(exclude) if exclude else ''}): check the path"
        )
    name = choose(root, files) if layout == "auto" else layout
    if name not in LAYOUTS:
        raise SepnetError(f"there is no layout {name!r}: choose auto or one of {', '.join(LAYOUTS)}")
    places = LAYOUTS[name].place(root, files)
    skipped = [Skipped(path, reason) for path, reason in places.unknown]
    stored = {utterance.path: utterance for utterance in known or ()}
    outcomes = list(_facts(root, places.known, stored, strict, progress))
    skipped += [outcome for outcome in outcomes if isinstance(outcome, Skipped)]
    utterances = [outcome for outcome in outcomes if isinstance(outcome, Utterance)]
    if not utterances:
        first = f"; {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise SepnetError(f"none of the {len(files)} sound files under {root} can be used as {name}{first}")
    manifest = Manifest(root, tuple(sorted(utterances, key=lambda u: u.path)))
    if LAYOUTS[name].speech:
        manifest.check_disjoint()
    return manifest, tuple(sorted(skipped, key=lambda s: s.path))


def _facts(
    root: Path, places: Sequence[Place], stored: Mapping[str, Utterance], strict: bool, progress: bool
) -> Iterator[Utterance | Skipped]:
    """The row of each place, in their order; libsndfile and hashlib both let go of the GIL."""

    def examine(place: Place) -> Utterance | Skipped:
        where = (place.path, place.speaker, place.split, place.label)
        if old := stored.get(place.path):
            return Utterance(*where, old.seconds, old.sample_rate, old.sha1)
        try:
            header = audio.verify(root / place.path)
            with (root / place.path).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha1").hexdigest()
        except SepnetError as error:
            if strict:
                raise
            return Skipped(place.path, str(error))
        return Utterance(*where, round(header.seconds, 6), header.sample_rate, digest)

    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from tqdm(
                pool.map(examine, places),
                total=len(places),
                desc=f"index {root.name}",
                unit="file",
                disable=None if progress else True,  # None: only on a terminal
            )
        except BaseException:  # a bad file in a strict index, or Ctrl-C: don't decode the rest first
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def sound_files(root: Path, exclude: Sequence[str] = ()) -> Iterator[str]:
    """Relative paths of the sound files under ``root``, sorted; hidden ones and ``exclude`` left out.

    Links to folders are followed, each folder once.
    """
    if not root.is_dir():
        raise SepnetError(f"there is no folder {root}: check the path of the corpus")
    seen: set[str] = set()
    found: list[str] = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        inside = Path(folder).relative_to(root)
        for name in names:
            if not name.startswith(".") and PurePosixPath(name).suffix.lower() in audio.SUFFIXES:
                found.append((inside / name).as_posix())
    return iter(sorted(p for p in found if not any(fnmatch(p, pattern) for pattern in exclude)))


def assign_splits(
    manifest: Manifest, fractions: Mapping[str, float] | None = None, seed: int = 0
) -> Manifest:
    """Divide the speakers of a manifest without splits, by default 80 % train, 10 % dev, 10 % test.

    A speaker's split is a hash of its name and the seed, so that it stays when speakers are added, and the
    fractions hold only on average. Raises SepnetError if the manifest has splits, if the fractions
    don't sum to 1, and if a split gets nobody.
    """
    shares = dict(fractions or {"train": 0.8, "dev": 0.1, "test": 0.1})
    if manifest.splits:
        raise SepnetError(
            f"{manifest.root} has the splits {', '.join(manifest.splits)} already: leave out split_fractions"
        )
    if min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise SepnetError(f"the fractions {shares} have to be positive and to sum to 1")

    def chosen(speaker: str) -> str:
        digest = hashlib.sha1(f"{seed}/{speaker}".encode()).digest()
        point, edge = int.from_bytes(digest[:8], "big") / 2**64, 0.0
        for name, share in shares.items():
            edge += share
            if point < edge:
                return name
        return name  # the sum fell short of 1 by rounding

    divided = replace(manifest, utterances=tuple(replace(u, split=chosen(u.speaker)) for u in manifest))
    if empty := sorted(set(shares) - set(divided.splits)):
        raise SepnetError(
            f"{len(manifest.speakers)} speakers are too few for the fractions {shares}: nobody is in "
            f"{', '.join(empty)}. Give other fractions, another seed, or split folders"
        )
    return divided


class Corpus:
    """A folder of sound whose index is stored, and made again when its files change.

    root: the folder. layout: see ``index``. index_dir: where the index lies, by default
    ``data/index/<name>-<hash of root>`` under the working directory. strict: a bad file is an error.
    exclude: shell patterns of relative paths. split_fractions: see ``assign_splits``.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        layout: str = "auto",
        index_dir: str | Path | None = None,
        strict: bool = False,
        split_fractions: Mapping[str, float] | None = None,
        split_seed: int = 0,
        exclude: Sequence[str] = (),
        progress: bool = True,
    ) -> None:
        self.root = Path(root).expanduser().absolute()
        self.layout = layout
        digest = hashlib.sha1(str(self.root).encode()).hexdigest()[:8]
        self.index_dir = Path(index_dir or Path("data", "index", f"{self.root.name}-{digest}"))
        self.strict = strict
        self.split_fractions = dict(split_fractions) if split_fractions else None
        self.split_seed = split_seed
        self.exclude = tuple(exclude)
        self.progress = progress

    def manifest(self) -> Manifest:
        """The stored manifest where it still fits the files (by name, size and time), else a new one."""
        files = {path: self._stamp(path) for path in sound_files(self.root, self.exclude)}
        files |= {name: self._stamp(name) for name in TABLES if (self.root / name).is_file()}
        stored, fits = self._stored(files)
        if stored is None or not fits:
            stored = self._index(files, stored)
        if self.split_fractions is not None:
            return assign_splits(stored, self.split_fractions, self.split_seed)
        return stored

    def skipped(self) -> tuple[Skipped, ...]:
        """What the stored index left out; empty before the first ``manifest()``."""
        path = self.index_dir / "skipped.csv"
        if not path.is_file():
            return ()
        return tuple(Skipped(row["path"], row["reason"]) for _, row in read_table(path, ("path", "reason")))

    def _stamp(self, path: str) -> list[int]:
        status = (self.root / path).stat()
        return [status.st_size, status.st_mtime_ns]

    def _settings(self) -> dict[str, object]:
        return {"version": INDEX_VERSION, "root": str(self.root), "layout": self.layout,
                "strict": self.strict, "exclude": list(self.exclude)}  # fmt: skip

    def _stored(self, files: Mapping[str, list[int]]) -> tuple[Manifest | None, bool]:
        """The stored rows of files that are as they were, and whether that is the whole index."""
        try:
            state = json.loads((self.index_dir / "index.json").read_text())
            if state["settings"] != self._settings():
                return None, False
            manifest = Manifest.read(self.index_dir / "manifest.csv", self.root)
        except (OSError, ValueError, KeyError):  # none, or not readable: index again
            return None, False
        same = {path for path, stamp in state["files"].items() if files.get(path) == stamp}
        kept = replace(manifest, utterances=tuple(u for u in manifest if u.path in same))
        return kept, state["files"] == dict(files)

    def _index(self, files: Mapping[str, list[int]], known: Manifest | None) -> Manifest:
        manifest, skipped = index(
            self.root, layout=self.layout, strict=self.strict, exclude=self.exclude,
            progress=self.progress, known=known,
        )  # fmt: skip
        if skipped:
            log.warning(
                "%d of %d files of %s are left out, listed in %s: %s",
                len(skipped),
                len(skipped) + len(manifest),
                self.root,
                self.index_dir / "skipped.csv",
                named([f"{bad.path} ({bad.reason})" for bad in skipped]),
            )
        write_table(self.index_dir / "skipped.csv", ("path", "reason"), (astuple(s) for s in skipped))
        manifest.write(self.index_dir / "manifest.csv")
        # Last, so that an index that was interrupted is not taken for whole.
        with audio.replacing(self.index_dir / "index.json") as temporary:
            temporary.write_text(json.dumps({"settings": self._settings(), "files": dict(files)}))
        return manifest


def summary(manifest: Manifest, skipped: Sequence[Skipped] = ()) -> str:
    """A few lines for people: files, speakers and hours of each split, rates, what was left out."""
    lines = [f"{manifest.root}: {len(manifest)} files, fingerprint {manifest.fingerprint}"]
    for name in sorted({u.split for u in manifest}):
        part = replace(manifest, utterances=tuple(u for u in manifest if u.split == name))
        lines.append(
            f"  {name or '(no split)'}: {len(part)} files, {len(part.speakers)} speakers, "
            f"{part.seconds / 3600:.2f} h"
        )
    rates = Counter(u.sample_rate for u in manifest)
    lines.append("  rates: " + ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(rates.items())))
    if manifest.labels:
        lines.append(f"  labels: {', '.join(manifest.labels)}")
    if skipped:
        reasons = named([f"{bad.path} ({bad.reason})" for bad in skipped])
        lines.append(f"  left out: {len(skipped)}: {reasons}")
    return "\n".join(lines)
