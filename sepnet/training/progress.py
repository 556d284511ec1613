"""Throughput, cost and progress of a run: logged, as a progress bar, and as a line for each epoch."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from sepnet.training.schedule import progress
from sepnet.training.task import SI_SDRI, SeparationTask, score_name
from sepnet.types import Batch

THROUGHPUT, WAITING_SHARE = "train/audio_seconds_per_second", "train/waiting_share"


def score_text(name: str, value: float) -> str:
    """Write a validation score with its name.

    Args:
        name: The name of the score, without ``val/``.
        value: Its value.
    """
    return f"SI-SDRi {value:.2f} dB" if name == SI_SDRI else f"{name} {value:.3f}"


class Throughput(Callback):
    """Logs the speed of the training at the end of each epoch, without the time of validations.

    ``train/audio_seconds_per_second`` is the length of the mixtures of all ranks over the time.
    ``train/waiting_share`` is the share of the time between the end of a step and the start of the next, in
    which data is mixed and moved, and checkpoints are written.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._audio_seconds, self._seconds, self._waiting_seconds = 0.0, 0.0, 0.0
        self._last_end: float | None = None  # of the previous step, or of a validation

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reset()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self._last_end is None:
            self._last_end = now
        self._waiting_seconds += now - self._last_end

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        assert self._last_end is not None  # set when the batch started
        self._audio_seconds += batch.seconds * trainer.world_size
        self._seconds += now - self._last_end
        self._last_end = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_end = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._seconds > 0:
            pl_module.log(THROUGHPUT, self._audio_seconds / self._seconds, sync_dist=True)
            pl_module.log(WAITING_SHARE, self._waiting_seconds / self._seconds, sync_dist=True)


class Cost(Callback):
    """Logs the cost of the run so far before each validation: ``train/hours_of_audio`` and ``train/minutes``.

    The time includes validations, and both include the time before a restart. ``sepnet.evaluation.curves``
    reads them.
    """

    def __init__(self) -> None:
        self._hours_of_audio, self._minutes, self._last_time = 0.0, 0.0, 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"hours_of_audio": self._hours_of_audio, "minutes": self._minutes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._hours_of_audio, self._minutes = state_dict["hours_of_audio"], state_dict["minutes"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_time = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._hours_of_audio += batch.seconds * trainer.world_size / 3600
        self._minutes += (now - self._last_time) / 60
        self._last_time = now

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        cost = {"train/hours_of_audio": self._hours_of_audio, "train/minutes": self._minutes}
        for logger in trainer.loggers:
            logger.log_metrics(cost, trainer.global_step)


class Progress(TQDMProgressBar):
    """Lightning's progress bar with the remaining time of the whole run, and a printed line for each epoch.

    Args:
        refresh_rate: The number of batches between two updates of the bar. None for 5 on a terminal, and no
            bar elsewhere.
    """

    def __init__(self, refresh_rate: int | None = None) -> None:
        super().__init__(
            refresh_rate=(5 if sys.stdout.isatty() else 0) if refresh_rate is None else refresh_rate
        )
        self._start = (0.0, 0.0)  # time in seconds, and the share of the run that was done then
        self._validated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._start = (time.monotonic(), progress(trainer))
        # Lightning does not call this for a run that resumes in the middle of an epoch.
        self.on_train_epoch_start(trainer, pl_module)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if remaining := self.remaining_time(trainer):
            metrics["left"] = remaining
        return metrics

    def remaining_time(self, trainer: pl.Trainer) -> str:
        """Estimate the remaining time of the whole run as h:mm:ss; empty before the first step."""
        start_time, start_share = self._start
        share = progress(trainer)
        if share <= start_share:
            return ""
        seconds = round((time.monotonic() - start_time) * (1 - share) / (share - start_share))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        metrics = trainer.callback_metrics
        parts = [f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"]
        if (loss := metrics.get("train/loss")) is not None:
            parts.append(f"loss {float(loss):.3f}")
        name = score_name(pl_module.separator) if isinstance(pl_module, SeparationTask) else SI_SDRI
        if self._validated and (score := metrics.get(f"val/{name}")) is not None:
            parts.append(f"{score_text(name, float(score))} on the validation set")
        if (rate := metrics.get(THROUGHPUT)) is not None:
            waiting = float(metrics.get(WAITING_SHARE, 0.0))
            parts.append(f"{float(rate):.0f} s of audio per second, {waiting:.0%} of it waiting for data")
        if remaining := self.remaining_time(trainer):
            parts.append(f"{remaining} left")
        self._validated = False
        pl_module.print(", ".join(parts))
