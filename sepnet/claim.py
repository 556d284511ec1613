"""Temporary files and folders that a killed process can't keep.

The name of a temporary file follows from that of the file it is for, and a lock, which ends with the process
that holds it, says whether anyone still writes there. So the next write removes what a killed process left.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows what a killed process leaves stays there
    fcntl = None  # type: ignore[assignment]

# Of disks on a network that have none.
NO_LOCKS = (
    errno.ENOLCK,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EINVAL,
)
PART, OLD = ".part", ".old"  # the suffixes of what is being written, and of what it replaces


class NoLocksError(Exception):
    """The disk or the system has no locks that end with the process that holds them."""


@contextmanager
def claimed(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """Provide an empty file or folder beside a path that no other process takes, and remove leftovers.

    Args:
        path: What it is for.
        is_folder: Whether a folder is provided.

    Yields:
        Its path, of the same folder and thus of the same disk.
    """
    name = f"{path.name}{'/' if is_folder else ''}"
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    try:
        for number in itertools.count():
            temporary = path.with_name(f".{digest}-{number}{PART}")
            descriptor = _take(temporary, is_folder=is_folder)
            if descriptor is not None:
                break
    except NoLocksError:
        _remove(temporary)
        temporary = path.with_name(f".{digest}-{secrets.token_hex(6)}{PART}")
        if is_folder:
            temporary.mkdir()
        yield temporary
        return
    assert descriptor is not None
    try:
        _restore(temporary.with_suffix(OLD), path)
        for further in itertools.count(number + 1):  # of writes that happened at the same time
            leftover = path.with_name(f".{digest}-{further}{PART}")
            if not leftover.exists():
                break
            if (other := _lock(leftover)) is not None:
                _restore(leftover.with_suffix(OLD), path)
                _remove(leftover)
                os.close(other)
        yield temporary
    finally:
        os.close(descriptor)


def _take(temporary: Path, *, is_folder: bool) -> int | None:
    """Make a temporary file or folder, or empty that of a killed process, and lock it; None: it is in use."""
    while True:
        if is_folder:
            with contextlib.suppress(FileExistsError):
                temporary.mkdir()
        else:
            os.close(os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666))
        descriptor = _lock(temporary)
        if descriptor is None and temporary.exists():
            return None
        if descriptor is not None:
            break
    if is_folder:
        for leftover in temporary.iterdir():
            _remove(leftover)
    else:
        os.truncate(temporary, 0)
    return descriptor


def _lock(path: Path) -> int | None:
    """Lock a file or a folder until the descriptor is closed; None: another process holds it, or it is gone.

    Raises NoLocksError where there are no such locks.
    """
    if fcntl is None:
        raise NoLocksError
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except OSError as error:
        if error.errno in NO_LOCKS:
            os.close(descriptor)
            raise NoLocksError from error
    os.close(descriptor)
    return None


def _restore(previous: Path, path: Path) -> None:
    """Put the content of a folder back whose replacement was killed halfway, or remove what it replaced."""
    if previous.is_dir():
        if path.exists():
            shutil.rmtree(previous, ignore_errors=True)
        else:
            previous.rename(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a folder in the system's folder for temporary files, and delete it in the end.

    Those that killed processes have left there are deleted, too.

    Args:
        prefix: With which the names of such folders begin.

    Yields:
        The folder, which no other user can read.
    """
    for other in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError, NoLocksError):  # OSError: it is another user's
            _remove_abandoned(other, other)
    descriptor = None
    while descriptor is None:
        folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
        try:
            descriptor = _lock(folder)  # None: another process took it for an abandoned one and deletes it
        except NoLocksError:
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def remove_abandoned(folder: Path, lock: str) -> None:
    """Delete a folder that a killed process has left, unless another process works in it.

    Args:
        folder: The folder; it need not exist.
        lock: The name of the file in it that a process at work holds locked.
    """
    with contextlib.suppress(OSError, NoLocksError):
        if folder.is_dir() and not (folder / lock).exists():
            shutil.rmtree(folder)
        _remove_abandoned(folder, folder / lock)


def _remove_abandoned(folder: Path, lock: Path) -> None:
    """Delete a folder unless another process holds its lock."""
    if (descriptor := _lock(lock)) is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
