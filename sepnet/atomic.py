"""Write files and folders whole or not at all.

A reader never finds half a file, and a failed write leaves nothing behind. What a killed process leaves is
removed by the next write of the same file (see ``sepnet.claim``). A write that the system refuses (a full
disk, a folder without permission, a name that is too long) raises a SepnetError that names the place and the
remedy, so that callers need no handling of their own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sepnet.claim import OLD, claimed
from sepnet.types import SepnetError

TERMINATED_STATUS = 143  # 128 + SIGTERM


@contextmanager
def replacing(
    path: str | Path, *, temporary_name: str | None = None, durable: bool = False
) -> Iterator[Path]:
    """Provide a temporary path beside a file, moved over it if the block succeeds and removed if not.

    Args:
        path: The file to write; missing folders above it are made, and removed again if the block fails.
        temporary_name: The name of the temporary file, where only one process at a time may write. None for
            one that no other process takes.
        durable: Whether the content is on the disk before the file is moved, so that it survives a power cut.

    Yields:
        The path to write to, of the same folder and thus of the same disk.

    Raises:
        SepnetError: The block or the move raised an OSError.

    Example:
        >>> with replacing("results.json") as temporary:
        ...     temporary.write_text("{}")
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_explained(path))
        stack.enter_context(parents_of(path))
        if temporary_name is None:
            temporary = stack.enter_context(claimed(path, is_folder=False))
        else:
            temporary = path.with_name(temporary_name)
        try:
            yield temporary
            if durable:
                _sync(temporary)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Provide a new folder beside a folder, put in its place if the block succeeds and removed if not.

    Args:
        path: The folder to write. Its previous content is deleted, but stays if the block fails. Where a
            process was killed between the two, the next write begins with putting it back.

    Yields:
        The empty folder to fill.

    Raises:
        SepnetError: The block or the move raised an OSError.
    """
    path = Path(path)
    with _explained(path), parents_of(path), claimed(path, is_folder=True) as temporary:
        previous = temporary.with_suffix(OLD)
        try:
            yield temporary
            if path.exists():
                path.rename(previous)
            try:
                temporary.rename(path)
            except OSError:
                if previous.exists():
                    previous.rename(path)
                raise
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        shutil.rmtree(previous, ignore_errors=True)


@contextmanager
def new_folder(path: str | Path, kind: str) -> Iterator[Path]:
    """Provide a folder to fill, which gets its name, one that no folder has yet, if the block succeeds.

    Args:
        path: The folder to make.
        kind: What such folders have in common, whose names differ: what a killed process left of one is
            removed by the next write of another of the kind beside it.

    Yields:
        The empty folder to fill.

    Raises:
        FolderExistsError: Meanwhile another process has made a folder of that name.
        SepnetError: The block or the move raised another OSError.
    """
    path = Path(path)
    with _explained(path), parents_of(path), claimed(path.with_name(kind), is_folder=True) as temporary:
        try:
            yield temporary
            temporary.rename(path)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FolderExistsError(f"{path} exists already: give another name") from error
            raise


class FolderExistsError(SepnetError):
    """Another process has made the folder."""


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all.

    Args:
        path: The file.
        text: Its content.

    Raises:
        SepnetError: The file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file of bytes, whole or not at all.

    Args:
        path: The file.
        data: Its content.

    Raises:
        SepnetError: The file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def exists(path: str | Path) -> bool:
    """Whether there is anything at a path that is to be written, a link to nothing included.

    Raises:
        SepnetError: Nothing can ever be there, as where the name is too long.
    """
    path = Path(path)
    with _explained(path):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            _check_length(path)
            return False
        return True


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program like Ctrl-C does: temporary files are removed on the way out.

    Only the main thread may receive signals; in others nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED_STATUS))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _sync(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an OSError into a SepnetError about ``path``."""
    try:
        yield
    except OSError as error:
        raise SepnetError(f"can't write {path}: {error.strerror or error}; {_remedy(error, path)}") from error


@contextmanager
def parents_of(path: Path) -> Iterator[None]:
    """Make the folders above a path, and remove those that are still empty if the block fails.

    Args:
        path: A path in the deepest of the folders.
    """
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        remove_empty(missing)
        raise


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of some folders, the deepest first, that are empty: others may have been written into."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _check_length(path: Path) -> None:
    """Raise OSError for a name that is too long, which the system says only where the folder exists."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if len(os.fsencode(path.name)) > os.pathconf(folder, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def _remedy(error: OSError, path: Path) -> str:
    if error.errno == errno.ENAMETOOLONG:
        longest = max(len(part.encode()) for part in path.parts)
        return f"give a name shorter than its {longest} bytes"
    # Path.is_dir raises where a folder above is closed.
    folder = next((parent for parent in path.parents if os.path.isdir(parent)), Path("/"))  # noqa: PTH112
    megabytes = shutil.disk_usage(folder).free / 1e6
    return f"{megabytes:.0f} MB are free there: make room, or choose a folder that you may write to"
