"""Copies of files in stores while they are used, and messages that show their URLs in place of the copies."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, cast

from sepnet import remote
from sepnet.claim import temporary_folder
from sepnet.remote import RemoteFile
from sepnet.remote_folder import stored_folder
from sepnet.types import SepnetError
from sepnet.urls import parent_url, shown

PREFIX = "sepnet-store-"  # of temporary folders


class RecordingError(SepnetError):
    """One recording cannot be separated; others may be."""


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """Provide a local copy of a file in a store; errors within the context show its URL.

    Args:
        url: Its URL.

    Raises:
        SepnetError: It can't be read.
    """
    source = remote.describe(url)
    if problem := problem_of(source):
        raise SepnetError(problem)
    with temporary_folder(PREFIX) as folder, showing({str(folder): shown(parent_url(url))}):
        remote.fetch(source, folder / source.name)
        yield folder / source.name


@contextmanager
def showing(names: Mapping[str, str]) -> Iterator[None]:
    """Show other names instead of the paths of temporary folders, in what is printed and in errors.

    Args:
        names: {path of a folder: what is shown instead}.

    Raises:
        RecordingError: The context raised a SepnetError or an OSError.
    """
    out, err = cast(Any, _Renaming(sys.stdout, names)), cast(Any, _Renaming(sys.stderr, names))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    except (SepnetError, OSError) as error:
        raise RecordingError(replaced(str(error), names)) from error


@contextmanager
def results_folder(place: Path | str) -> Iterator[Path]:
    """Open a folder of results; of one in a store a copy, which messages call by its URL.

    Args:
        place: The folder, or its URL. What is written into the copy is put there as ``stored_folder`` does.

    Yields:
        The folder on this machine.

    Raises:
        SepnetError: The store can't be read or written to.
    """
    if isinstance(place, Path):
        yield place
        return
    with stored_folder(place) as folder, showing({str(folder): shown(place)}):
        yield folder


class _Renaming:
    """A stream that writes other names instead of those of temporary folders."""

    def __init__(self, stream: Any, names: Mapping[str, str]) -> None:
        self._stream, self._names = stream, names

    def write(self, text: str) -> int:
        return int(self._stream.write(replaced(text, self._names)) or 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def replaced(text: str, names: Mapping[str, str]) -> str:
    """Return a text with other names instead of the paths of folders, as ``showing`` has them."""
    for path, name in names.items():
        text = text.replace(path, name)
    return text


def problem_of(source: RemoteFile) -> str:
    """Why a file in a store can't be read, as far as that is known; empty if nothing is."""
    return f"{shown(source.url)} is a folder: give a file" if source.is_folder else source.problem
