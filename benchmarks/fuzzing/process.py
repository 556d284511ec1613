"""Programs in processes of their own, forked off this one, which has imported everything already.

A fork takes some hundredths of a second where a new interpreter takes seconds. The exit status, the standard
streams, the signals and the temporary folder are those of a real process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import io
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra

MAX_MEMORY_BYTES = 12 << 30  # of addresses, in addition to those of this process
MAX_FILE_BYTES = 1 << 30
POLL_SECONDS = 0.002
MAX_POLL_SECONDS = 0.02
GRACE_SECONDS = 20.0
WALL_FACTOR = 30.0  # on a busy machine, a process gets only a share of a core


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        status: The exit status, or minus the number of the signal that ended it.
        out: What went to standard output.
        err: What went to standard error.
        timed_out: Whether it ran for longer than it was allowed to.
        stopped: Whether it ended after Ctrl-C, which it got when it had run for so long.
        seconds: How long it ran.
    """

    status: int
    out: bytes
    err: str
    timed_out: bool
    stopped: bool
    seconds: float


class Process:
    """A program that runs in a fork of this process, in a process group of its own.

    Args:
        program: What it does; its exceptions are printed as those of an interpreter, and SystemExit gives the
            status.
        folder: The working folder. The home folder ``home`` and the temporary folder ``tmp`` are beside it.
        stdin: What standard input holds.
    """

    def __init__(self, program: Callable[[], object], folder: Path, stdin: bytes = b"") -> None:
        self.folder = folder
        for place in (folder, folder.parent / "home", folder.parent / "tmp"):
            place.mkdir(parents=True, exist_ok=True)
        (folder.parent / "stdin").write_bytes(stdin)
        self._out, self._err = folder.parent / "stdout", folder.parent / "stderr"
        self.begin = time.monotonic()
        self.spent = 0.0  # for whoever measures it
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run(program, folder)
        with contextlib.suppress(OSError):  # it has ended, or done so itself
            os.setpgid(self.pid, self.pid)
        self._status: int | None = None

    @property
    def out(self) -> bytes:
        """What went to standard output so far."""
        return self._out.read_bytes() if self._out.exists() else b""

    @property
    def err(self) -> str:
        """What went to standard error so far."""
        return self._err.read_text(errors="replace") if self._err.exists() else ""

    def poll(self) -> int | None:
        """The status if it has ended, else None."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def send(self, number: int) -> None:
        """Send a signal to the process, and to those that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> int:
        """End it at once, with those that it has started; return the status."""
        self.send(signal.SIGKILL)
        while (status := self.poll()) is None:
            time.sleep(POLL_SECONDS)
        return status

    def wait(self, seconds: float, *, until: Callable[[], bool] | None = None) -> bool:
        """Wait until the process has ended, or until something is so; return whether it has ended in time."""
        pause, end = POLL_SECONDS, time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end or (until is not None and until()):
                return False
            time.sleep(pause)
            pause = min(1.5 * pause, MAX_POLL_SECONDS)
        return True

    def cpu_seconds(self) -> float:
        """The processor time that it has used so far."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def finish(self, seconds: float, *, ready: bytes | None = None) -> Ended:
        """Wait for the end; send Ctrl-C to what takes too long, and kill what does not heed it.

        Args:
            seconds: Processor time that it may use; of the clock, several times as much.
            ready: What it prints when it serves, so that Ctrl-C is its only end.
        """

        def too_long() -> bool:
            late = time.monotonic() - self.begin > WALL_FACTOR * seconds
            return late or self.cpu_seconds() > seconds or (ready is not None and ready in self.out)

        stopped = timed_out = False
        if not self.wait(float("inf"), until=too_long):
            stopped = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT)
            timed_out = not self.wait(GRACE_SECONDS * WALL_FACTOR / 10)
        status = self.kill()
        return Ended(status, self.out, self.err, timed_out, stopped, time.monotonic() - self.begin)


def prepare() -> None:
    """Make this process ready to be forked: one thread, and objects that a collection leaves alone."""
    torch.set_num_threads(1)
    GlobalHydra.instance().clear()  # it may be a command of Hydra itself
    gc.collect()
    gc.freeze()


def interpreter(module: str, arguments: Iterable[str]) -> Callable[[], object]:
    """The program ``python -m module arguments``, in a new interpreter."""
    words = [sys.executable, "-m", module, *arguments]
    root = str(Path(__file__).resolve().parents[2])
    return lambda: os.execve(words[0], words, {**os.environ, "PYTHONPATH": root})


def _run(program: Callable[[], object], folder: Path) -> None:
    """Be the child: never returns."""
    status = 1
    try:
        _become(folder)
        status = _status_of(program)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)


def _become(folder: Path) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    place = folder.parent
    os.environ |= {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "WANDB_MODE": "disabled"}
    tempfile.tempdir = None
    logging.getLogger().handlers.clear()
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(place / name, flags), number)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    faulthandler.enable()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)


def _status_of(program: Callable[[], object]) -> int:
    try:
        program()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
