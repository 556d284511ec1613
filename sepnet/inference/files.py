"""The recordings that a command is given: files, folders, patterns, standard input; and where results go."""

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

RECORD_SUFFIX = "_separation.json"  # after the stem of the recording
EVENT, EVENT_PARTS = "event.json", ("target.wav", "residual.wav")  # in a folder of their own
STDIN = "-"


@dataclass(frozen=True)
class Recording:
    """A sound file, and where its results go.

    Attributes:
        file: The sound file.
        folder: Of the results.
        stem: With which their names begin.
    """

    file: Path
    folder: Path
    stem: str

    @property
    def record(self) -> Path:
        """The file that tells how the recording was separated."""
        return self.folder / f"{self.stem}{RECORD_SUFFIX}"


@contextlib.contextmanager
def recordings(words: Sequence[str | Path], out: str | Path | None) -> Iterator[tuple[Recording, ...]]:
    """The recordings that the words of a command line name.

    Args:
        words: Sound files; folders, for all sound files in them and below but those that sepnet wrote;
            patterns with ``*``, ``?`` or ``[``; ``-`` for standard input, which is copied until the context
            ends.
        out: The folder of the results, which repeats the folders of a folder; None: beside each file.

    Yields:
        The recordings, each once.

    Raises:
        SepnetError: A word names no sound file, or the results of two recordings would have the same names.
    """
    with contextlib.ExitStack() as stack:
        found = [recording for word in words for recording in _expand(str(word), out, stack)]
        if not found:
            raise SepnetError("no sound file was given: name one, such as mix.wav")
        unique: dict[Path, Recording] = {}
        for recording in found:
            other = unique.setdefault(recording.record.absolute(), recording)
            if other.file.resolve() != recording.file.resolve():
                raise SepnetError(
                    f"{other.file} and {recording.file} would both become "
                    f"{recording.folder}/{recording.stem}_*: separate them into different folders (out=)"
                )
            _check_name(recording.file)
            audio.info(recording.file)
        yield tuple(unique.values())


def _expand(word: str, out: str | Path | None, stack: contextlib.ExitStack) -> Iterator[Recording]:
    if not word:
        raise SepnetError("one of the files has no name: is a variable of the shell empty?")
    path = Path(word)
    if word == STDIN:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield Recording(_save_stdin(folder), Path(out or "."), "stdin")
    elif path.is_dir():
        sounds = sorted(file for file in path.rglob("*") if file.suffix.lower() in audio.SUFFIXES)
        own = _own_results(path)
        files = [file for file in sounds if file.absolute() not in own and not file.name.startswith(".")]
        files = [file for file in files if file.is_file()]  # no folders, and no dangling links
        if not files:
            raise SepnetError(
                f"there is no sound file in {path}: give a folder with {sorted(audio.SUFFIXES)}"
            )
        for file in files:
            parent = file.parent if out is None else Path(out) / file.parent.relative_to(path)
            yield Recording(file, parent, file.stem)
    elif not path.exists() and glob.has_magic(word):
        matches = sorted(Path(name) for name in glob.glob(word, recursive=True))  # noqa: PTH207 (any root)
        files = [file for file in matches if file.is_file()]
        if not files:
            raise SepnetError(f"no file matches {word}: check the pattern")
        for file in files:
            yield Recording(file, Path(out) if out else file.parent, file.stem)
    else:
        yield Recording(path, Path(out) if out else path.parent, path.stem)


def _check_name(file: Path) -> None:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        name = str(file).encode(errors="replace").decode()
        raise SepnetError(f"the name of {name} is not UTF-8: rename the file") from None


def _save_stdin(folder: Path) -> Path:
    """Standard input as a file, because sound files are not read from front to back only."""
    file = folder / "stdin.wav"
    with file.open("wb") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    return file


def _own_results(folder: Path) -> set[Path]:
    """The sound files in a folder that sepnet wrote, by its records."""
    results = {event.parent.absolute() / part for event in folder.rglob(EVENT) for part in EVENT_PARTS}
    for record in folder.rglob(f"*{RECORD_SUFFIX}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            names = json.loads(record.read_text())["files"]
            results |= {(record.parent / name).absolute() for name in names}
    return results
