"""Lightning's Trainer for a run, and how it is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import Logger

from sepnet import artifact
from sepnet.training import loggers
from sepnet.training.checkpoints import AtomicCheckpointIO, BestCheckpoints, LastCheckpoint, Patience
from sepnet.training.datamodule import MixtureDataModule
from sepnet.training.export import ExportBest
from sepnet.training.processes import SameStart
from sepnet.training.progress import Cost, Progress, Throughput
from sepnet.training.samples import Samples
from sepnet.training.schedule import LearningRate
from sepnet.training.settings import TrainSettings
from sepnet.training.task import DivergedError, SeparationTask
from sepnet.types import SepnetError

INTERRUPTED = 130  # the exit status after Ctrl-C


def make_trainer(arguments: Mapping[str, Any], **more: Any) -> pl.Trainer:
    """Make Lightning's Trainer.

    Args:
        arguments: As ``trainer_arguments`` returns them.
        more: Further arguments.

    Raises:
        SepnetError: The Trainer refuses an argument.
    """
    try:
        return pl.Trainer(**{**arguments, **more})
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        raise SepnetError(f"trainer: {' '.join(str(error).split())}") from error


def run_trainer(
    arguments: Mapping[str, Any], run_loggers: list[Logger], folder: Path, callbacks: list[Callback]
) -> pl.Trainer:
    """Make the Trainer of a run.

    Args:
        arguments: As ``trainer_arguments`` returns them.
        run_loggers: Where its numbers go.
        folder: The run folder.
        callbacks: As ``run_callbacks`` returns them.

    Raises:
        SepnetError: The Trainer refuses an argument.
    """
    return make_trainer(
        arguments,
        logger=run_loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,  # the sampler knows the ranks itself
        enable_model_summary=False,
        default_root_dir=folder,
    )


def run_callbacks(
    settings: TrainSettings,
    *,
    same_start: SameStart,
    last: LastCheckpoint,
    export: ExportBest,
) -> list[Callback]:
    """Make what runs beside training, in the order in which Lightning calls it.

    Args:
        settings: Of the training.
        same_start: Gives all processes the start of the first.
        last: Writes the last checkpoint.
        export: Writes the best weights.
    """
    schedule = settings.schedule
    callbacks: list[Callback] = [
        same_start,
        LearningRate(
            warmup_steps=schedule.warmup_steps,
            decay=schedule.decay,
            decay_from=schedule.decay_from,
            final=schedule.final,
        ),
        Throughput(),
        Cost(),
        last,
        export,
        Samples(),
    ]
    # Behind all that wants the averaged weights, or the plain ones at the end.
    if settings.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=settings.ema_decay))
    if settings.early_stopping_patience is not None:
        callbacks.append(
            Patience(f"val/{export.score}", mode="max", patience=settings.early_stopping_patience)
        )
    best = BestCheckpoints(folder=last.path.parent, count=settings.checkpoints.best, score=export.score)
    return [*callbacks, best, Progress()]


def fit(
    trainer: pl.Trainer,
    task: SeparationTask,
    module: MixtureDataModule,
    *,
    resumed: Path | None,
    last: LastCheckpoint,
    export: ExportBest,
) -> None:
    """Train until the end, or until Ctrl-C or SIGTERM, which save a checkpoint and end the program.

    The last weights are validated, also where the training ends between two validations.

    Args:
        trainer: Of the run.
        task: What is trained.
        module: The batches.
        resumed: The checkpoint to go on from.
        last: Writes the last checkpoint.
        export: Writes the best weights.

    Raises:
        DivergedError: The loss is no longer a number, with what to do about it.
        SepnetError: Lightning can't train with these settings.
    """
    try:
        with _saving_on_interrupt(trainer, last):
            trainer.fit(task, datamodule=module, ckpt_path=resumed, weights_only=True)
            if last.n_batches and export.validated_step != trainer.global_step:
                trainer.validate(task, datamodule=module, verbose=False)
    except SystemExit:  # Lightning's answer to Ctrl-C and SIGTERM
        if loggers.first_process():
            saved = f"saved up to step {last.saved_step}" if last.path.is_file() else "nothing is saved yet"
            print(f"\nstopped at step {trainer.global_step}, {saved}", file=sys.stderr)
            print("go on with the same command plus resume=true", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except DivergedError as error:
        raise DivergedError(f"{error}; {_divergence_remedy(last.path)}") from error
    except MisconfigurationException as error:
        raise SepnetError(str(error)) from error


def check_checkpoint(path: Path, task: SeparationTask) -> int:
    """Check that a training can go on from a checkpoint.

    Returns:
        The number of steps in it.

    Raises:
        SepnetError: The file can't be read, or belongs to another architecture.
    """
    checkpoint = artifact.read_checkpoint(path)
    try:
        task.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise SepnetError(
            f"{path} holds another architecture than model describes ({' '.join(str(error).split())[:300]}): "
            "take the settings that the run was started with"
        ) from error
    return checkpoint.n_steps


class _HandlesSigterm(Callback):
    """Handles SIGTERM in place of Lightning, which would end the training without saving it."""

    def __init__(self, handle: Callable[[int, object], None]) -> None:
        self.handle = handle

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signal.signal(signal.SIGTERM, self.handle)


@contextlib.contextmanager
def _saving_on_interrupt(trainer: pl.Trainer, last: LastCheckpoint) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the step and save it; the second stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def handle(number: int, frame: object) -> None:
        if os.getpid() != process:
            return  # a worker, which ends with the training process
        if last.stopping:
            raise KeyboardInterrupt
        last.stopping = True
        if loggers.first_process():
            print("\nstopping after this step (Ctrl-C again: at once)", file=sys.stderr)

    trainer.callbacks.append(_HandlesSigterm(handle))  # type: ignore[attr-defined]
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _divergence_remedy(checkpoint: Path) -> str:
    lower = "a lower optimizer.lr, or trainer.precision=32-true, or look at these files"
    if not checkpoint.is_file():
        return f"take {lower}"
    return f"the last good checkpoint is kept: go on with resume={checkpoint.parent.parent} and {lower}"
