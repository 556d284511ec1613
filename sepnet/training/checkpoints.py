"""Checkpoints from which a stopped run continues exactly: same mixtures, same dropout, same weights.

During an epoch, ``last.ckpt`` is only written after the loss of a batch was computed and before its gradient
is. The weights are then those after the last step, and the loss, the first one with these weights, shows that
they are finite. The batch has changed nothing but the state of the random generators, so the state from
before the batch is saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor

from sepnet.atomic import replacing
from sepnet.training.task import SI_SDRI


def last_checkpoint(folder: Path) -> Path:
    """Return the path of the last checkpoint in a run folder."""
    return folder / "checkpoints" / "last.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints through ``sepnet.atomic``: a reader finds the old or the new one, never half of one.

    The temporary file has a fixed name, so that a run that is killed and resumed many times leaves at most
    one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: Its content.
            path: The file.
            storage_options: Not used.

        Raises:
            SepnetError: The file cannot be written.
        """
        temporary_name = f".{Path(path).name}.partial"
        with (
            replacing(path, temporary_name=temporary_name, durable=True) as temporary,
            temporary.open("wb") as file,  # an open file raises OSError for a full disk, a path RuntimeError
        ):
            torch.save(checkpoint, file)


class LastCheckpoint(Callback):
    """Writes the last checkpoint regularly, after each validation, at the end, and before a requested stop.

    It has to come before a callback that averages weights, because that one replaces the weights at the end
    of the training, and a resumed run needs the original ones.

    Args:
        path: The file.
        every_n_steps: The number of optimizer steps between two checkpoints.

    Attributes:
        stopping: Set it to true to end the training: after the next step, and once that is saved, the
            callback raises KeyboardInterrupt.
        n_batches: The number of batches that this process has trained on.
        saved_step: The number of optimizer steps in the file.
    """

    def __init__(self, *, path: Path, every_n_steps: int) -> None:
        self.path, self.every_n_steps = path, every_n_steps
        self.stopping = False
        self.n_batches = 0
        self.saved_step = 0
        self._validated = False
        self._random_before_batch: dict[str, Any] | None = None  # None between two batches
        self._restored_random: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"random": self._random_before_batch or _random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored_random = state_dict["random"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        set_between_batches(checkpoint["loops"]["fit_loop"], trainer.num_training_batches)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Else Lightning would train another epoch before it checks this.
        for stop in trainer.early_stopping_callbacks:
            trainer.should_stop |= stop.wait_count >= stop.patience

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._restored_random is not None:
            _set_random_state(self._restored_random)
            self._restored_random = None
            # The step that loggers use, which Lightning does not always restore.
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        self._random_before_batch = _random_state()

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if trainer.fit_loop.batch_idx % trainer.accumulate_grad_batches:
            return  # gradients were accumulated for the next step, and a checkpoint does not contain them
        stopping = trainer.strategy.reduce_boolean_decision(self.stopping, all=False)
        n_unsaved = trainer.global_step - self.saved_step
        if n_unsaved >= self.every_n_steps or self._validated or (stopping and n_unsaved):
            self._save(trainer)
        if stopping:
            raise KeyboardInterrupt

    def on_train_batch_end(self, *args: Any) -> None:
        self._random_before_batch = None
        self.n_batches += 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.saved_step, self._validated = trainer.global_step, False


class BestCheckpoints(ModelCheckpoint):
    """Keeps the checkpoints with the highest validation scores; their folder may be moved between two runs.

    Args:
        folder: The folder of the checkpoints.
        count: The number of checkpoints to keep.
        score: The name of the score, without ``val/``.
    """

    def __init__(self, *, folder: Path, count: int, score: str = SI_SDRI) -> None:
        super().__init__(
            dirpath=folder,
            filename=f"step{{step}}-{score}{{val/{score}:.2f}}",
            auto_insert_metric_name=False,
            monitor=f"val/{score}",
            mode="max",
            save_top_k=count,
            save_on_train_epoch_end=False,  # but after validations: later, the score may be outdated
            enable_version_counter=False,  # a step that is repeated after a restart overwrites its file
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.dirpath is not None
        folder = Path(self.dirpath)

        def moved(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        paths = {name: moved(state_dict[name]) for name in ("best_model_path", "kth_best_model_path")}
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        kept = dict(sorted(best.items(), key=lambda item: float(item[1]), reverse=True)[: self.save_top_k])
        for path in best.keys() - kept.keys():  # the run that goes on keeps fewer
            Path(path).unlink(missing_ok=True)
        if best != kept and kept:
            paths["kth_best_model_path"] = worst = next(reversed(kept))
            state_dict = {**state_dict, "kth_value": kept[worst]}
        super().load_state_dict({**state_dict, **paths, "best_k_models": kept, "dirpath": self.dirpath})


class Patience(EarlyStopping):
    """Stops after so many validations without a better score; a resumed run has the patience it is given."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})


def set_between_batches(fit_loop: dict[str, Any], n_batches: float) -> None:
    """Set the counters of Lightning's loops, in a checkpoint, to the moment between two batches.

    In every hook that writes a checkpoint, the counters describe an unfinished batch or epoch. What a restart
    makes of these depends on the hook, on max_steps and on the validation: an epoch is skipped, counted
    twice, or not validated. Between two batches the state is unambiguous: the numbers of finished epochs and
    batches, and an unfinished epoch if some of its batches are finished.

    Args:
        fit_loop: The state of the fit loop in a checkpoint; it is changed.
        n_batches: The number of batches in an epoch.
    """
    batches, epochs = fit_loop["epoch_loop.batch_progress"], fit_loop["epoch_progress"]
    n_processed = batches["current"]["processed"]
    if epoch_is_finished := n_processed >= n_batches:
        n_processed = 0
    n_started = epochs["current"]["started"]
    n_finished = n_started if epoch_is_finished else n_started - 1
    n_started = n_finished + (n_processed > 0)
    batches["is_last_batch"] = False
    batches["current"] = dict.fromkeys(batches["current"], n_processed)
    batches["total"] = dict.fromkeys(batches["total"], batches["total"]["processed"])
    for scope in ("current", "total"):
        epochs[scope] |= {
            "ready": n_started,
            "started": n_started,
            "processed": n_finished,
            "completed": n_finished,
        }


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all([device_state.cpu() for device_state in state["cuda"]])
