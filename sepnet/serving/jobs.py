"""Who computes when: a few at once, a queue of those who wait, and a sentence for those who can't."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sepnet.serving.limits import Limits
from sepnet.types import SepnetError

Result = TypeVar("Result")
LOOK_SECONDS = 0.25  # so often a waiting request is asked whether its client is still there


class Busy(SepnetError):  # noqa: N818 (a state of the server, not a fault of the request)
    """The server has no room now: the same request may be served later."""


class Gone(Exception):  # noqa: N818
    """The client left while it was waiting."""


class Jobs:
    """Runs work in threads of its own, ``limits.jobs`` at once, first come first served.

    It belongs to one event loop; what waits there costs no thread.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.jobs)
        self._threads = ThreadPoolExecutor(limits.jobs, thread_name_prefix="job")
        self.waiting = 0

    async def run(
        self,
        work: Callable[[], Result],
        *,
        gone: Callable[[], Awaitable[bool]] | None = None,
        tell: Callable[[bool, float], None] | None = None,
    ) -> Result:
        """What ``work`` returns, or raises.

        gone: tells that the client left, which ends the waiting by Gone. tell: called every quarter of a
        second with whether the work has begun, and the seconds since then, or since it waits. Raises Busy
        where too many wait already, and where none has ended in time.
        """
        if self._turns.locked() and self.waiting >= self._limits.waiting:
            raise Busy(f"{self.waiting} requests are waiting already: try again in a minute")
        self.waiting += 1
        try:
            await self._turn(gone, tell)
        finally:
            self.waiting -= 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # Whoever waits for it may be cancelled; the thread goes on, and so its turn ends with the thread.
        future.add_done_callback(lambda _: self._turns.release())
        begin = time.monotonic()
        while not (await asyncio.wait({future}, timeout=LOOK_SECONDS))[0]:
            if tell is not None:
                tell(True, time.monotonic() - begin)
        return future.result()

    def close(self) -> None:
        """Let no further work begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _turn(
        self, gone: Callable[[], Awaitable[bool]] | None, tell: Callable[[bool, float], None] | None
    ) -> None:
        turn, begin = asyncio.ensure_future(self._turns.acquire()), time.monotonic()
        try:
            while not (await asyncio.wait({turn}, timeout=LOOK_SECONDS))[0]:
                waited = time.monotonic() - begin
                if gone is not None and await gone():
                    raise Gone
                if waited > self._limits.wait_seconds:
                    raise Busy(f"no turn came within {self._limits.wait_seconds:g} s: try again in a minute")
                if tell is not None:
                    tell(False, waited)
        except BaseException:
            if not turn.cancel():  # it came at the last moment
                self._turns.release()
            raise
