"""The fuzz and the storm of kills: what counts as a fault, and that a few dozen inputs have none."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import fuzz, kills
from benchmarks.fuzzing import settings
from benchmarks.fuzzing.commands import Workshop
from benchmarks.fuzzing.process import Ended, Process
from benchmarks.fuzzing.sounds import damaged, sound
from benchmarks.fuzzing.trial import FAULTS, Command, Verdict, judge

TRACE = "Traceback (most recent call last)\n  ...\nValueError: x\n"
COMMAND = Command(("separate",), lambda text, changed: "out.wav" in changed)


def ended(status: int = 0, err: str = "", *, timed_out: bool = False, stopped: bool = False) -> Ended:
    return Ended(status, b"", err, timed_out, stopped, 1.0)


@pytest.mark.parametrize(
    ("end", "made", "left", "verdict"),
    [
        (ended(), {"out.wav": "1"}, {}, Verdict.DONE),
        (ended(), {}, {}, Verdict.NOTHING),
        (ended(), {"other": "1"}, {}, Verdict.NOTHING),
        (ended(), {"out.wav": "1", ".12ab-0.part": "2"}, {}, Verdict.LEFT),
        (ended(), {"out.wav": "1"}, {"tmpx": "folder"}, Verdict.LEFT),
        (ended(2, "warning: a\nerror: b\n"), {}, {}, Verdict.REFUSED),
        (ended(2, "error: b\n"), {"empty": "folder"}, {}, Verdict.LEFT),
        (ended(2, "usage: x\nx: error: no -y\n"), {}, {}, Verdict.UNEXPECTED),
        (ended(2, "error: a\nerror: b\n"), {}, {}, Verdict.UNEXPECTED),
        (ended(2, ""), {}, {}, Verdict.UNEXPECTED),
        (ended(1, "error: a\n"), {}, {}, Verdict.UNEXPECTED),
        (ended(1, "error: 1 of 2 recordings could not be separated:\n  x\n"), {"out.wav": "1"}, {},
         Verdict.REFUSED),
        (ended(1, TRACE), {}, {}, Verdict.UNEXPECTED),
        (ended(0, TRACE), {"out.wav": "1"}, {}, Verdict.UNEXPECTED),
        (ended(-signal.SIGSEGV), {}, {}, Verdict.UNEXPECTED),
        (ended(130, stopped=True), {}, {}, Verdict.HANG),
        (ended(-signal.SIGKILL, timed_out=True, stopped=True), {}, {}, Verdict.HANG),
    ],
)  # fmt: skip
def test_each_end_of_a_command_has_its_verdict(
    end: Ended, made: dict[str, str], left: dict[str, str], verdict: Verdict
) -> None:
    before = {"mix.wav": "0"}
    assert judge(COMMAND, end, before, {**before, **made}, leavings=left).verdict is verdict


def process(program: Callable[[], object], folder: Path, *, seconds: float = 20.0) -> Ended:
    return Process(program, folder / "area" / "work", b"given").finish(seconds)


def test_a_process_is_told_of_like_one_of_the_shell(tmp_path: Path) -> None:
    def program() -> None:
        print(sys.stdin.read(), os.environ["HOME"], Path.cwd().name)
        print("to the errors", file=sys.stderr)
        sys.exit(3)

    end = process(program, tmp_path)
    assert (end.status, end.err, end.stopped) == (3, "to the errors\n", False)
    assert end.out.decode().split() == ["given", str(tmp_path / "area" / "home"), "work"]
    assert TRACE[:20] in process(lambda: 1 / 0, tmp_path).err
    assert process(lambda: os.kill(os.getpid(), signal.SIGSEGV), tmp_path).status == -signal.SIGSEGV


@pytest.mark.parametrize("heeds", [True, False])
def test_what_takes_too_long_gets_ctrl_c_and_is_killed_if_it_does_not_heed_it(
    heeds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.fuzzing.process.GRACE_SECONDS", 2.0 if heeds else 0.05)

    def spin() -> None:
        if not heeds:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            pass

    end = process(spin, tmp_path, seconds=0.1)
    assert end.stopped
    assert end.timed_out is not heeds
    assert end.status == (130 if heeds else -signal.SIGKILL)


def test_inputs_are_as_many_as_their_numbers_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    def file(number: int) -> bytes:
        rng = np.random.default_rng([0, number])
        return damaged(rng, sound(rng)[0])

    files = [file(number) for number in range(60)]
    assert len(set(files)) > 50
    # Some formats hold the time at which they were written.
    assert [len(file(number)) for number in range(20)] == [len(each) for each in files[:20]]
    base = settings.bases(Workshop(tmp_path))[0]
    words = {settings.spoilt(np.random.default_rng(number), base) for number in range(200)}
    assert len(words) > 190


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_annotations")
def test_a_few_dozen_inputs_are_without_fault() -> None:
    outcomes = fuzz.fuzz(
        {"files": range(12), "settings": range(12), "library": range(30), "http": range(6)}, seed=3
    )
    faults = [outcome for each in outcomes.values() for outcome in each if outcome.verdict in FAULTS]
    assert faults == []
    assert len(fuzz.table(outcomes).splitlines()) == 5


# ---------------------------------------------------------------- kills


def slow_writer(work: Path, *, leaves: bool) -> Callable[[], object]:
    """Write ten lines, each by a rename; what a killed one has begun is kept, or left beside the file."""

    def program() -> None:
        for number in range(10):
            part = work / (f"{os.getpid()}.part" if leaves else "x.part")
            part.write_text(f"{number}")
            end = time.process_time() + 0.03
            while time.process_time() < end:
                pass
            part.replace(work / f"{number}.txt")

    return program


def contents(work: Path) -> Mapping[str, Any]:
    return {path.name: path.read_text() for path in work.glob("*.txt")}


@pytest.mark.parametrize("leaves", [False, True])
def test_a_storm_finds_a_command_that_leaves_files(
    leaves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kills, "_program", lambda words, work: slow_writer(work, leaves=leaves))
    activity = kills.Activity(lambda work: ["write"], contents)
    assert (kills.storm("write", activity, Workshop(tmp_path), 6, 0) > 0) is leaves
    told = capsys.readouterr().out
    assert ("files left" in told) is leaves
    assert int(told.splitlines()[-1].split()[1]) >= 6


def test_a_storm_finds_another_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(words: list[str], work: Path) -> Callable[[], object]:
        def program() -> None:
            started = work / "started.txt"
            text = "again" if started.exists() else "first"
            started.write_text(text)
            end = time.process_time() + 0.2
            while time.process_time() < end:
                pass

        return program

    monkeypatch.setattr(kills, "_program", forgetful)
    activity = kills.Activity(lambda work: ["forget"], contents)
    assert kills.storm("forget", activity, Workshop(tmp_path), 4, 0) > 0


@pytest.mark.slow
def test_commands_that_are_killed_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    workshop.build()
    with kills.server.serving(*kills.served(workshop)) as address:
        for name, activity in kills.activities(workshop, address).items():
            assert kills.storm(name, activity, workshop, 2, 0) == 0, name
