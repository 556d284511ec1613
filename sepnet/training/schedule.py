"""How far a run is, and the learning rate that follows from it."""

from __future__ import annotations

import math
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.trainer.states import RunningStage


def progress(trainer: pl.Trainer) -> float:
    """The share of the run that is done, 0 to 1: of its steps, its epochs or its time, whichever is further.

    All three survive a restart: they are kept in the checkpoint.
    """
    shares = [0.0]
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    batches = trainer.num_training_batches  # infinite before the loader is there
    if trainer.max_epochs is not None and trainer.max_epochs > 0 and math.isfinite(batches):
        steps = math.ceil(batches / trainer.accumulate_grad_batches)  # the last batch always makes a step
        shares.append(trainer.global_step / max(trainer.max_epochs * steps, 1))
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for timer in callbacks:
        if isinstance(timer, Timer) and (left := timer.time_remaining(RunningStage.TRAINING)) is not None:
            elapsed = timer.time_elapsed(RunningStage.TRAINING)
            shares.append(elapsed / max(elapsed + left, 1e-9))
    return min(max(shares), 1.0)


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
        self._peaks: list[list[float]] = []

    def factor(self, step: int, done: float) -> float:
        """The share of the peak rate at a step (from 0), with the share ``done`` of the run behind."""
        warmup = min((step + 1) / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        gone = min(max(done - self.decay_from, 0.0) / max(1 - self.decay_from, 1e-9), 1.0)
        left = {"cosine": 0.5 * (1 + math.cos(math.pi * gone)), "linear": 1 - gone, "none": 1.0}[self.decay]
        return warmup * (self.final + (1 - self.final) * left)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The configuration's rates: the optimizers are fresh here, a checkpoint is read into them later.
        self._peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        factor = self.factor(trainer.global_step, progress(trainer))
        for optimizer, peaks in zip(trainer.optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        pl_module.log("train/lr", trainer.optimizers[0].param_groups[0]["lr"])
