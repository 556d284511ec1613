"""Keeps the run folder loadable: the best weights so far are written after each validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from sepnet.training.task import SCORE, SeparationTask


class ExportBest(Callback):
    """Writes the run folder whenever the validation is the best so far.

    save: sepnet.artifact.save; config is handed to it as it is. score: what the validation
    logs under ``val/``; one other than SI-SDRi is named in the metrics, as ``score``. Stands before a
    callback that averages weights, which puts the plain ones back at the end of the validation.
    """

    def __init__(
        self,
        *,
        folder: Path,
        config: Any,
        data_fingerprint: str,
        save: Callable[..., None],
        score: str = SCORE,
    ) -> None:
        self.folder, self.config, self.data_fingerprint, self.save = folder, config, data_fingerprint, save
        self.score = score
        self.best = float("-inf")
        self.audio_hours = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "audio_hours": self.audio_hours}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.audio_hours = state_dict["best"], state_dict["audio_hours"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.audio_hours += batch.seconds * trainer.world_size / 3600
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True  # which validates the last weights, too; max_steps alone does not

    def _reached(self) -> dict[str, Any]:
        if self.score == SCORE:
            return {"si_sdri_db": self.best}
        return {"score": self.score, self.score: self.best}

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        score = trainer.callback_metrics.get(f"val/{self.score}")
        if trainer.sanity_checking or score is None or not float(score) > self.best:
            return
        self.best = float(score)
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SeparationTask)
        self.save(
            pl_module.separator,
            self.folder,
            config=self.config,
            metrics={
                **self._reached(),
                "step": trainer.global_step,
                "epoch": trainer.current_epoch,
                "hours_of_audio": self.audio_hours,
            },
            data_fingerprint=self.data_fingerprint,
        )
