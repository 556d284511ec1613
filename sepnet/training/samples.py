"""Send a few separated validation mixtures to the loggers that can play and display them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from sepnet.data.dataset import MixtureSet
from sepnet.figures.spectrogram import pixels, spectrogram_db
from sepnet.training.task import SeparationTask, aligned_estimates
from sepnet.types import Separator


class Samples(Callback):
    """Sends sounds and spectrograms of the first validation mixtures to wandb and TensorBoard.

    The estimates are sent after each validation, the mixtures and references once. Like ``ExportBest``, the
    callback has to come before one that averages weights.

    Args:
        n_mixtures: The number of mixtures.
        seconds: The length of each that is sent, from its start.
    """

    def __init__(self, *, n_mixtures: int = 3, seconds: float = 6.0) -> None:
        self.n_mixtures, self.seconds = n_mixtures, seconds
        self._sent = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loggers = [
            logger for logger in trainer.loggers if isinstance(logger, WandbLogger | TensorBoardLogger)
        ]
        assert isinstance(pl_module, SeparationTask)
        separator = pl_module.separator
        if trainer.sanity_checking or not loggers or not trainer.is_global_zero:
            return
        if not isinstance(separator, Separator):  # a part of one, such as a tagger
            return
        loader: Any = trainer.val_dataloaders
        valid: MixtureSet = loader.dataset.dataset
        sounds = {
            f"{index}/{name}": sound[: int(self.seconds * valid.sample_rate)]
            for index in range(min(self.n_mixtures, len(valid)))
            for name, sound in self._sounds(separator, valid, index)
        }
        self._sent = True
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                self._to_wandb(logger, sounds, valid.sample_rate, trainer.global_step)
            else:
                self._to_tensorboard(logger, sounds, valid.sample_rate, trainer.global_step)

    def _sounds(
        self, separator: Separator, valid: MixtureSet, index: int
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The sounds to send of one mixture, with their names."""
        mixture = valid[index]
        assert mixture.references is not None
        signals = {"estimate": aligned_estimates(separator, mixture)}
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
            logged[f"spectrogram/{name}"] = wandb.Image(spectrogram_image(sound, rate))
        logger.experiment.log(logged)

    def _to_tensorboard(
        self, logger: TensorBoardLogger, sounds: dict[str, torch.Tensor], rate: int, step: int
    ) -> None:
        for name, sound in sounds.items():
            logger.experiment.add_audio(f"audio/{name}", sound, step, sample_rate=rate)
            logger.experiment.add_image(
                f"spectrogram/{name}", spectrogram_image(sound, rate), step, dataformats="HWC"
            )


def spectrogram_image(sound: Float[torch.Tensor, " time"], sample_rate: int) -> np.ndarray:
    """Draw a spectrogram in dB relative to its peak.

    Args:
        sound: (time,).
        sample_rate: In Hz.

    Returns:
        Colours (row, frame, 3); the lowest frequency is in the last row.
    """
    levels_db = spectrogram_db(sound, sample_rate)
    return pixels(levels_db, float(levels_db.max()))
