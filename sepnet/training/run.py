"""A training, from its settings to a run folder."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml

from sepnet import artifact, atomic
from sepnet.data.dataset import MixtureData
from sepnet.settings import nearest
from sepnet.training import fitting, loggers
from sepnet.training.batch_size import largest_batch
from sepnet.training.checkpoints import LastCheckpoint, last_checkpoint
from sepnet.training.datamodule import MixtureDataModule
from sepnet.training.export import ExportBest
from sepnet.training.processes import SameStart, Start, check_processes
from sepnet.training.progress import score_text
from sepnet.training.run_folder import find_run, new_run, new_run_folder
from sepnet.training.settings import TrainSettings, trainer_arguments
from sepnet.training.task import SeparationTask, score_name
from sepnet.training.trainer import (
    INTERRUPTED,
    check_checkpoint,
    fit,
    make_trainer,
    run_callbacks,
    run_trainer,
)
from sepnet.training.warm_start import begin_from
from sepnet.types import Compilable, FittedSeparator, Separator, SepnetError, Trainable

IGNORED_WARNINGS = (
    ".*does not have many workers.*",  # mixing is cheap, see MixtureDataModule
    ".*exists and is not empty.*",
    ".*your dataloader is not resumable.*",  # it is, see MixtureDataModule
    ".*is smaller than the logging interval.*",
    ".*isinstance\\(treespec.*",
)


class Training:
    """A training whose settings are checked and whose parts are built; ``run`` writes the run folder.

    Args:
        settings: The typed settings.
        config: The same as plain containers, which the run folder keeps.
        model_name: The name of the run where the settings have none.

    Raises:
        SepnetError: The settings contradict each other, or a part can't be built of them.
    """

    def __init__(self, settings: TrainSettings, config: Mapping[str, Any], *, model_name: str) -> None:
        _quieten_lightning()
        self.settings, self.config = settings, dict(config)
        self.name = settings.name or model_name
        _check_rates(self.config)
        self.trainer_arguments = trainer_arguments(settings.trainer)
        trainer = make_trainer(self.trainer_arguments, logger=False, enable_checkpointing=False)
        check_processes(trainer)
        pl.seed_everything(settings.seed, verbose=False)
        self.make_loggers = artifact.build({**settings.logger, "_partial_": True}, key="logger")
        self.data: MixtureData = artifact.build(settings.data, key="data")
        # A model's configuration may come from a stranger.
        self.separator = artifact.build(settings.model, packages=artifact.METHODS, key="model")
        if isinstance(self.separator, FittedSeparator):
            _check_fitted(self.separator, settings, n_processes=trainer.world_size)
            return
        _check_labels(self.separator, self.config)
        optimizer = artifact.build(settings.optimizer, key="optimizer")
        self.task = SeparationTask(separator=self.separator, optimizer=optimizer)
        try:
            self.task.configure_optimizers()
        except (TypeError, ValueError) as error:
            raise SepnetError(f"optimizer: {' '.join(str(error).split())}") from error
        if settings.compile is not None:
            compile_network(self.separator, settings.compile)

    def run(self) -> None:
        """Train until the end that the settings give.

        Raises:
            SepnetError: The data can't be used, the training diverges, or there is no run to go on with.
        """
        if isinstance(self.separator, FittedSeparator):
            self._fit_at_once(self.separator)
            return
        resumed_run = find_run(self.config) if self.settings.resume else None
        has_started = resumed_run is not None and last_checkpoint(resumed_run).is_file()
        if self.settings.ckpt is not None and not has_started:
            summary = begin_from(self.task.separator, self.settings.ckpt)
            if loggers.first_process():
                print(summary)
        loader = self.settings.loader
        module = MixtureDataModule(
            data=self.data,
            batch_size=self._batch_size(resumed_run),
            n_workers=loader.n_workers,
            n_valid=loader.n_valid,
        )
        first = loggers.first_process()
        if first:  # the others wait until this is done, and read it, or get the folder, in SameStart
            module.prepare_data()  # before there is a folder: what it refuses leaves nothing behind
            module.check_scores(self.separator)
        with contextlib.ExitStack() as stack:
            stack.callback(_disconnect)
            folder = resumed_run or self.settings.runs
            if first and resumed_run is None:
                new = new_run(self.settings.runs, self.name, lambda folder, _: self._write_config(folder))
                folder = stack.enter_context(new)
            self._run_in(folder, module, resumes=resumed_run is not None)

    def _write_config(self, folder: Path) -> None:
        atomic.write_text(folder / artifact.CONFIG, yaml.safe_dump(self.config, sort_keys=False))

    def _run_in(self, folder: Path, module: MixtureDataModule, *, resumes: bool) -> None:
        fingerprint = self.data.fingerprint if loggers.first_process() else ""
        last = LastCheckpoint(
            path=last_checkpoint(folder), every_n_steps=self.settings.checkpoints.every_n_steps
        )
        export = ExportBest(
            folder=folder,
            config=self.config,
            data_fingerprint=fingerprint,
            save=artifact.save,
            score=score_name(self.separator),
        )
        checkpoint = last.path if resumes and last.path.is_file() else None
        n_steps = 0
        if checkpoint is not None:
            _check_optimizer(folder, self.config)
            n_steps = check_checkpoint(checkpoint, self.task)
        same_start = SameStart(
            lambda: Start(folder, n_steps, module.batch_size, self.data.fingerprint), module, last
        )
        described = {**self.config, "data_fingerprint": fingerprint, **artifact.describe_environment()}
        trainer = run_trainer(
            self.trainer_arguments,
            self.make_loggers(folder=folder, config=described),
            folder,
            run_callbacks(self.settings, same_start=same_start, last=last, export=export),
        )
        if loggers.first_process():
            if resumes:
                self._write_config(folder)
            self._announce(trainer, module, folder, resumes=resumes, checkpoint=checkpoint)
        fit(trainer, self.task, module, resumed=checkpoint, last=last, export=export)
        if loggers.first_process():
            _conclude(trainer, last, export, folder)

    def _fit_at_once(self, separator: FittedSeparator) -> None:
        """Train a separator that learns without steps. There is a run folder only once it is done."""
        assert isinstance(separator, torch.nn.Module)
        try:
            metrics = fitting.fit(separator, self.data, n_valid=self.settings.loader.n_valid)
        except KeyboardInterrupt:
            print("\nstopped, nothing is saved: give the same command to start anew", file=sys.stderr)
            sys.exit(INTERRUPTED)
        save = partial(
            artifact.save,
            separator,
            config=self.config,
            metrics=metrics,
            data_fingerprint=self.data.fingerprint,
        )
        folder = new_run_folder(self.settings.runs, self.name, lambda new, name: save(new, name=name))
        print(f"run folder {folder}")
        print(
            f"done: fitted in {metrics['fit_seconds']} s, SI-SDRi {metrics['si_sdri_db']:.2f} dB on "
            f"{metrics['n_valid']} validation mixtures; the weights are in {folder / artifact.WEIGHTS}"
        )

    def _batch_size(self, resumed_run: Path | None) -> int:
        """The number of mixtures in a step; for ``auto`` what fits, or that of the run that goes on."""
        wanted = self.settings.loader.batch_size
        if isinstance(wanted, int):
            return wanted
        if resumed_run is not None:
            size = int(artifact.read_settings(resumed_run)["loader"]["batch_size"])
        elif not loggers.first_process():
            return 1  # until SameStart sets it
        else:
            trainer = make_trainer(self.trainer_arguments, logger=False, enable_checkpointing=False)
            size = trainer.world_size * largest_batch(
                self.separator,
                self.data,
                device=trainer.strategy.root_device,
                precision=trainer.precision_plugin.forward_context,
                max_size=self.data.epoch_size // trainer.world_size,
            )
            print(f"{size} mixtures a step fit into memory")
        self.config["loader"] = {**self.config["loader"], "batch_size": size}
        return size

    def _announce(
        self,
        trainer: pl.Trainer,
        module: MixtureDataModule,
        folder: Path,
        *,
        resumes: bool,
        checkpoint: Path | None,
    ) -> None:
        if not resumes:
            print(f"run folder {folder}")
        else:
            start = "from its last checkpoint" if checkpoint else "from the start: it has no checkpoint yet"
            print(f"going on with {folder} {start}")
        if left_out := self.data.epoch_size % module.batch_size:
            print(
                f"{left_out} of the {self.data.epoch_size} mixtures of each epoch are left out, as they fill "
                f"no batch of {module.batch_size}: make data.epoch_size a multiple of it to use them"
            )
        n_parameters = sum(parameter.numel() for parameter in self.task.parameters())
        latency = self.separator.info.latency_seconds if isinstance(self.separator, Separator) else None
        causal = "" if latency is None else f", causal: {1000 * latency:.0f} ms of latency"
        device = trainer.accelerator.name()
        print(f"{n_parameters / 1e6:.2f} M parameters, {trainer.precision}, {device}{causal}")


def _disconnect() -> None:
    """End the runs of loggers, and the group of processes, whose threads would be ended with the program."""
    loggers.close()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _conclude(trainer: pl.Trainer, last: LastCheckpoint, export: ExportBest, folder: Path) -> None:
    """Say what was reached."""
    best = score_text(export.score, export.best)
    reached = f"{trainer.global_step} steps, {best} on the validation set at best"
    if last.n_batches == 0:
        print(
            f"this run is finished: {reached}; to go on, raise what ended it (trainer.max_time, max_epochs, "
            f"max_steps, or early_stopping_patience) and give resume={folder}"
        )
    elif (folder / artifact.WEIGHTS).exists():
        print(f"done: {reached}; the weights are in {folder / artifact.WEIGHTS}")
    else:
        print(
            f"done: {trainer.global_step} steps, without a validation: the weights are in {last.path} alone"
        )


def _check_optimizer(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise SepnetError where a run would go on with another optimizer, whose state is another."""
    before, now = (
        str(settings["optimizer"]["_target_"]) for settings in (artifact.read_settings(folder), config)
    )
    if before != now:
        raise SepnetError(
            f"{folder} was trained with {before}, and {now} can't go on with its state: take the settings "
            f"that the run was started with, or begin a new run from its weights with ckpt={folder}"
        )


