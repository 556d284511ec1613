"""Where a run's numbers go. A CSV file is always beside whatever else is chosen."""

from __future__ import annotations

import contextlib
import netrc
import os
import socket
import sys
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from sepnet.types import SepnetError


def none(*, folder: Path, config: Mapping[str, Any]) -> list[Logger]:
    """No logger, not even the CSV file."""
    return []


def only_csv(*, folder: Path, config: Mapping[str, Any]) -> list[Logger]:
    """``csv/version_<n>/metrics.csv`` in the run folder: one file for the start and for each resumption."""
    return [CSVLogger(folder, name="csv")]


def tensorboard(*, folder: Path, config: Mapping[str, Any]) -> list[Logger]:
    """TensorBoard beside the CSV file. Raises SepnetError where it is not installed."""
    try:
        board = TensorBoardLogger(folder / "tensorboard", name="", version="")
    except ModuleNotFoundError as error:
        raise SepnetError("TensorBoard is not installed: pip install 'sepnet[tensorboard]'") from error
    return [*only_csv(folder=folder, config=config), board]


def wandb(*, folder: Path, config: Mapping[str, Any], project: str, entity: str | None) -> list[Logger]:
    """wandb beside the CSV file: online with a key and a network, else offline, and it never asks.

    The best checkpoints are sent as artifacts where it is online. WANDB_MODE=offline and
    WANDB_MODE=disabled do as they say.
    """
    beside = only_csv(folder=folder, config=config)
    mode = os.environ.get("WANDB_MODE", "online")
    if mode == "disabled" or not first_process():
        return beside
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    run = partial(
        _wandb_logger,
        name=folder.name,
        id=folder.name,  # a resumed run goes on in the same place
        save_dir=folder,
        project=project,
        entity=entity,
        config=dict(config),
    )
    if mode == "online" and has_key() and reachable():
        online = run(resume="allow", log_model=True)
        if _starts(online):
            return [*beside, online]
    print(f"wandb: offline, the run is kept in {folder / 'wandb'} (`wandb sync` sends it)")
    return [*beside, run(offline=True, resume=None)]


def first_process() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return not getattr(rank_zero_only, "rank", 0)


def close() -> None:
    """End the run of wandb, if there is one, so that the next of this process gets its own."""
    module = sys.modules.get("wandb")
    if module is not None and module.run is not None:
        module.finish()


def has_key() -> bool:
    """Whether a key for wandb is set: found where wandb looks for it, but without its questions."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(_host()) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def reachable(seconds: float = 3.0) -> bool:
    """Whether wandb's server answers within so many seconds."""
    answers: list[bool] = []

    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection((_host(), 443), timeout=seconds).close()
            answers.append(True)

    # On a thread, because looking up a name may take as long as it likes.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)


def _wandb_logger(**keywords: Any) -> WandbLogger:
    logger = WandbLogger(**keywords)
    logger._wandb_init.pop("anonymous", None)  # None as it is, wandb warns of it at each start
    return logger


def _host() -> str:
    return urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""


def _starts(logger: WandbLogger) -> bool:
    """Whether the server takes the run: it may not know the key, or not let it write there."""
    from wandb.errors import Error

    try:
        _ = logger.experiment
    except (Error, ValueError) as error:
        print(f"wandb: {' '.join(str(error).split())}")
        return False
    return True
