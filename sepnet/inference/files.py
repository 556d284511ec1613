"""The recordings of a command: files, folders, patterns, URLs, standard input; and where results go."""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import cast

from sepnet import remote
from sepnet.atomic import exists
from sepnet.claim import temporary_folder
from sepnet.data import audio
from sepnet.data.manifest import SkippedFile
from sepnet.data.sound_files import is_hidden, is_sound, list_folder, match_pattern
from sepnet.paths import real
from sepnet.remote import RemoteFile
from sepnet.types import SepnetError
from sepnet.urls import is_url, join_url, path_or_url, shown, split_pattern

RECORD_SUFFIX = "_separation.json"  # after the stem of the recording
EVENT, EVENT_PARTS = "event.json", ("target.wav", "residual.wav")  # in a folder of their own
STDIN, STDIN_PREFIX = "-", "sepnet-stdin-"
STDIN_BYTES = 1 << 16  # that are read at once at most


@dataclass(frozen=True)
class Recording:
    """A sound file, and where its results go.

    Attributes:
        file: The sound file; of one in a store, until it is fetched, the name alone.
        folder: Of the results; of results that go to a store, until they are staged, below ``destination``.
        stem: With which their names begin.
        n_sources: Of this recording; None: as for all.
        query: A sound file with the example to go by in this recording; None: as for all, or not yet fetched.
        source: The sound file in a store; None: ``file`` is on this machine.
        query_source: The example in a store.
        destination: The URL of the folder of all results; None: they stay on this machine.
    """

    file: Path
    folder: Path
    stem: str
    n_sources: int | None = None
    query: Path | None = None
    source: RemoteFile | None = None
    query_source: RemoteFile | None = None
    destination: str | None = None

    @property
    def name(self) -> str:
        """The path or the URL of the sound file, as it is shown."""
        return str(self.file) if self.source is None else shown(self.source.url)

    @property
    def output(self) -> str:
        """Folder and stem of the results, as they are shown."""
        place = str(self.folder / self.stem)
        return place if self.destination is None else shown(join_url(self.destination, place))

    @property
    def is_local(self) -> bool:
        """Whether all its files are on this machine."""
        return self.source is None and self.query_source is None and self.destination is None

    @property
    def n_bytes(self) -> int:
        """The size of the sound file."""
        return self.file.stat().st_size if self.source is None else self.source.n_bytes

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
            patterns with ``*``, ``?`` or ``[``; URLs of files and folders, and patterns of URLs with ``*`` or
            ``[``; ``-`` for standard input, which is copied until the context ends.
        out: The folder or the URL of the results, which repeats the folders of a folder; None: beside each
            file.

    Raises:
        SepnetError: A word names no file, or the results of two recordings would have the same names.
    """
    with contextlib.ExitStack() as stack:
        left_out: list[SkippedFile] = []
        destination = str(out) if out is not None and is_url(out) else None
        folder = out if destination is None else Path()
        found = [recording for word in words for recording in _expand(str(word), folder, stack, left_out)]
        if not found:
            raise SepnetError("no sound file was given: name one, such as mix.wav")
        if destination is not None:
            found = [replace(recording, destination=destination) for recording in found]
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
        if other is not recording and _identity(other) != _identity(recording):
            raise SepnetError(
                f"{other.name} and {recording.name} would both become {recording.output}_*: {remedy}"
            )
    return tuple(by_record.values())


def _identity(recording: Recording) -> Path | str:
    return real(recording.file) if recording.source is None else recording.source.url


def _expand(
    word: str, out: str | Path | None, stack: contextlib.ExitStack, left_out: list[SkippedFile]
) -> Iterator[Recording]:
    """The recordings that a word names; what is left out of a folder is added to ``left_out``."""
    if not word:
        raise SepnetError("one of the files has no name: is a variable of the shell empty?")
    place = path_or_url(word)
    if isinstance(place, str):
        yield from _expand_url(place, out, left_out)
        return
    path = place
    if word == STDIN:
        folder = stack.enter_context(temporary_folder(STDIN_PREFIX))
        yield Recording(_save_stdin(folder), Path(out or "."), "stdin")
    elif os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises for long names)
        content = list_folder(path)
        left_out += [SkippedFile(str(path / skipped.path), skipped.reason) for skipped in content.left_out]
        own = _own_results(content.files, lambda name: (path / name).read_text())
        files = [path / name for name in content.sounds if name not in own]
        if not files:
            reasons = "".join(f"; {skipped.path} {skipped.reason}" for skipped in left_out)
            raise SepnetError(
                f"there is no sound file in {path}: give a folder with {sorted(audio.SUFFIXES)}{reasons}"
            )
        for file in files:
            parent = file.parent if out is None else Path(out) / file.parent.relative_to(path)
            yield Recording(file, parent, file.stem)
    elif not os.path.exists(path) and glob.has_magic(str(path)):  # noqa: PTH110
        matches, skipped_files = match_pattern(path)
        left_out += sorted(skipped_files, key=lambda skipped: skipped.path)
        files = sorted(file for file in matches if not file.is_dir())
        if not files:
            raise SepnetError(f"no file matches {word}: check the pattern")
        for file in files:
            yield Recording(file, Path(out) if out else file.parent, file.stem)
    else:
        audio.check_exists(path)
        yield Recording(path, Path(out) if out else path.parent, path.stem)


def _expand_url(url: str, out: str | Path | None, left_out: list[SkippedFile]) -> Iterator[Recording]:
    """The recordings at a URL; what is left out of a folder is added to ``left_out``."""
    if out is None:
        raise SepnetError(f"the results of {shown(url)} need a folder: give out=separated, or a URL")
    pattern = split_pattern(url) if any(sign in url for sign in "*[") else None
    [source] = remote.describe_all([url])
    if source.problem and pattern is not None:
        yield from _expand_url_pattern(url, *pattern, Path(out))
    elif source.is_folder:
        yield from _expand_url_folder(url, Path(out), left_out)
    else:
        yield Recording(Path(source.name), Path(out), PurePosixPath(source.name).stem, source=source)


def _expand_url_pattern(url: str, folder: str, pattern: str, out: Path) -> Iterator[Recording]:
    files = _visible(remote.list_files(folder, pattern))
    if not files:
        raise SepnetError(f"no file matches {shown(url)}: check the pattern")
    for file in files.values():
        yield Recording(Path(file.name), out, PurePosixPath(file.name).stem, source=file)


def _expand_url_folder(url: str, out: Path, left_out: list[SkippedFile]) -> Iterator[Recording]:
    files = _visible(remote.list_files(url))
    own = _own_results(list(files), lambda name: (remote.read_bytes(files[name].url) or b"").decode())
    sounds = {name: file for name, file in files.items() if is_sound(name) and name not in own}
    if not sounds:
        raise SepnetError(
            f"there is no sound file in {shown(url)}: give a folder with {sorted(audio.SUFFIXES)}"
        )
    for name, file in sounds.items():
        path = PurePosixPath(name)
        if ".." in path.parts:
            left_out.append(SkippedFile(shown(file.url), "has .. in its name"))
        else:
            yield Recording(Path(path.name), out / path.parent, path.stem, source=file)


def _visible(files: Mapping[str, RemoteFile]) -> dict[str, RemoteFile]:
    """The files that are not hidden, nor in a hidden folder."""
    return {name: file for name, file in files.items() if not is_hidden(name)}


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


def _own_results(files: Sequence[str], read: Callable[[str], str]) -> set[str]:
    """Which files of a folder sepnet wrote, by its records among them."""
    results: set[str] = set()
    for file in map(PurePosixPath, files):
        if file.name == EVENT:
            results |= {str(file.parent / part) for part in EVENT_PARTS}
        elif file.name.endswith(RECORD_SUFFIX):
            with contextlib.suppress(OSError, SepnetError, ValueError, KeyError, TypeError):
                names = json.loads(read(str(file)))["files"]
                results |= {str(file.parent / name) for name in names}
    return results
