"""The manifest of a corpus: one row for each sound file, as CSV and in memory."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from sepnet.data.layouts import read_sexes
from sepnet.data.table import iterate_table, join_names, write_table
from sepnet.types import SepnetError


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of a manifest: a sound file and what is known about it.

    Attributes:
        path: Relative to the corpus' root, with forward slashes.
        speaker: The speaker; of sounds the recording, of stems the track. Files with the same value are
            never mixed with each other.
        split: The split; empty where the corpus has none.
        label: The class or the stem; empty for speech.
        seconds: Duration, to the microsecond.
        sample_rate: In Hz.
        sha1: SHA-1 of the file's bytes.
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
class SkippedFile:
    r"""A file that is not in the manifest, and the reason.

    Attributes:
        path: Its path below the folder; bytes that are not UTF-8 are written as ``\udcff``.
        reason: Why.
    """

    path: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.path.encode(errors="backslashreplace").decode())


COLUMNS = tuple(field.name for field in fields(Utterance))


@dataclass(frozen=True)
class Manifest:
    """The sound files of a corpus.

    Attributes:
        root: The folder that the paths of the utterances are relative to.
        utterances: One row for each file.
    """

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
        """The duration of all files together."""
        return sum(utterance.seconds for utterance in self.utterances)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, sorted, without the empty one of files that have none."""
        return tuple(sorted({u.split for u in self.utterances} - {""}))

    @property
    def described(self) -> str:
        """The root and the splits, for messages."""
        names = ", ".join(self.splits)
        return f"{self.root}{f' (split {names})' if names else ''}"

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
        """The sex of each speaker, f or m, from the corpus' own table; empty without such a table."""
        return read_sexes(self.root)

    def path(self, utterance: Utterance) -> Path:
        """Return the path of an utterance's file."""
        return self.root / utterance.path

    def by_speaker(self) -> dict[str, tuple[Utterance, ...]]:
        """Group the utterances by speaker: speakers sorted, utterances in the manifest's order."""
        groups: defaultdict[str, list[Utterance]] = defaultdict(list)
        for utterance in self.utterances:
            groups[utterance.speaker].append(utterance)
        return {speaker: tuple(groups[speaker]) for speaker in sorted(groups)}

    def split(self, *names: str) -> Manifest:
        """Select the utterances of some splits.

        Args:
            names: The splits to keep.

        Raises:
            SepnetError: The corpus has no such split.
        """
        if missing := sorted(set(names) - set(self.splits)):
            raise SepnetError(
                f"{self.root} has no split {', '.join(missing)}: it has {', '.join(self.splits) or 'none'}. "
                f"Name one of these, or set split_fractions to divide the {speaker_noun(self)}"
            )
        return replace(self, utterances=tuple(u for u in self.utterances if u.split in names))

    def check_disjoint(self) -> None:
        """Check that no speaker is in two splits: scores on such a split are not of new voices.

        Raises:
            SepnetError: Some are, with their names.
        """
        splits: defaultdict[str, set[str]] = defaultdict(set)
        for utterance in self.utterances:
            splits[utterance.speaker].add(utterance.split)
        if shared := sorted(speaker for speaker, names in splits.items() if len(names) > 1):
            raise SepnetError(
                f"{len(shared)} of {len(splits)} speakers of {self.root} are in more than one split: "
                f"{join_names(shared)}. Move each speaker into one split, or give different people different "
                "names"
            )

    def write(self, path: str | Path) -> None:
        """Write the CSV, whole or not at all."""
        write_table(path, COLUMNS, map(attrgetter(*COLUMNS), self.utterances))

    @classmethod
    def read(cls, path: str | Path, root: str | Path) -> Manifest:
        """Read what ``write`` wrote.

        Args:
            path: The CSV.
            root: The folder that its paths are relative to.

        Raises:
            SepnetError: A column is missing, or a cell is not a number where it has to be.
        """
        utterances = []
        for line, row in iterate_table(path, COLUMNS):
            try:
                rate, seconds = int(row["sample_rate"]), float(row["seconds"])
            except ValueError as error:
                raise SepnetError(f"{path}, line {line}: {error}; index the corpus again") from error
            # One string for all files of a speaker, split or label.
            speaker, split, label = (sys.intern(row[name]) for name in ("speaker", "split", "label"))
            utterances.append(Utterance(row["path"], speaker, split, label, seconds, rate, row["sha1"]))
        return cls(Path(root), tuple(utterances))


def speaker_noun(utterances: Iterable[Utterance]) -> str:
    """Return what to call the ``speaker`` of utterances in messages: sounds with labels have no speakers."""
    return "recordings" if any(utterance.label for utterance in utterances) else "speakers"


def summarize(manifest: Manifest, skipped: Sequence[SkippedFile] = ()) -> str:
    """Describe a manifest in a few lines: files, speakers and hours of each split, rates, skipped files."""
    noun = speaker_noun(manifest)
    lines = [f"{manifest.root}: {len(manifest)} files, fingerprint {manifest.fingerprint}"]
    for name in sorted({u.split for u in manifest}):
        part = replace(manifest, utterances=tuple(u for u in manifest if u.split == name))
        lines.append(
            f"  {name or '(no split)'}: {len(part)} files, {len(part.speakers)} {noun}, "
            f"{part.seconds / 3600:.2f} h"
        )
    rates = Counter(u.sample_rate for u in manifest)
    lines.append("  rates: " + ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(rates.items())))
    if manifest.labels:
        lines.append(f"  labels: {', '.join(manifest.labels)}")
    if skipped:
        reasons = join_names([f"{file.path} ({file.reason})" for file in skipped])
        lines.append(f"  left out: {len(skipped)}: {reasons}")
    return "\n".join(lines)
