"""Checkpoints that a stopped run goes on from exactly: same mixtures, same dropout, same weights.

``last.ckpt`` is written at one kind of moment alone: the loss of a batch is known, its gradient is not.
The weights then are those after the last step, and this loss, the first that they gave, has shown them to
be sound. The batch itself has left no trace but in the random state, so the state from before it is kept.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from sepnet.training.task import SCORE


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: a reader finds the old or the new, never half of one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except OSError as error:  # a write does not say where
            raise OSError(error.errno, error.strerror, str(target)) from error
        finally:
            partial.unlink(missing_ok=True)


class LastCheckpoint(Callback):
    """Writes ``path`` every so many steps, after each validation, at the end, and when asked to stop.

    Stands before a callback that averages weights: at the end that one overwrites those that training
    would go on with. ``stopping``: set it, and training is left by KeyboardInterrupt after the next step,
    once that is saved. ``n_batches``: how many batches this process has trained on; ``saved_step``: how
    many steps the file holds.
    """

    def __init__(self, *, path: Path, every_n_steps: int) -> None:
        self.path, self.every_n_steps = path, every_n_steps
        self.stopping = False
        self.n_batches = 0
        self.saved_step = 0
        self._validated = False
        self._random: dict[str, Any] | None = None  # from before the batch, while one is under way
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"random": self._random or _random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict["random"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        settle(checkpoint["loops"]["fit_loop"], trainer.num_training_batches)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning would train another epoch before it asks again.
        for stop in trainer.early_stopping_callbacks:
            trainer.should_stop |= stop.wait_count >= stop.patience

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._restored is not None:
            _set_random_state(self._restored)
            self._restored = None
            # The x axis of the loggers, which Lightning does not always restore.
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        self._random = _random_state()

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if trainer.fit_loop.batch_idx % trainer.accumulate_grad_batches:
            return  # gradients that a checkpoint doesn't hold wait for the rest of their step
        stopping = trainer.strategy.reduce_boolean_decision(self.stopping, all=False)
        new = trainer.global_step - self.saved_step
        if new >= self.every_n_steps or self._validated or (stopping and new):
            self._save(trainer)
        if stopping:
            raise KeyboardInterrupt

    def on_train_batch_end(self, *args: Any) -> None:
        self._random = None
        self.n_batches += 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.saved_step, self._validated = trainer.global_step, False


class BestCheckpoints(ModelCheckpoint):
    """The ``count`` checkpoints with the highest ``val/<score>``; the folder may move between two runs."""

    def __init__(self, *, folder: Path, count: int, score: str = SCORE) -> None:
        super().__init__(
            dirpath=folder,
            filename=f"step{{step}}-{score}{{val/{score}:.2f}}",
            auto_insert_metric_name=False,
            monitor=f"val/{score}",
            mode="max",
            save_top_k=count,
            save_on_train_epoch_end=False,  # at the end of a validation: later the score may be an old one
            enable_version_counter=False,  # a step that is done again overwrites what it left
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.dirpath is not None
        here = Path(self.dirpath)

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        paths = {name: moved(state_dict[name]) for name in ("best_model_path", "kth_best_model_path")}
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})


def settle(fit_loop: dict[str, Any], n_batches: float) -> None:
    """Make the counters of Lightning's loops, in a checkpoint, tell of a moment between two batches.

    n_batches: in an epoch. Whichever hook a checkpoint is written in, its counters tell of a batch or an
    epoch under way, and what becomes of that at a restart depends on the hook, on max_steps and on the
    validation: an epoch is skipped, counted twice, or not validated. The state between two batches is
    unambiguous: the epochs and batches that are done, and an epoch under way where some of it is done.
    """
    batches, epochs = fit_loop["epoch_loop.batch_progress"], fit_loop["epoch_progress"]
    done = batches["current"]["processed"]
    if whole := done >= n_batches:
        done = 0
    begun = epochs["current"]["started"]
    finished = begun if whole else begun - 1
    begun = finished + (done > 0)
    batches["is_last_batch"] = False
    batches["current"] = dict.fromkeys(batches["current"], done)
    batches["total"] = dict.fromkeys(batches["total"], batches["total"]["processed"])
    for scope in ("current", "total"):
        epochs[scope] |= {"ready": begun, "started": begun, "processed": finished, "completed": finished}


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