def _check_rates(config: Mapping[str, Any]) -> None:
    """Raise SepnetError where model and data differ in their sample rates."""
    data_rate, model_rate = config["data"].get("sample_rate"), config["model"].get("sample_rate")
    if None not in (data_rate, model_rate) and data_rate != model_rate:
        raise SepnetError(
            f"data.sample_rate is {data_rate} Hz, but model.sample_rate {model_rate} Hz: they have to agree"
        )


def _check_labels(separator: Trainable, config: Mapping[str, Any]) -> None:
    """Raise SepnetError where outputs would learn other classes than their labels say."""
    labels = separator.info.labels if isinstance(separator, Separator) else None
    mixing = config["data"].get("mixing")
    slots = (mixing.get("slots") if isinstance(mixing, Mapping) else None) or ()
    if labels is not None and list(labels) != list(slots):
        raise SepnetError(
            f"model.labels is {list(labels)}, but data.mixing.slots {list(slots) or None}: "
            "an output learns the class of its slot, so they have to be the same, in order"
        )


def _check_fitted(separator: FittedSeparator, settings: TrainSettings, *, n_processes: int) -> None:
    """Raise SepnetError for settings of trainings that go on step by step."""
    name = type(separator).__name__
    if n_processes > 1:
        raise SepnetError(
            f"{name} learns in one process, not in {n_processes}: set trainer.devices and trainer.num_nodes "
            "to 1"
        )
    if settings.ckpt is not None:
        raise SepnetError(f"{name} learns anew from all clips at once: leave out ckpt")
    if settings.resume:
        raise SepnetError(f"{name} learns all at once, so there is nothing to go on with: leave out resume")


def compile_network(separator: Trainable, backend: str) -> None:
    """Have the network translated by torch.compile when it is first called; its weights keep their names.

    Args:
        separator: One with a network.
        backend: Of torch.compile.

    Raises:
        SepnetError: There is no such backend, or the separator has no network.
    """
    if not isinstance(separator, Compilable):
        raise SepnetError(f"{type(separator).__name__} has no network to compile: leave out compile")
    if backend not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise SepnetError(f"compile={backend}{nearest(backend, known)}")
    separator.network.compile(backend=backend)


def _quieten_lightning() -> None:
    """Leave out what Lightning says at each start."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
