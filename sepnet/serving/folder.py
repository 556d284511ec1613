"""The private folder for what the page and Gradio's client upload; everything else stays in memory."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from sepnet.data.audio import SUFFIXES
from sepnet.serving.limits import MB, Limits


@runtime_checkable
class Readable(Protocol):
    """What an upload is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        ...


class UploadFolder:
    """A folder that no other user can look into, emptied of what is old, and removed at the end."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.path = Path(tempfile.mkdtemp(prefix="sepnet-serve-")).resolve()  # mode 0700
        self._kept = self.path / "kept"
        self._kept.mkdir()

    def keep(self, name: str, data: bytes) -> Path:
        """A file of the server's own, such as an example, which is never swept."""
        path = self._kept / name
        path.write_bytes(data)
        return path

    def store(self, stream: Readable, suffix: str) -> Path:
        """A new file with what an upload holds, under a name of our own; an unknown suffix is dropped."""
        path = (
            self.path
            / secrets.token_urlsafe(16)
            / f"sound{suffix.lower() if suffix.lower() in SUFFIXES else ''}"
        )
        path.parent.mkdir(mode=0o700)
        with path.open("xb") as file:
            shutil.copyfileobj(stream, file)
        return path

    def holds(self, path: str | Path) -> bool:
        """Whether a path, with its links followed, is a file in the folder."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: a null byte
            resolved = Path(path).resolve(strict=True)
            return resolved.is_file() and resolved.is_relative_to(self.path)
        return False

    def read(self, path: str | Path) -> bytes:
        """The bytes of an upload. Raises FileNotFoundError outside of the folder, too."""
        if not self.holds(path):
            raise FileNotFoundError(path)
        return Path(path).read_bytes()

    def remove(self, path: str | Path | None) -> None:
        """Delete an upload and its own folder."""
        if path is None or not self.holds(path) or Path(path).is_relative_to(self._kept):
            return
        Path(path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            if Path(path).parent != self.path:
                Path(path).parent.rmdir()

    def is_full(self) -> bool:
        """Whether further uploads have to wait."""
        return sum(_bytes(path) for path in self._files()) > self._limits.folder_mb * MB

    def sweep(self) -> None:
        """Delete what is older than the limit allows."""
        latest = time.time() - 60 * self._limits.keep_minutes
        for path in self._files():
            with contextlib.suppress(OSError):  # another request was faster
                if path.stat().st_mtime < latest:
                    self.remove(path)

    def _files(self) -> list[Path]:
        """What is in it at this moment; os.walk does not mind what vanishes meanwhile."""
        return [Path(place, name) for place, _, names in os.walk(self.path) for name in names]

    def close(self) -> None:
        """Delete it."""
        shutil.rmtree(self.path, ignore_errors=True)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
