"""What a run tells of itself while it goes on: throughput, a bar, and a line for each epoch."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from sepnet.training.schedule import progress
from sepnet.training.task import SCORE, score_name
from sepnet.types import Batch

THROUGHPUT, WAITING = "train/audio_seconds_per_second", "train/waiting_share"


def told_score(name: str, value: float) -> str:
    """A validation score in words."""
    return f"SI-SDRi {value:.2f} dB" if name == SCORE else f"{name} {value:.3f}"


class Throughput(Callback):
    """Logs at the end of each epoch ``train/audio_seconds_per_second``, of all ranks together.

    Validation is left out of the time. Beside it ``train/waiting_share``: the share of the time between one
    step's end and the beginning of the next, when data is mixed and moved, and checkpoints are written.
    """

    def __init__(self) -> None:
        self._audio, self._clock, self._waited, self._began = 0.0, 0.0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._audio, self._clock, self._waited, self._began = 0.0, 0.0, 0.0, 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self._began == 0.0:
            self._began = now
        self._waited += now - self._began

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._audio += batch.seconds * trainer.world_size
        self._clock += now - self._began
        self._began = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._clock > 0:
            pl_module.log(THROUGHPUT, self._audio / self._clock)
            pl_module.log(WAITING, self._waited / self._clock)


class Cost(Callback):
    """Logs what a run has spent before each validation: ``train/hours_of_audio`` and ``train/minutes``.

    Of the whole run: validations count, and so does what was done before a restart. The learning curves
    of sepnet.evaluation.curves are read from these.
    """

    def __init__(self) -> None:
        self._hours_of_audio, self._minutes, self._mark = 0.0, 0.0, 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"hours_of_audio": self._hours_of_audio, "minutes": self._minutes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._hours_of_audio, self._minutes = state_dict["hours_of_audio"], state_dict["minutes"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._hours_of_audio += batch.seconds * trainer.world_size / 3600
        self._minutes += (now - self._mark) / 60
        self._mark = now

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        spent = {"train/hours_of_audio": self._hours_of_audio, "train/minutes": self._minutes}
        for logger in trainer.loggers:
            logger.log_metrics(spent, trainer.global_step)


class Progress(TQDMProgressBar):
    """Lightning's bar with the time left of the whole run, and one line for each epoch.

    refresh_rate: batches between two updates of the bar; None for 5 on a terminal, and no bar elsewhere.
    """

    def __init__(self, refresh_rate: int | None = None) -> None:
        super().__init__(
            refresh_rate=(5 if sys.stdout.isatty() else 0) if refresh_rate is None else refresh_rate
        )
        self._start = (0.0, 0.0)  # the clock, and the share of the run that was done then
        self._validated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._start = (time.monotonic(), progress(trainer))
        # A run that goes on in the middle of an epoch is not told of its beginning.
        self.on_train_epoch_start(trainer, pl_module)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if left := self.left(trainer):
            metrics["left"] = left
        return metrics

    def left(self, trainer: pl.Trainer) -> str:
        """The time left of the whole run as h:mm:ss, empty before anything can be said."""
        clock, before = self._start
        done = progress(trainer)
        if done <= before:
            return ""
        seconds = round((time.monotonic() - clock) * (1 - done) / (done - before))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        metrics = trainer.callback_metrics
        told = [f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"]
        if (loss := metrics.get("train/loss")) is not None:
            told.append(f"loss {float(loss):.3f}")
        name = score_name(getattr(pl_module, "separator", None))
        if self._validated and (score := metrics.get(f"val/{name}")) is not None:
            told.append(f"{told_score(name, float(score))} on the validation set")
        if (rate := metrics.get(THROUGHPUT)) is not None:
            waiting = float(metrics.get(WAITING, 0.0))
            told.append(f"{float(rate):.0f} s of audio per second, {waiting:.0%} of it waiting for data")
        if left := self.left(trainer):
            told.append(f"{left} left")
        self._validated = False
        pl_module.print(", ".join(told))
