"""The recordings that a command is given: files, folders, patterns, standard input; result names."""

from __future__ import annotations

import contextlib
import glob
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepnet.data import audio
from sepnet.types import SepnetError

RECORD = "_separation.json"  # after the stem of the recording
EVENT, EVENT_PARTS = "event.json", ("target.wav", "residual.wav")  # in a folder of their own
STDIN = "-"


@dataclass(frozen=True)
class Recording:
    """A sound file, and the folder and the first part of the name of what comes of it."""

    file: Path
    folder: Path
    stem: str

    @property
    def record(self) -> Path:
        """Where it is written how it was separated."""
        return self.folder / f"{self.stem}{RECORD}"


@contextlib.contextmanager
def recordings(words: Sequence[str | Path], out: str | Path | None) -> Iterator[tuple[Recording, ...]]:
    """The recordings that the words mean.

    A folder stands for the sound files in it and below, but for those that sepnet wrote itself; a word with
    ``*``, ``?`` or ``[`` that is no file for those that fit; ``-`` for standard input, a copy of which is
    kept until the end. out: the folder for the results, in which the folders of folders are made again;
    None: beside each file. Raises SepnetError for what is no sound file, before anything is done, and for two
    recordings whose results would have the same names.
    """
    with contextlib.ExitStack() as stack:
        found = [recording for word in words for recording in _meant(str(word), out, stack)]
        if not found:
            raise SepnetError("no sound file was given: python scripts/separate.py mix.wav")
        named: dict[Path, Recording] = {}
        for recording in found:
            other = named.setdefault(recording.record.absolute(), recording)
            if other.file.resolve() != recording.file.resolve():
                raise SepnetError(
                    f"{other.file} and {recording.file} would both become "
                    f"{recording.folder}/{recording.stem}_*: separate them into different folders (out=)"
                )
            _check_name(recording.file)
            audio.info(recording.file)
        yield tuple(named.values())


def _meant(word: str, out: str | Path | None, stack: contextlib.ExitStack) -> Iterator[Recording]:
    if not word:
        raise SepnetError("one of the files has no name: is a variable of the shell empty?")
    path = Path(word)
    if word == STDIN:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield Recording(_kept(folder), Path(out or "."), "stdin")
    elif path.is_dir():
        there = sorted(file for file in path.rglob("*") if file.suffix.lower() in audio.SUFFIXES)
        ours = _written_by_us(path)
        files = [file for file in there if file.absolute() not in ours and not file.name.startswith(".")]
        files = [file for file in files if file.is_file()]  # no folders, and no links to nothing
        if not files:
            raise SepnetError(
                f"there is no sound file in {path}: give a folder with {sorted(audio.SUFFIXES)}"
            )
        for file in files:
            parent = file.parent if out is None else Path(out) / file.parent.relative_to(path)
            yield Recording(file, parent, file.stem)
    elif not path.exists() and glob.has_magic(word):
        fitting = sorted(Path(name) for name in glob.glob(word, recursive=True))  # noqa: PTH207 (any root)
        files = [file for file in fitting if file.is_file()]
        if not files:
            raise SepnetError(f"no file fits {word}: check the pattern")
        for file in files:
            yield Recording(file, Path(out) if out else file.parent, file.stem)
    else:
        yield Recording(path, Path(out) if out else path.parent, path.stem)


def _check_name(file: Path) -> None:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        told = str(file).encode(errors="replace").decode()
        raise SepnetError(f"the name of {told} is no UTF-8: rename the file") from None


def _kept(folder: Path) -> Path:
    """Standard input as a file, for sound files are not read from front to back alone."""
    file = folder / "stdin.wav"
    with file.open("wb") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    return file


def _written_by_us(folder: Path) -> set[Path]:
    """The sound files that records in a folder name as their own."""
    written = {event.parent.absolute() / part for event in folder.rglob(EVENT) for part in EVENT_PARTS}
    for record in folder.rglob(f"*{RECORD}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            names = json.loads(record.read_text())["files"]
            written |= {(record.parent / name).absolute() for name in names}
    return written
