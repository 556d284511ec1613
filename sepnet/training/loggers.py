"""The loggers of a run. Except for ``none``, each choice includes a CSV file.

Each function takes the run folder and the resolved configuration, and returns loggers for Lightning.
"""

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
    """Log nothing, not even to the CSV file."""
    return []


def only_csv(*, folder: Path, config: Mapping[str, Any]) -> list[Logger]:
    """Log to ``csv/version_<n>/metrics.csv`` in the run folder: one for the start and each restart."""
    return [CSVLogger(folder, name="csv")]


def tensorboard(*, folder: Path, config: Mapping[str, Any]) -> list[Logger]:
    """Log to TensorBoard and the CSV file.

    Raises:
        SepnetError: TensorBoard is not installed.
    """
    try:
        board = TensorBoardLogger(folder / "tensorboard", name="", version="")
    except ModuleNotFoundError as error:
        raise SepnetError("TensorBoard is not installed: pip install 'sepnet[tensorboard]'") from error
    return [*only_csv(folder=folder, config=config), board]


def wandb(*, folder: Path, config: Mapping[str, Any], project: str, entity: str | None) -> list[Logger]:
    """Log to wandb and the CSV file: online with a key and a connection, else offline, and without questions.

    Online, the best checkpoints are sent as artifacts. WANDB_MODE=offline and WANDB_MODE=disabled are
    followed.

    Args:
        folder: The run folder; its name is that of the run.
        config: The resolved configuration of the run.
        project: The project on wandb.
        entity: The user or team on wandb; None for the user's default.
    """
    csv_loggers = only_csv(folder=folder, config=config)
    mode = os.environ.get("WANDB_MODE", "online")
    if mode == "disabled" or not first_process():
        return csv_loggers
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    run = partial(
        _wandb_logger,
        name=folder.name,
        id=folder.name,  # a resumed run continues the same run of wandb
        save_dir=folder,
        project=project,
        entity=entity,
        config=dict(config),
    )
    if mode == "online" and has_key() and reachable():
        online = run(resume="allow", log_model=True)
        if _starts(online):
            return [*csv_loggers, online]
    print(f"wandb: offline, the run is kept in {folder / 'wandb'} (`wandb sync` sends it)")
    return [*csv_loggers, run(offline=True, resume=None)]


def first_process() -> bool:
    """Tell whether this process has rank 0, the one that writes files and prints."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]  # Lightning sets it when it is imported
    return rank == 0


def close() -> None:
    """End the run of wandb, if there is one, so that the next run of this process gets its own."""
    module = sys.modules.get("wandb")
    if module is not None and module.run is not None:
        module.finish()


def has_key() -> bool:
    """Tell whether there is a key for wandb, in the places where wandb looks for it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(_host()) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def reachable(seconds: float = 3.0) -> bool:
    """Tell whether wandb's server can be reached.

    Args:
        seconds: The time after which the answer is no.
    """
    connected = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection((_host(), 443), timeout=seconds).close()
            connected.set()

    # In a thread, because the lookup of a host name has no time limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return connected.is_set()


def _wandb_logger(**keywords: Any) -> WandbLogger:
    logger = WandbLogger(**keywords)
    logger._wandb_init.pop("anonymous", None)  # it is None, but wandb warns about it at each start
    return logger


def _host() -> str:
    return urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""


def _starts(logger: WandbLogger) -> bool:
    """Whether the server accepts the run; it may refuse the key, or writing to the project."""
    from wandb.errors import Error

    try:
        _ = logger.experiment
    except (Error, ValueError) as error:
        print(f"wandb: {' '.join(str(error).split())}")
        return False
    return True
