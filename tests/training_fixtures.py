"""A corpus of seconds, a network of a few hundred weights, and command lines in processes that can be killed.

Run as a program it is scripts/train.py, watched: see ``watch``.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from benchmarks.tiny import RATE, TINY, make_corpus, settings, voice  # noqa: F401
from sepnet.artifact import config_folder
from sepnet.cli import evaluate, separate, train  # noqa: F401
from sepnet.cli.overrides import search_path
from sepnet.evaluation.worker import Worker
from sepnet.training import checkpoints
from sepnet.training.task import SeparationTask

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS, BENCHMARKS = ROOT / "scripts", ROOT / "benchmarks"
TINY_BLSTM = (
    *(word for word in TINY if not word.startswith("model.")),
    "model=pit_blstm",
    "model.network.n_hidden=6",
    "model.network.dropout=0.3",
)


def compose(overrides: list[str], name: str = "train", folder: Path | None = None) -> DictConfig:
    """What the command line would hand on; folder: of the configuration, if not conf/."""
    with hydra.initialize_config_dir(str(folder or config_folder()), version_base="1.3"):
        config = hydra.compose(name, overrides=[*search_path(folder), *overrides])
    OmegaConf.set_struct(config, True)
    return config


def only_run(home: Path) -> Path:
    """The one run folder."""
    (folder,) = (path for path in (home / "runs").iterdir() if path.is_dir())
    return folder


def checkpoint(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    """A training checkpoint, read as a stranger's."""
    loaded: dict[str, Any] = torch.load(folder / "checkpoints" / name, weights_only=True)
    return loaded


def logged(folder: Path, name: str) -> dict[int, float]:
    """The values of one metric in the newest CSV file of a run, by step."""
    newest = max(folder.glob("csv/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:]))
    head, *lines = newest.read_text().splitlines()
    rows = [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]
    return {int(row["step"]): float(row[name]) for row in rows if row.get(name)}


def seen(log: Path) -> list[dict[str, Any]]:
    """What ``watch`` wrote: a row for each batch."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def watch(log: Path, kill: str = "") -> None:
    """Have this process write each training batch to ``log``, and die where ``kill`` says.

    kill: ``batch:7`` in the seventh batch of this process, where ``interrupt:7`` is what Ctrl-C sends,
    ``validation:1`` in the first validation,
    ``saving:3`` in the middle of writing the third checkpoint, ``saved:3`` right behind it. ``slow``
    lets it live, but the first validation, or the second mixture of an evaluation, takes ten minutes.
    """
    moment, _, number = kill.partition(":")
    counts = {"batch": 0, "validation": 0, "saving": 0, "saved": 0, "score": 0}

    def reached(what: str) -> bool:
        counts[what] += 1
        return what == moment and counts[what] == int(number)

    training_step, validation_step = SeparationTask.training_step, SeparationTask.validation_step
    write, save = torch.save, checkpoints.AtomicCheckpointIO.save_checkpoint

    def logged_step(self: SeparationTask, batch: Any, index: int) -> Any:
        loss = training_step(self, batch, index)
        where = {"epoch": self.trainer.current_epoch, "batch": index, "step": self.trainer.global_step}
        with log.open("a") as file:
            file.write(json.dumps({**where, "ids": batch.ids, "loss": loss.item()}) + "\n")
        if reached("batch"):
            die()
        if moment == "interrupt" and counts["batch"] == int(number):
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    def mortal_validation(self: SeparationTask, mixture: Any, index: int) -> None:
        if index == 1 and reached("validation"):
            die()
        if moment == "slow":
            log.with_suffix(".slow").touch()
            time.sleep(600)
        validation_step(self, mixture, index)

    def half(content: Any, file: Any) -> None:
        if reached("saving"):
            file.write(b"PK\x03\x04 half of a checkpoint")
            file.flush()
            die()
        write(content, file)

    def mortal_save(self: Any, *arguments: Any, **keywords: Any) -> None:
        save(self, *arguments, **keywords)
        if reached("saved"):
            die()

    score = Worker.score

    @functools.wraps(score)  # a pool finds it by its name
    def slow_score(self: Worker, *arguments: Any) -> Any:
        rows = score(self, *arguments)
        counts["score"] += 1
        if moment == "slow" and counts["score"] == 2:
            log.with_suffix(".slow").touch()
            time.sleep(600)
        return rows

    Worker.score = slow_score  # type: ignore[method-assign]
    SeparationTask.training_step = logged_step  # type: ignore[method-assign]
    SeparationTask.validation_step = mortal_validation  # type: ignore[method-assign]
    checkpoints.torch.save = half
    checkpoints.AtomicCheckpointIO.save_checkpoint = mortal_save  # type: ignore[method-assign]


def die() -> None:
    """End this process as the kernel ends it when memory is short: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Command:
    """A command line that runs in a process of its own, or has run."""

    process: ForkServerProcess
    home: Path

    def wait(self) -> int:
        """The exit status, once it has ended; minus the signal that ended it."""
        self.process.join(120)
        assert self.process.exitcode is not None, f"still running:\n{self.told}"
        return self.process.exitcode

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Until something is so, while the process runs."""
        end = time.monotonic() + 120
        while not what():
            assert self.process.is_alive(), self.told
            assert time.monotonic() < end, self.told
            time.sleep(0.005)

    @property
    def out(self) -> str:
        """What went to standard output."""
        return (self.home / "stdout").read_text()

    @property
    def err(self) -> str:
        """What went to standard error."""
        return (self.home / "stderr").read_text()

    @property
    def told(self) -> str:
        """Both."""
        return self.out + self.err


def start(name: str, words: list[str], home: Path, *, log: Path | None = None, kill: str = "") -> Command:
    """``python scripts/<name>.py words``, or benchmarks/run.py, in ``home``; all is imported already.

    log, kill: see ``watch``.
    """
    # The server, started by the first call, looks for what it is to import in PYTHONPATH alone.
    return Command(forked(_main, name, words, home, log, kill, dict(os.environ)), home)


def forked(function: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Call a function in a process that is forked off one in which everything is imported already."""
    with environment(
        PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["training_fixtures"])
        process = context.Process(target=function, args=arguments)
        process.start()
    return process


def run(name: str, words: list[str], home: Path, *, log: Path | None = None, kill: str = "") -> Command:
    """``start``, and wait for its end."""
    command = start(name, words, home, log=log, kill=kill)
    command.wait()
    return command


def _main(
    name: str, words: list[str], home: Path, log: Path | None, kill: str, variables: dict[str, str]
) -> None:
    multiprocessing.set_start_method("fork", force=True)  # as in a program; here it is the server's
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(home)
    torch.set_num_threads(1)
    for number, stream in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(home / stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    if log is not None:
        watch(log, kill)
    script = BENCHMARKS / "run.py" if name == "benchmark" else SCRIPTS / f"{name}.py"
    sys.argv = [str(script), *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


if __name__ == "__main__":
    watch(
        Path(f"{os.environ['SEPNET_TEST_LOG']}.{os.environ.get('LOCAL_RANK', 0)}"),
        os.environ.get("SEPNET_TEST_KILL", ""),
    )
    train.main()
