"""The queue of requests: a few are computed at the same time, a limited number waits, others are refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sepnet.serving.limits import Limits
from sepnet.types import SepnetError

Result = TypeVar("Result")
IsDisconnected = Callable[[], Awaitable[bool]]
ReportProgress = Callable[[bool, float], None]
POLL_SECONDS = 0.25  # between two checks of a waiting request


class ServerBusy(SepnetError):  # noqa: N818 (a state of the server, not a fault of the request)
    """The server has no capacity now; the same request may be served later."""


class ClientLeft(Exception):  # noqa: N818
    """The client disconnected while its request was waiting."""


class JobQueue:
    """Runs jobs in its own threads, ``limits.jobs`` at a time, in the order of arrival.

    It belongs to one event loop; waiting requests use no thread.

    Args:
        limits: The numbers of running and waiting jobs, and the waiting time.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.jobs)
        self._threads = ThreadPoolExecutor(limits.jobs, thread_name_prefix="job")
        self.n_waiting = 0

    async def run(
        self,
        job: Callable[[], Result],
        *,
        is_disconnected: IsDisconnected | None = None,
        report: ReportProgress | None = None,
    ) -> Result:
        """Run a job as soon as a thread is free.

        Args:
            job: The job; it is called in a thread.
            is_disconnected: Tells whether the client has disconnected, which ends the waiting.
            report: Called every quarter of a second with whether the job has begun, and the seconds since it
                began, or since it started to wait.

        Returns:
            The result of the job. An exception of the job is raised again.

        Raises:
            ServerBusy: Too many requests are waiting, or no job ended in time.
            ClientLeft: The client disconnected before the job began.
        """
        if self._slots.locked() and self.n_waiting >= self._limits.waiting:
            raise ServerBusy(f"{self.n_waiting} requests are waiting already: try again in a minute")
        self.n_waiting += 1
        try:
            await self._acquire_slot(is_disconnected, report)
        finally:
            self.n_waiting -= 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, job)
        # The awaiting task may be cancelled; the thread goes on, so the slot is released when it ends.
        future.add_done_callback(lambda _: self._slots.release())
        begin = time.monotonic()
        while not (await asyncio.wait({future}, timeout=POLL_SECONDS))[0]:
            if report is not None:
                report(True, time.monotonic() - begin)
        return future.result()

    def close(self) -> None:
        """Start no further jobs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _acquire_slot(
        self, is_disconnected: IsDisconnected | None, report: ReportProgress | None
    ) -> None:
        slot, begin = asyncio.ensure_future(self._slots.acquire()), time.monotonic()
        try:
            while not (await asyncio.wait({slot}, timeout=POLL_SECONDS))[0]:
                seconds = time.monotonic() - begin
                if is_disconnected is not None and await is_disconnected():
                    raise ClientLeft
                if seconds > self._limits.wait_seconds:
                    raise ServerBusy(
                        f"no job ended within {self._limits.wait_seconds:g} s: try again in a minute"
                    )
                if report is not None:
                    report(False, seconds)
        except BaseException:
            if not slot.cancel():  # it was acquired at the last moment
                self._slots.release()
            raise
