"""engine=ray whose workers or whose driver are killed: python benchmarks/run.py what=engine_kills.

A list of recordings is separated by two workers of Ray. Workers are killed (SIGKILL) at random moments: the
command goes on. Then the command itself is killed, and given again. In both cases each recording has to end
in the table once, with the files that ``engine=local`` writes.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from omegaconf import DictConfig

from benchmarks import tiny
from benchmarks.kills import same, separated
from sepnet.types import SepnetError

N_RECORDINGS, SECONDS = 40, 60.0
N_WORKER_KILLS, N_DRIVER_KILLS = 50, 20
MAX_KILLS_A_RUN = 12  # of workers: no recording is likely to be hit three times
PAUSE_SECONDS = (0.3, 2.0)  # between two kills of workers
LOST = "its worker was lost 3 times"
FAULTY = 1


def run(config: DictConfig) -> None:
    """Print what became of the commands; exit with 1 for a fault.

    Args:
        config: ``seed`` of benchmarks/benchmark.yaml.

    Raises:
        SepnetError: Ray is not installed, or an undisturbed command fails.
    """
    rng = np.random.default_rng(config.seed)
    with tempfile.TemporaryDirectory(prefix="sepnet-kills-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        (folder / "in").mkdir()
        for number in range(N_RECORDINGS):
            sound = tiny.voice(SECONDS, rng) + tiny.voice(SECONDS, rng)
            soundfile.write(folder / "in" / f"{number}.wav", sound, tiny.RATE, subtype="FLOAT")
        names = "".join(f"in/{number}.wav\n" for number in range(N_RECORDINGS))
        (folder / "list.csv").write_text(f"path\n{names}")
        begin = time.monotonic()
        _finish(_start(folder, "local", "engine=local", "n_processes=1"))
        expected = separated(folder / "local")
        _finish(_start(folder, "ray"))
        seconds = time.monotonic() - begin
        faults = _storm_workers(folder, expected, rng) + _storm_driver(folder, expected, rng, seconds)
    if faults:
        sys.exit(FAULTY)


def _storm_workers(folder: Path, expected: dict[str, object], rng: np.random.Generator) -> int:
    kills = runs = faults = 0
    while kills < N_WORKER_KILLS:
        runs += 1
        out = f"workers-{runs}"
        command, kills_before = _start(folder, out), kills
        while command.poll() is None and kills - kills_before < min(MAX_KILLS_A_RUN, N_WORKER_KILLS):
            time.sleep(rng.uniform(*PAUSE_SECONDS))
            if workers := list(_workers(command.pid)):
                kills += _kill(int(rng.choice(workers)))
        faults += _told(f"workers, run {runs}", folder, out, command, expected)
    print(f"{kills} kills of workers in {runs} runs: {faults} faults", flush=True)
    return faults


def _storm_driver(folder: Path, expected: dict[str, object], rng: np.random.Generator, seconds: float) -> int:
    kills = runs = faults = 0
    while kills < N_DRIVER_KILLS:
        runs += 1
        out = f"driver-{runs}"
        for _ in range(int(rng.integers(1, 4))):
            command = _start(folder, out)
            try:
                command.wait(rng.uniform(0, seconds))
                break
            except subprocess.TimeoutExpired:
                kills += _kill(command.pid)
                command.communicate()
        faults += _told(f"driver, run {runs}", folder, out, _start(folder, out), expected)
    print(f"{kills} kills of the driver in {runs} runs: {faults} faults", flush=True)
    return faults


def _start(folder: Path, out: str, *engine: str) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    engine = engine or ("engine=ray", "n_processes=2")
    words = [
        sys.executable,
        "-m",
        "sepnet.cli.main",
        "separate",
        "list=list.csv",
        f"out={out}",
        "model=hpss",
        *engine,
    ]
    return subprocess.Popen(words, cwd=folder, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _finish(command: subprocess.Popen[str]) -> None:
    _, err = command.communicate()
    if command.returncode:
        raise SepnetError(f"a command that nobody disturbs ends with {command.returncode}: {err[-500:]}")


def _told(
    label: str, folder: Path, out: str, command: subprocess.Popen[str], expected: dict[str, object]
) -> int:
    """Wait for the end of a command; print what is wrong with it, and return whether anything is.

    A recording whose worker was killed three times is listed, and the command given again separates it.
    """
    _, err = command.communicate()
    if command.returncode == 1 and LOST in err:
        print(f"{label}: {err.count(LOST)} recordings listed as lost; the command is given again", flush=True)
        command = _start(folder, out)
        _, err = command.communicate()
    with (folder / out / "separated.csv").open() as stream:
        rows = [(row["path"], row["status"]) for row in csv.DictReader(stream)]
    found = separated(folder / out)
    for results in (found, expected):
        results.pop("separated.csv", None)
    wrong = ""
    if command.returncode:
        wrong = f"status {command.returncode}: {err[-500:]}"
    elif len(rows) != N_RECORDINGS or len(set(rows)) != N_RECORDINGS or {row[1] for row in rows} != {"ok"}:
        wrong = f"the table has {rows}"
    elif difference := same(expected, found):
        wrong = difference
    elif left := [path.name for path in (folder / out).rglob("*") if path.name.startswith(".")]:
        wrong = f"files left: {left}"
    if wrong:
        print(f"{label}: {wrong}", flush=True)
    return int(bool(wrong))


def _workers(driver: int) -> Iterator[int]:
    """The processes of Ray's workers below a driver that work on a recording."""
    parents: dict[int, int] = {}
    titles: dict[int, bytes] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(path.name)] = (path / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
    for process, title in titles.items():
        ancestor = process
        while ancestor in parents and ancestor != driver:
            ancestor = parents[ancestor]
        if ancestor == driver and title.startswith(b"ray::_Actor.work"):
            yield process


def _kill(process: int) -> int:
    """Kill a process, and return whether there was one."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1
