"""Store the files of results in memory, for a limited time, under tokens that can't be guessed."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping

from sepnet.serving.limits import MB, Limits
from sepnet.types import SepnetError


class ResultStore:
    """Files by token, in memory; the oldest results make room for new ones.

    Args:
        limits: The size of all results, and the time for which they are stored.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._stored: OrderedDict[str, tuple[float, Mapping[str, bytes]]] = OrderedDict()

    def put(self, files: Mapping[str, bytes]) -> str:
        """Store the files of a result.

        Args:
            files: {file name: content}.

        Returns:
            The token for fetching them.

        Raises:
            SepnetError: The files are too large.
        """
        size, max_size = _size(files), self._limits.results_mb * MB
        if size > max_size:
            raise SepnetError(
                f"the result takes {size / MB:.0f} MB, but {max_size / MB:.0f} MB are allowed: "
                "send a shorter recording"
            )
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._discard(max_size - size)
            self._stored[token] = time.monotonic(), files
        return token

    def get(self, token: str) -> Mapping[str, bytes] | None:
        """Return the files of a token; None if the token is unknown or has expired."""
        with self._lock:
            self._discard(self._limits.results_mb * MB)
            entry = self._stored.get(token)
        return None if entry is None else entry[1]

    def _discard(self, max_size: float) -> None:
        """Discard expired results, and the oldest until the others take at most ``max_size`` bytes."""
        expiry = time.monotonic() - 60 * self._limits.keep_minutes
        size = sum(_size(files) for _, files in self._stored.values())
        while self._stored:
            token, (stored_at, files) = next(iter(self._stored.items()))
            if stored_at >= expiry and size <= max_size:
                return
            size -= _size(files)
            del self._stored[token]


def _size(files: Mapping[str, bytes]) -> int:
    return sum(map(len, files.values()))
