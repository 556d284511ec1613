"""What was separated, kept in memory for a while under a name that can't be guessed."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping

from sepnet.serving.limits import MB, Limits
from sepnet.types import SepnetError


class Shelf:
    """Results by token, each a few files in memory; the oldest make room for new ones."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Mapping[str, bytes]]] = OrderedDict()

    def put(self, files: Mapping[str, bytes]) -> str:
        """Keep files by their names; returns the token. Raises SepnetError where they are too large."""
        size, most = _size(files), self._limits.results_mb * MB
        if size > most:
            raise SepnetError(
                f"the result takes {size / MB:.0f} MB, of {most / MB:.0f} MB at the most: "
                "give a shorter sound"
            )
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._forget(most - size)
            self._kept[token] = time.monotonic(), files
        return token

    def get(self, token: str) -> Mapping[str, bytes] | None:
        """The files of a token; None where there are none, or no longer."""
        with self._lock:
            self._forget(self._limits.results_mb * MB)
            found = self._kept.get(token)
        return None if found is None else found[1]

    def _forget(self, room: float) -> None:
        """Drop what is too old, and the oldest until the rest takes no more than ``room`` bytes."""
        latest = time.monotonic() - 60 * self._limits.keep_minutes
        used = sum(_size(files) for _, files in self._kept.values())
        while self._kept:
            token, (begin, files) = next(iter(self._kept.items()))
            if begin >= latest and used <= room:
                return
            used -= _size(files)
            del self._kept[token]


def _size(files: Mapping[str, bytes]) -> int:
    return sum(map(len, files.values()))
