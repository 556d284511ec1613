"""A few validation mixtures to hear and to look at, in the loggers that can show them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from sepnet.data.dataset import MixtureSet
from sepnet.figures.spectrogram import pixels, spectrogram_db
from sepnet.training.task import aligned
from sepnet.types import Scored


class Samples(Callback):
    """Sends estimates of the first validation mixtures, sound and spectrogram, to wandb and TensorBoard.

    The mixtures and their references are sent once, with the first estimates. n_mixtures: how many;
    seconds: how much of each. Stands before a callback that averages weights, as ExportBest.
    """

    def __init__(self, *, n_mixtures: int = 3, seconds: float = 6.0) -> None:
        self.n_mixtures, self.seconds = n_mixtures, seconds
        self._sent = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        able = [one for one in trainer.loggers if isinstance(one, WandbLogger | TensorBoardLogger)]
        separates = not isinstance(pl_module.separator, Scored)
        if trainer.sanity_checking or not able or not trainer.is_global_zero or not separates:
            return
        loader: Any = trainer.val_dataloaders
        valid: MixtureSet = loader.dataset.dataset
        sounds = {
            f"{index}/{name}": sound[: int(self.seconds * valid.sample_rate)]
            for index in range(min(self.n_mixtures, len(valid)))
            for name, sound in self._sounds(pl_module, valid, index)
        }
        self._sent = True
        for logger in able:
            if isinstance(logger, WandbLogger):
                self._to_wandb(logger, sounds, valid.sample_rate, trainer.global_step)
            else:
                self._to_tensorboard(logger, sounds, valid.sample_rate, trainer.global_step)

    def _sounds(
        self, module: pl.LightningModule, valid: MixtureSet, index: int
    ) -> Iterator[tuple[str, torch.Tensor]]:
        mixture, separator = valid[index], module.separator
        assert mixture.references is not None
        signals = {"estimate": aligned(separator, mixture)}  # type: ignore[arg-type]
        if not self._sent:
            signals |= {"mixture": mixture.audio[:1], "reference": mixture.references}
        for name, group in signals.items():
            for k, sound in enumerate(group):
                yield (f"{name}_{k + 1}" if len(group) > 1 else name), sound

    def _to_wandb(self, logger: WandbLogger, sounds: dict[str, torch.Tensor], rate: int, step: int) -> None:
        import wandb

        logged: dict[str, Any] = {"trainer/global_step": step}
        for name, sound in sounds.items():
            logged[f"audio/{name}"] = wandb.Audio(sound.numpy(), sample_rate=rate)
            logged[f"spectrogram/{name}"] = wandb.Image(picture(sound, rate))
        logger.experiment.log(logged)

    def _to_tensorboard(
        self, logger: TensorBoardLogger, sounds: dict[str, torch.Tensor], rate: int, step: int
    ) -> None:
        for name, sound in sounds.items():
            logger.experiment.add_audio(f"audio/{name}", sound, step, sample_rate=rate)
            logger.experiment.add_image(f"spectrogram/{name}", picture(sound, rate), step, dataformats="HWC")


def picture(sound: torch.Tensor, sample_rate: int) -> np.ndarray:
    """A spectrogram in dB below its own peak, as colours (row, frame, 3), low frequencies below."""
    levels_db = spectrogram_db(sound, sample_rate)
    return pixels(levels_db, float(levels_db.max()))
