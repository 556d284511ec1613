"""Run folders: a new one, or the one that a training goes on in."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from sepnet import artifact, atomic
from sepnet.paths import real
from sepnet.types import SepnetError

# Settings that may differ between a run and its resumption, as they do not change what is learnt.
NOT_COMPARED = ("runs", "resume")
MACHINES = ("accelerator", "devices", "num_nodes", "strategy")  # of the trainer


def new_run_folder(runs: Path, name: str, fill: Callable[[Path, str], None]) -> Path:
    """Make a folder for a new run, named by the time and ``name``.

    Args:
        runs: The folder of run folders.
        name: What follows the time.
        fill: Writes the first files; gets the folder, which is still to get its name, and this name.

    Returns:
        The folder, which is there with these files or not at all.

    Raises:
        SepnetError: It can't be made there.
    """
    stem = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{name}"
    for number in count(1):
        folder = runs / (stem if number == 1 else f"{stem}-{number}")
        if not atomic.exists(folder):
            with contextlib.suppress(atomic.FolderExistsError):
                with atomic.new_folder(folder, "run") as temporary:
                    fill(temporary, folder.name)
                return folder
    raise AssertionError


@contextlib.contextmanager
def new_run(runs: Path, name: str, fill: Callable[[Path, str], None]) -> Iterator[Path]:
    """Make a folder for a new run; see ``new_run_folder``.

    If the block is refused before there are weights or a checkpoint, nothing can be done with the folder: it
    is deleted, with the folders above it that were made for it.

    Yields:
        The folder.
    """
    missing = [folder for folder in (runs, *runs.parents) if not os.path.isdir(folder)]  # noqa: PTH112 (never raises)
    folder = new_run_folder(runs, name, fill)
    try:
        yield folder
    except SepnetError:
        if not (folder / artifact.WEIGHTS).exists() and not any(folder.glob("checkpoints/*")):
            shutil.rmtree(folder, ignore_errors=True)
            atomic.remove_empty(missing)
        raise


def find_run(config: Mapping[str, Any]) -> Path:
    """Find the run that a training is to go on with.

    Args:
        config: The settings of conf/train.yaml. ``resume`` is a run folder, or true: the newest run under
            ``runs`` that was started with the same settings.

    Returns:
        The run folder.

    Raises:
        SepnetError: There is none.
    """
    if config["resume"] is not True:
        return artifact.run_folder(config["resume"])
    runs = Path(config["runs"])
    folders = sorted((path.parent for path in runs.glob(f"*/{artifact.CONFIG}")), reverse=True)
    for folder in folders:
        with contextlib.suppress(SepnetError):  # not a run of ours, or damaged
            if _compared(artifact.read_settings(folder), config) == _compared(config, config):
                return folder
    raise SepnetError(
        f"resume=true, but none of the {len(folders)} runs under {real(runs)} was started with these "
        "very settings: give the command that started it, or leave out resume=true"
    )


def _compared(settings: Mapping[str, Any], resumption: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that have to agree between a run and its resumption.

    A batch size of ``auto``, which the resumption takes from the run, is left out.
    """
    compared = {name: value for name, value in settings.items() if name not in NOT_COMPARED}
    trainer = settings.get("trainer")
    if isinstance(trainer, Mapping):
        compared["trainer"] = {name: value for name, value in trainer.items() if name not in MACHINES}
    if resumption["loader"]["batch_size"] == "auto":
        compared["loader"] = {**compared["loader"], "batch_size": "auto"}
    return compared
