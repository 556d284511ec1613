"""What happens beside the gradient steps: learning rate, throughput, progress, checkpoints."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Timer, TQDMProgressBar
from lightning.pytorch.trainer.states import RunningStage

from sepnet.types import Batch


def progress(trainer: L.Trainer) -> float:
    """The share of the run that is done, 0 to 1: of its steps, its epochs or its time, whichever is further.

    All three survive a restart: they are kept in the checkpoint.
    """
    shares = [0.0]
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        shares.append(trainer.global_step / max(trainer.max_epochs * trainer.num_training_batches, 1))
    for timer in _timers(trainer):
        elapsed = timer.time_elapsed(RunningStage.TRAINING)
        shares.append(elapsed / (elapsed + (timer.time_remaining(RunningStage.TRAINING) or 0.0)))
    return min(max(shares), 1.0)


def _timers(trainer: L.Trainer) -> list[Timer]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [c for c in callbacks if isinstance(c, Timer) and c.time_remaining(RunningStage.TRAINING) is not None]


class LearningRate(Callback):
    """Warm-up over steps, then decay over the run's progress, whatever it is counted in.

    The optimizer's own rate is the peak. decay: cosine, linear or none, from the share ``decay_from`` of
    the run on; final: the share of the peak that is left at the end.
    """

    def __init__(
        self,
        *,
        warmup_steps: int = 200,
        decay: Literal["cosine", "linear", "none"] = "cosine",
        decay_from: float = 0.0,
        final: float = 0.02,
    ) -> None:
        self.warmup_steps, self.decay, self.decay_from, self.final = warmup_steps, decay, decay_from, final

    def factor(self, step: int, done: float) -> float:
        """The share of the peak rate at a step (from 0), with the share ``done`` of the run behind."""
        warmup = min((step + 1) / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        gone = max(done - self.decay_from, 0.0) / max(1 - self.decay_from, 1e-9)
        left = {"cosine": 0.5 * (1 + math.cos(math.pi * gone)), "linear": 1 - gone, "none": 1.0}[self.decay]
        return warmup * (self.final + (1 - self.final) * left)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                # Kept in the group, and so in the checkpoint: a resumed run finds the rate already lowered.
                group.setdefault("peak_lr", group["lr"])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        factor = self.factor(trainer.global_step, progress(trainer))
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
        pl_module.log("train/lr", trainer.optimizers[0].param_groups[0]["lr"])


class Throughput(Callback):
    """Logs, before each validation, what the run has cost so far and how fast it goes.

    ``train/audio_seconds_per_second`` since the last validation, which itself is left out of the time;
    ``train/hours_of_audio`` and ``train/minutes`` of the whole run, validations and restarts included.
    """

    def __init__(self) -> None:
        self._seconds_of_audio, self._minutes = 0.0, 0.0  # of the whole run
        self._audio, self._clock = 0.0, 0.0  # since the last validation
        self._mark, self._began = 0.0, 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"seconds_of_audio": self._seconds_of_audio, "minutes": self._minutes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds_of_audio, self._minutes = state_dict["seconds_of_audio"], state_dict["minutes"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._mark = self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._audio += batch.seconds * trainer.world_size
        self._seconds_of_audio += batch.seconds * trainer.world_size
        self._clock += now - self._began
        self._minutes += (now - self._mark) / 60
        self._mark = self._began = now

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._clock == 0.0:
            return
        rate = self._audio / self._clock
        cost = {
            "train/audio_seconds_per_second": rate,
            "train/hours_of_audio": self._seconds_of_audio / 3600,
            "train/minutes": self._minutes,
        }
        for logger in trainer.loggers:
            logger.log_metrics(cost, trainer.global_step)
        trainer.progress_bar_metrics["audio_s/s"] = rate
        self._audio, self._clock = 0.0, 0.0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.perf_counter()


class Progress(TQDMProgressBar):
    """Lightning's bar with the time left of the whole run."""

    def __init__(self, refresh_rate: int = 5) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._start: tuple[float, float] | None = None

    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        self._start = (time.monotonic(), progress(args[0]))

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        done = progress(trainer)
        if self._start is not None and done > self._start[1]:
            clock, before = self._start
            seconds = (time.monotonic() - clock) * (1 - done) / (done - before)
            metrics["left"] = f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"
        return metrics


class RandomState(Callback):
    """Keeps torch's random state in the checkpoint, so that dropout goes on as it would have."""

    def state_dict(self) -> dict[str, Any]:
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored: dict[str, Any] | None = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        restored = getattr(self, "_restored", None)
        if restored is not None:
            torch.set_rng_state(restored["cpu"].cpu())
            if restored["cuda"]:
                torch.cuda.set_rng_state_all([state.cpu() for state in restored["cuda"]])


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: a reader finds the old checkpoint or the new, never half of one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
