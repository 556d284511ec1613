"""``engine=local``: this process, or a pool of processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import torch

from sepnet.engines.engine import Item, LostItem, Result, WorkersLostError

# The numerical libraries read these when a process starts.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class LocalEngine:
    """The processors of this machine. With no workers, this process works itself."""

    def n_processors(self) -> int:
        """Return the number of processors of this machine."""
        return os.cpu_count() or 1

    def check(self, probe: Callable[[], Sequence[str]]) -> None:
        """Check nothing: workers see what this process sees."""

    def map(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        *,
        n_workers: int,
        n_threads: int | None = 1,
    ) -> Generator[tuple[int, Result | LostItem], None, None]:
        """Work on the items; see ``Engine``. Results come in the order of the items.

        ``n_workers`` of 0 works in this process. A worker that is killed ends the whole pool.
        """
        if n_workers == 0:
            with _threads(n_threads):
                worker = make_worker()
                for index, item in enumerate(items):
                    yield index, worker(item)
            return
        try:
            with _pool(make_worker, n_workers, n_threads) as pool:
                futures = [pool.submit(_work, item) for item in items]
                for index, future in enumerate(futures):
                    yield index, future.result()
        except BrokenProcessPool as error:
            raise WorkersLostError(
                f"a process was killed, most often because the memory was full (with {n_workers} processes): "
                "run again with fewer (n_processes=) to continue"
            ) from error


LOCAL = LocalEngine()


@contextmanager
def _pool(
    make_worker: Callable[[], Callable[[Any], Any]], n_workers: int, n_threads: int | None
) -> Iterator[ProcessPoolExecutor]:
    """Start processes, and end them with the context in any case."""
    others = set(multiprocessing.active_children())
    with environment({} if n_threads is None else dict.fromkeys(THREAD_VARIABLES, str(n_threads))):
        pool = ProcessPoolExecutor(
            n_workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(make_worker, n_threads),
        )
        try:
            yield pool
        except BaseException:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)  # waits until the processes have ended


_worker: Callable[[Any], Any] | None = None  # of this process, if it is one of a pool


def _start_worker(make_worker: Callable[[], Callable[[Any], Any]], n_threads: int | None) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the parent ends them
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    _worker = make_worker()


def _work(item: Any) -> Any:
    """Call this process's worker."""
    assert _worker is not None, "the pool's initializer ran first"
    return _worker(item)


@contextmanager
def _threads(n_threads: int | None) -> Iterator[None]:
    """Compute with a number of threads within the context; None: as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for processes that are started within the context.

    Args:
        values: {name: value}; the previous values are restored afterwards.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
