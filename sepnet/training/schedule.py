"""The progress of a run, and the learning rate that depends on it."""

from __future__ import annotations

import math
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.trainer.states import RunningStage


def progress(trainer: pl.Trainer) -> float:
    """Compute which share of the run is done: of its steps, its epochs or its time, the largest of these.

    All three continue after a restart, because they are in the checkpoint.

    Args:
        trainer: The trainer of the run.

    Returns:
        0 to 1.
    """
    shares = [0.0]
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    n_batches = trainer.num_training_batches  # infinite before there is a data loader
    if trainer.max_epochs is not None and trainer.max_epochs > 0 and math.isfinite(n_batches):
        n_steps = math.ceil(n_batches / trainer.accumulate_grad_batches)  # the last batch always makes a step
        shares.append(trainer.global_step / max(trainer.max_epochs * n_steps, 1))
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for timer in callbacks:
        if (
            isinstance(timer, Timer)
            and (remaining := timer.time_remaining(RunningStage.TRAINING)) is not None
        ):
            elapsed = timer.time_elapsed(RunningStage.TRAINING)
            shares.append(elapsed / max(elapsed + remaining, 1e-9))
    return min(max(shares), 1.0)


def _common_progress(trainer: pl.Trainer) -> float:
    """The progress that all processes use: they started at different times, and their weights stay equal."""
    done = progress(trainer)
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if trainer.world_size == 1 or not any(isinstance(callback, Timer) for callback in callbacks):
        return done
    shares = torch.tensor(done, device=trainer.strategy.root_device)
    return float(trainer.strategy.reduce(shares, reduce_op="mean"))


class LearningRate(Callback):
    """Sets the learning rate: a linear warm-up over steps, then a decay over the progress of the run.

    The peak is the rate in the configuration of the optimizer. A resumed run has the rate and all other
    settings of the optimizer that its configuration says, not those in its checkpoint.

    Args:
        warmup_steps: The number of steps of the warm-up.
        decay: The shape of the decay.
        decay_from: The share of the run after which the decay starts, 0 to 1.
        final: The rate at the end of the run, as a share of the peak.
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
        self._settings: list[list[dict[str, Any]]] = []  # of each group of parameters of each optimizer

    def factor(self, step: int, done: float) -> float:
        """Compute the factor of the peak rate.

        Args:
            step: The number of steps before this one.
            done: The share of the run that is done, 0 to 1.

        Returns:
            0 to 1.
        """
        warmup = min((step + 1) / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        phase = min(max(done - self.decay_from, 0.0) / max(1 - self.decay_from, 1e-9), 1.0)
        shapes = {"cosine": 0.5 * (1 + math.cos(math.pi * phase)), "linear": 1 - phase, "none": 1.0}
        return warmup * (self.final + (1 - self.final) * shapes[self.decay])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Those in the configuration: a checkpoint is only read into the optimizers after this.
        self._settings = [
            [
                {name: value for name, value in group.items() if name != "params"}
                for group in optimizer.param_groups
            ]
            for optimizer in trainer.optimizers
        ]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for optimizer, settings in zip(trainer.optimizers, self._settings, strict=True):
            for group, given in zip(optimizer.param_groups, settings, strict=True):
                group.update(given)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        factor = self.factor(trainer.global_step, _common_progress(trainer))
        for optimizer, settings in zip(trainer.optimizers, self._settings, strict=True):
            for group, given in zip(optimizer.param_groups, settings, strict=True):
                group["lr"] = given["lr"] * factor
        pl_module.log("train/lr", trainer.optimizers[0].param_groups[0]["lr"])
