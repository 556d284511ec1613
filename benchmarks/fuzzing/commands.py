"""The commands of sepnet on inputs that work, which the surfaces then spoil; and one trial of a command."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from huggingface_hub import constants

from benchmarks import tiny
from benchmarks.fuzzing.process import Process, interpreter
from benchmarks.fuzzing.trial import Command, Outcome, Tree, judge, tree
from sepnet import paths
from sepnet.cli import main, publish
from sepnet.types import SepnetError

SETUP_SECONDS = 300.0
BOOKKEEPING = ("tmp", "stdin", "stdout", "stderr")  # of the process itself
CACHES = ("home/.cache/matplotlib", "home/.config/matplotlib")  # which other programs keep on purpose
MARKS = ("a", "weights", "curves", "variants")
PAGE = "\n".join(f"<!-- {mark} -->\n<!-- /{mark} -->" for mark in MARKS)


@dataclass(frozen=True)
class Workshop:
    """Folders that the trials share, and those that each gets for itself.

    Attributes:
        base: The folder of all.
    """

    base: Path

    @property
    def corpus(self) -> Path:
        """Recordings of some speakers, indexed and cached."""
        return self.base / "shared" / "wavs"

    @property
    def run(self) -> Path:
        """A run folder with weights."""
        return self.base / "shared" / "run"

    @property
    def results(self) -> Path:
        """The folder of an evaluation."""
        return self.base / "shared" / "results"

    def build(self) -> None:
        """Make what is shared.

        Raises:
            SepnetError: A command that should work does not.
        """
        tiny.make_corpus(self.corpus)
        shared = self.corpus.parent
        self._must("train", tiny.settings(self.corpus, shared, "loader.n_valid=1", "trainer.max_epochs=1"))
        (folder,) = (shared / "runs").iterdir()
        folder.rename(self.run)
        (shared / "runs").rmdir()
        words = [
            "separators=[identity,hpss]",
            f"ckpt={self.run}",
            "limit=2",
            "n_processes=0",
            "cost_mixtures=0",
        ]
        self._must("eval", [*words, f"out={self.results}"])

    def _must(self, command: str, words: Sequence[str]) -> None:
        process = Process(program([command, *words]), self.base / "setup" / "area" / "work")
        ended = process.finish(SETUP_SECONDS)
        if ended.status != 0:
            raise SepnetError(
                f"sepnet {command} {' '.join(words)} ends with {ended.status}: {ended.err[-2000:]}"
            )

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A working folder for one trial, with things that its settings can name."""
        place = self.base / name
        work = place / "area" / "work"
        work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def furnish(self, work: Path) -> None:
        """Put sound files, a run, results and other files into a working folder."""
        rng = np.random.default_rng(0)
        soundfile.write(
            work / "mix.wav", tiny.voice(0.7, rng) + tiny.voice(0.7, rng), tiny.RATE, subtype="FLOAT"
        )
        soundfile.write(work / "query.wav", tiny.voice(1.2, rng), tiny.RATE)
        (work / "noise.bin").write_bytes(rng.bytes(4000))
        (work / "empty").touch()
        (work / "page.md").write_text(PAGE)
        folder = work / "folder"
        folder.mkdir()
        soundfile.write(folder / "a.wav", tiny.voice(0.4, rng), tiny.RATE)
        soundfile.write(folder / "b.flac", tiny.voice(0.3, rng), 16000)
        shutil.copytree(self.run, work / "run")
        shutil.copytree(self.results, work / "results")


def run_command(command: Command, work: Path, seconds: float, *, fresh: bool = False) -> Outcome:
    """Run a command in its folder, and judge it.

    Args:
        command: The command.
        work: Its working folder, two levels below the folder of the trial.
        seconds: Processor time that it may take.
        fresh: Whether to run it in a new interpreter.
    """
    area = work.parent
    (area / "home").mkdir(exist_ok=True)
    before = content(area)
    start = interpreter("sepnet.cli.main", command.words) if fresh else program(command.words)
    ended = Process(start, work, command.stdin).finish(seconds, ready=command.ready)
    return judge(command, ended, before, content(area), leavings=tree(area / "tmp"))


def program(words: Sequence[str], *, is_offline: bool = True) -> Callable[[], object]:
    """``sepnet words``, or scripts/publish.py for the command ``publish``."""

    def run() -> None:
        constants.HF_HUB_OFFLINE = is_offline
        if words[0] == "publish":
            paths.SHIPPED = Path("../shipped").resolve()  # weights are written there
            sys.argv = ["publish.py", *words[1:]]
            publish.main()
        else:
            sys.argv = ["sepnet", *words]
            main.main()

    return run


def content(area: Path) -> Tree:
    """All that a trial may have changed: its working folder, the home folder, and what lies beside them."""
    return {
        name: digest
        for name, digest in tree(area).items()
        if name.partition("/")[0] not in BOOKKEEPING and not _is_cache(name)
    }


def _is_cache(name: str) -> bool:
    """Whether a path is a cache of another program, or leads to one."""
    return any(name.startswith(cache) or cache.startswith(f"{name}/") for cache in CACHES)
