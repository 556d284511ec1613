"""Where a run's numbers and samples go. A CSV file is always beside whatever else is chosen."""

from __future__ import annotations

import netrc
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from matplotlib import colormaps

from sepnet.data.librimix import FixedSet
from sepnet.dsp.filterbank import STFT
from sepnet.metrics import best_permutation, pairwise, permute, si_sdr
from sepnet.types import SepnetError

WANDB_HOST = "api.wandb.ai"
FLOOR_DB = -80.0


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
    """wandb beside the CSV file: online with a key and a network, else offline, and it never asks."""
    folder.mkdir(parents=True, exist_ok=True)
    online = os.environ.get("WANDB_MODE", "online") == "online" and _has_key() and _reachable(WANDB_HOST)
    os.environ.setdefault("WANDB_SILENT", "true")
    if not online:
        os.environ.setdefault("WANDB_MODE", "offline")
        print(f"wandb: offline, the run is kept under {folder / 'wandb'} (`wandb sync` sends it later)")
    run = WandbLogger(
        name=folder.name,
        id=folder.name,  # a resumed run goes on in the same place
        resume="allow" if online else None,
        save_dir=folder,
        project=project,
        entity=entity,
        offline=not online,
        log_model=online,
        config=dict(config),
    )
    return [*only_csv(folder=folder, config=config), run]


class Samples(Callback):
    """Sends a few validation mixtures, with estimates and references, as audio and as spectrograms.

    Only to loggers that can show them: wandb and TensorBoard.
    """

    def __init__(self, *, n_mixtures: int = 3, seconds: float = 6.0) -> None:
        self.n_mixtures, self.seconds = n_mixtures, seconds
        self._stft = STFT()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        able = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger | TensorBoardLogger)]
        if trainer.sanity_checking or not able or not trainer.is_global_zero:
            return
        loader: Any = trainer.val_dataloaders
        valid: FixedSet = loader.dataset.dataset
        for index in range(min(self.n_mixtures, len(valid))):
            for name, sound, rate in self._sounds(pl_module, valid, index):
                for logger in able:
                    self._send(logger, f"{index}/{name}", sound, rate, trainer.global_step)

    def _sounds(
        self, module: L.LightningModule, valid: FixedSet, index: int
    ) -> list[tuple[str, torch.Tensor, int]]:
        mixture = valid[index]
        separator: Any = module.separator
        estimates = separator.separate(mixture.only(separator.needs)).sources
        references = mixture.references
        assert references is not None
        order = best_permutation(pairwise(si_sdr, estimates[None].double(), references[None].double()))
        signals = {
            "mixture": mixture.audio[:1],
            "estimate": permute(estimates[None], order)[0],
            "reference": references,
        }
        return [
            (f"{name}_{k + 1}" if len(group) > 1 else name, one[: int(self.seconds * mixture.sample_rate)], mixture.sample_rate)
            for name, group in signals.items()
            for k, one in enumerate(group)
        ]

    def _send(self, logger: Logger, name: str, sound: torch.Tensor, rate: int, step: int) -> None:
        picture = self._picture(sound)
        if isinstance(logger, WandbLogger):
            logger.log_audio(f"audio/{name}", [sound.numpy()], sample_rate=[rate])
            logger.log_image(f"spectrogram/{name}", [picture])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_audio(f"audio/{name}", sound, step, sample_rate=rate)
            logger.experiment.add_image(f"spectrogram/{name}", picture, step, dataformats="HWC")

    def _picture(self, sound: torch.Tensor) -> np.ndarray:
        """A spectrogram in dB below its own peak, as colours (bin, frame, 3), low frequencies below."""
        level = 20 * torch.log10(self._stft.spectrogram(sound[None])[0].abs() + 1e-9)
        scaled = ((level - level.max()).clamp_min(FLOOR_DB) / -FLOOR_DB + 1).flip(0)
        colours: np.ndarray = colormaps["magma"](scaled.numpy())[..., :3]
        return (255 * colours).astype(np.uint8)


def _has_key() -> bool:
    """Whether a key is set, found as wandb finds it, but without its questions."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(WANDB_HOST) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _reachable(host: str, seconds: float = 3.0) -> bool:
    try:
        socket.create_connection((host, 443), timeout=seconds).close()
    except OSError:
        return False
    return True
