"""Write the best weights so far into the run folder, so that it can be loaded during the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from sepnet.training.task import SI_SDRI, SeparationTask


class ExportBest(Callback):
    """Writes the run folder whenever a validation has the best score so far.

    It has to come before a callback that averages weights, which restores the original weights at the end of
    the validation.

    Args:
        folder: The run folder.
        config: The configuration of the run; it is passed on to ``save``.
        data_fingerprint: Identifies the training mixtures.
        save: ``sepnet.artifact.save``.
        score: The name of the validation score, without ``val/``. A score other than SI-SDRi is named in the
            metrics, under ``score``.

    Attributes:
        best: The best score so far.
        validated_step: The number of optimizer steps at the last validation.
        audio_hours: The length of all mixtures that were trained on, in hours.
    """

    def __init__(
        self,
        *,
        folder: Path,
        config: Any,
        data_fingerprint: str,
        save: Callable[..., None],
        score: str = SI_SDRI,
    ) -> None:
        self.folder, self.config, self.data_fingerprint, self.save = folder, config, data_fingerprint, save
        self.score = score
        self.best = float("-inf")
        self.validated_step = 0
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
            trainer.should_stop = True  # unlike max_steps, this also validates the last weights

    def _best_metrics(self) -> dict[str, Any]:
        if self.score == SI_SDRI:
            return {"si_sdri_db": self.best}
        return {"score": self.score, self.score: self.best}

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.validated_step = trainer.global_step
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
                **self._best_metrics(),
                "step": trainer.global_step,
                "epoch": trainer.current_epoch,
                "hours_of_audio": self.audio_hours,
            },
            data_fingerprint=self.data_fingerprint,
        )
