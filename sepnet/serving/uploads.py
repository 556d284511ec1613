"""The private folder for uploads of the page and of Gradio's client; all other data stay in memory."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from sepnet.claim import temporary_folder
from sepnet.data.audio import SUFFIXES
from sepnet.serving.limits import MB, Limits


@runtime_checkable
class Readable(Protocol):
    """A stream from which an upload is read."""

    def read(self, size: int = -1, /) -> bytes:
        """Read the next bytes."""
        ...


class UploadFolder:
    """A folder that other users can't read. Old files are deleted, and finally the folder itself.

    Those of servers that were killed are deleted when another one starts.

    Args:
        limits: The size of all uploads, and the time for which they are stored.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stack = contextlib.ExitStack()
        self.path = self._stack.enter_context(temporary_folder("sepnet-serve-"))
        self._permanent = self.path / "permanent"
        self._permanent.mkdir()

    def add_permanent(self, name: str, data: bytes) -> Path:
        """Write a file of the server itself, such as an example, which never expires.

        Args:
            name: The name of the file.
            data: Its content.

        Returns:
            Its path.
        """
        path = self._permanent / name
        path.write_bytes(data)
        return path

    def store(self, stream: Readable, suffix: str) -> Path:
        """Write an upload to a new file.

        Args:
            stream: The content of the upload.
            suffix: The suffix of the client's file name; it is left out unless it is that of a sound file.

        Returns:
            The path; nothing else of it comes from the client.
        """
        known_suffix = suffix.lower() if suffix.lower() in SUFFIXES else ""
        path = self.path / secrets.token_urlsafe(16) / f"sound{known_suffix}"
        path.parent.mkdir(mode=0o700)
        with path.open("xb") as file:
            shutil.copyfileobj(stream, file)
        return path

    def contains(self, path: str | Path) -> bool:
        """Tell whether a path, with links resolved, is a file in the folder."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: a null byte
            resolved = Path(path).resolve(strict=True)
            return resolved.is_file() and resolved.is_relative_to(self.path)
        return False

    def read(self, path: str | Path) -> bytes:
        """Read an upload.

        Args:
            path: Its path.

        Returns:
            Its content.

        Raises:
            FileNotFoundError: It does not exist, or is outside of the folder.
        """
        if not self.contains(path):
            raise FileNotFoundError(path)
        return Path(path).read_bytes()

    def remove(self, path: str | Path | None) -> None:
        """Delete an upload and the folder around it."""
        if path is None or not self.contains(path) or Path(path).is_relative_to(self._permanent):
            return
        Path(path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            if Path(path).parent != self.path:
                Path(path).parent.rmdir()

    def is_full(self) -> bool:
        """Tell whether no further upload can be accepted at the moment."""
        return sum(_size(path) for path in self._files()) > self._limits.folder_mb * MB

    def remove_expired(self) -> None:
        """Delete uploads that are older than the limit."""
        expiry = time.time() - 60 * self._limits.keep_minutes
        for path in self._files():
            with contextlib.suppress(OSError):  # another request deleted it first
                if path.stat().st_mtime < expiry:
                    self.remove(path)

    def _files(self) -> list[Path]:
        """All files at this moment; os.walk tolerates files that vanish meanwhile."""
        return [Path(folder, name) for folder, _, names in os.walk(self.path) for name in names]

    def close(self) -> None:
        """Delete the folder."""
        self._stack.close()


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
