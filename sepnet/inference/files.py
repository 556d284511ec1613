"""The recordings that a command is given: files, folders, patterns, standard input; and where results go."""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from sepnet.atomic import exists
from sepnet.claim import temporary_folder
from sepnet.data import audio
from sepnet.data.manifest import SkippedFile
from sepnet.data.sound_files import list_folder
from sepnet.paths import real
from sepnet.types import SepnetError

RECORD_SUFFIX = "_separation.json"  # after the stem of the recording
EVENT, EVENT_PARTS = "event.json", ("target.wav", "residual.wav")  # in a folder of their own
STDIN, STDIN_PREFIX = "-", "sepnet-stdin-"
STDIN_BYTES = 1 << 16  # that are read at once at most


@dataclass(frozen=True)
class Recording:
    """A sound file, and where its results go.

    Attributes:
        file: The sound file.
        folder: Of the results.
        stem: With which their names begin.
        n_sources: Of this recording; None: as for all.
        query: A sound file with the example to go by in this recording; None: as for all.
    """

    file: Path
    folder: Path
    stem: str
    n_sources: int | None = None
    query: Path | None = None

    @property
    def record(self) -> Path:
        """The file that tells how the recording was separated."""
        return self.folder / f"{self.stem}{RECORD_SUFFIX}"


@dataclass(frozen=True)
class Selection:
    """What the words of a command line select.

    Attributes:
        recordings: Each once.
        left_out: What could not be followed in the folders, with the reasons.
    """

    recordings: tuple[Recording, ...]
    left_out: tuple[SkippedFile, ...] = ()


@contextlib.contextmanager
def recordings(words: Sequence[str | Path], out: str | Path | None) -> Iterator[Selection]:
    """The recordings that the words of a command line name. Nothing of them is read yet.

    Args:
        words: Sound files; folders, for all sound files in them and below but those that sepnet wrote;
            patterns with ``*``, ``?`` or ``[``; ``-`` for standard input, which is copied until the context
            ends.
        out: The folder of the results, which repeats the folders of a folder; None: beside each file.

    Raises:
        SepnetError: A word names no file, or the results of two recordings would have the same names.
    """
    with contextlib.ExitStack() as stack:
        left_out: list[SkippedFile] = []
        found = [recording for word in words for recording in _expand(str(word), out, stack, left_out)]
        if not found:
            raise SepnetError("no sound file was given: name one, such as mix.wav")
        yield Selection(unique(found, "separate them into different folders (out=)"), tuple(left_out))


def unique(selected: Sequence[Recording], remedy: str) -> tuple[Recording, ...]:
    """Return each recording once.

    Args:
        selected: Recordings, of which some may be the same.
        remedy: What the message says to do about two recordings with the same results.

    Raises:
        SepnetError: The results of two recordings would have the same names.
    """
    by_record: dict[Path, Recording] = {}
    for recording in selected:
        other = by_record.setdefault(recording.record.absolute(), recording)
        if other is not recording and real(other.file) != real(recording.file):
            raise SepnetError(
                f"{other.file} and {recording.file} would both become {recording.folder}/{recording.stem}_*: "
                f"{remedy}"
            )
    return tuple(by_record.values())


def _expand(
    word: str, out: str | Path | None, stack: contextlib.ExitStack, left_out: list[SkippedFile]
) -> Iterator[Recording]:
    """The recordings that a word names; what is left out of a folder is added to ``left_out``."""
    if not word:
        raise SepnetError("one of the files has no name: is a variable of the shell empty?")
    path = Path(word)
    if word == STDIN:
        folder = stack.enter_context(temporary_folder(STDIN_PREFIX))
        yield Recording(_save_stdin(folder), Path(out or "."), "stdin")
    elif os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises for long names)
        content = list_folder(path)
        left_out += [SkippedFile(str(path / skipped.path), skipped.reason) for skipped in content.left_out]
        own = _own_results(path, content.files)
        files = [path / name for name in content.sounds if name not in own]
        if not files:
            reasons = "".join(f"; {skipped.path} {skipped.reason}" for skipped in left_out)
            raise SepnetError(
                f"there is no sound file in {path}: give a folder with {sorted(audio.SUFFIXES)}{reasons}"
            )
        for file in files:
            parent = file.parent if out is None else Path(out) / file.parent.relative_to(path)
            yield Recording(file, parent, file.stem)
    elif not os.path.exists(path) and glob.has_magic(word):  # noqa: PTH110
        matches = sorted(Path(name) for name in glob.glob(word, recursive=True))  # noqa: PTH207 (any root)
        files = [file for file in matches if not file.is_dir()]
        if not files:
            raise SepnetError(f"no file matches {word}: check the pattern")
        for file in files:
            yield Recording(file, Path(out) if out else file.parent, file.stem)
    else:
        audio.check_exists(path)
        yield Recording(path, Path(out) if out else path.parent, path.stem)


def check_name(recording: Recording) -> None:
    """Raise SepnetError for a name that is too long for results."""
    exists(recording.record)


def _save_stdin(folder: Path) -> Path:
    """Standard input as a file, because sound files are not read from front to back only."""
    file = folder / "stdin.wav"
    with file.open("wb") as stream:
        # read1 returns with what there is, so that a signal is noticed before the next wait for more.
        while block := cast(io.BufferedReader, sys.stdin.buffer).read1(STDIN_BYTES):
            stream.write(block)
        if stream.tell() == 0:
            raise SepnetError("standard input is empty: did the program before it fail?")
    return file


def _own_results(folder: Path, files: Sequence[str]) -> set[str]:
    """Which files of a folder sepnet wrote, by its records among them."""
    results: set[str] = set()
    for file in map(PurePosixPath, files):
        if file.name == EVENT:
            results |= {str(file.parent / part) for part in EVENT_PARTS}
        elif file.name.endswith(RECORD_SUFFIX):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                names = json.loads((folder / file).read_text())["files"]
                results |= {str(file.parent / name) for name in names}
    return results
