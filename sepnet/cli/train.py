"""``sepnet train``: train a model, and write a run folder."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sepnet import artifact, atomic
from sepnet.cli import app, warm_start
from sepnet.data.dataset import MixtureData
from sepnet.training import fitting, loggers
from sepnet.training.batch_size import largest_batch
from sepnet.training.checkpoints import AtomicCheckpointIO, BestCheckpoints, LastCheckpoint
from sepnet.training.datamodule import MixtureDataModule
from sepnet.training.export import ExportBest
from sepnet.training.precision import has_fast_bfloat16
from sepnet.training.progress import Cost, Progress, Throughput, told_score
from sepnet.training.samples import Samples
from sepnet.training.schedule import LearningRate
from sepnet.training.settings import check_settings
from sepnet.training.task import DivergedError, SeparationTask, score_name
from sepnet.types import FittedSeparator, Separator, SepnetError, Trainable

BATCH_SIZE = "SEPNET_BATCH_SIZE"  # in the environment of the processes that the first one starts
IGNORED = ("runs", "resume")  # settings that may differ between a run and its resumption
CHECKED = ("name", "seed", "ema_decay", "optimizer", "schedule", "checkpoints", "loader")  # by check_settings
SAY_NOTHING_OF = (
    ".*does not have many workers.*",  # mixing is cheap, see MixtureDataModule
    ".*exists and is not empty.*",
    ".*your dataloader is not resumable.*",  # it is, see MixtureDataModule
    ".*is smaller than the logging interval.*",
    ".*isinstance\\(treespec.*",
)


def main() -> None:
    """The command line."""
    app.run(train, "train")


def train(config: DictConfig) -> None:
    """Train what the configuration describes. Raises SepnetError for what can't be."""
    _quiet()
    app.require_all(config)
    check_settings(_checked_groups(config))
    if config.ckpt is not None:
        config = _adopted(config)
    _check(config)
    pl.seed_everything(config.seed, verbose=False)
    data = artifact.build(config.data)
    separator = artifact.build(config.model, packages=artifact.METHODS)  # it may be a stranger's
    if isinstance(separator, FittedSeparator):
        _fit_at_once(config, separator, data)
        return
    _check_slots(separator, config)
    standing = _find(config) if config.resume else None
    if config.compile is not None:
        _compile(separator, config.compile)
    task = SeparationTask(separator=separator, optimizer=artifact.build(config.optimizer))
    if config.ckpt is not None and standing is None:
        told = warm_start.begin_from(task.separator, config.ckpt)
        if loggers.first_process():
            print(told)
    config = _with_batch_size(config, separator, data, standing)
    module = MixtureDataModule(data=data, **config.loader)
    module.prepare_data()  # before there is a folder: what it refuses leaves nothing behind
    folder = standing or _new(config)
    checkpoints = folder / "checkpoints"
    last = LastCheckpoint(path=checkpoints / "last.ckpt", every_n_steps=config.checkpoints.every_n_steps)
    export = ExportBest(
        folder=folder,
        config=config,
        data_fingerprint=data.fingerprint,
        save=artifact.save,
        score=score_name(separator),
    )
    resumed = last.path if standing is not None and last.path.is_file() else None
    if resumed is not None:
        _check_checkpoint(resumed, task)
    try:
        trainer = _trainer(config, folder, data.fingerprint, _callbacks(config, checkpoints, last, export))
        if loggers.first_process():
            _write(config, folder)
            _announce(trainer, task, folder, standing, resumed)
        _fit(trainer, task, module, resumed, last)
        if loggers.first_process():
            _close(trainer, last, export, folder)
    finally:
        loggers.close()


def _fit_at_once(config: DictConfig, separator: FittedSeparator, data: MixtureData) -> None:
    """Train what learns without steps. There is a run folder only once it is done."""
    if config.ckpt is not None:
        raise SepnetError(f"{type(separator).__name__} learns anew from all clips at once: leave out ckpt")
    if config.resume:
        raise SepnetError(
            f"{type(separator).__name__} learns all at once, so there is nothing to go on with: "
            "leave out resume"
        )
    assert isinstance(separator, torch.nn.Module)
    try:
        metrics = fitting.fit(separator, data, n_valid=config.loader.n_valid)
    except KeyboardInterrupt:
        print("\nstopped, nothing is saved: give the same command to start anew", file=sys.stderr)
        sys.exit(app.INTERRUPTED)
    folder = _new(config)
    print(f"run folder {folder}")
    artifact.save(separator, folder, config=config, metrics=metrics, data_fingerprint=data.fingerprint)
    print(
        f"done: fitted in {metrics['fit_seconds']} s, SI-SDRi {metrics['si_sdri_db']:.2f} dB on "
        f"{metrics['n_valid']} validation mixtures; the weights are in {folder / artifact.WEIGHTS}"
    )


def _check_checkpoint(path: Path, task: SeparationTask) -> None:
    """Raises SepnetError for a checkpoint that can't be read, or of another architecture."""
    try:
        weights = torch.load(path, map_location="cpu", mmap=True, weights_only=True)["state_dict"]
    except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise SepnetError(
            f"{path} can't be read ({' '.join(str(error).split())[:200]}): put another checkpoint of the run "
            "in its place, or start anew"
        ) from error
    try:
        task.load_state_dict(weights)
    except RuntimeError as error:
        raise SepnetError(
            f"{path} holds another architecture than model describes ({' '.join(str(error).split())[:300]}): "
            "take the settings that the run was started with"
        ) from error


def _announce(
    trainer: pl.Trainer, task: SeparationTask, folder: Path, standing: Path | None, resumed: Path | None
) -> None:
    if standing is None:
        print(f"run folder {folder}")
    else:
        start = "from its last checkpoint" if resumed else "from the start: it has no checkpoint yet"
        print(f"going on with {folder} {start}")
    parameters = sum(p.numel() for p in task.parameters())
    latency = task.separator.info.latency_seconds if isinstance(task.separator, Separator) else None
    causal = "" if latency is None else f", causal: {1000 * latency:.0f} ms of latency"
    print(f"{parameters / 1e6:.2f} M parameters, {trainer.precision}, {trainer.accelerator.name()}{causal}")


def _fit(
    trainer: pl.Trainer,
    task: SeparationTask,
    module: MixtureDataModule,
    resumed: Path | None,
    last: LastCheckpoint,
) -> None:
    """trainer.fit, with what can go wrong told in one sentence."""
    try:
        with _stopping(last):
            trainer.fit(task, datamodule=module, ckpt_path=resumed, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C and SIGTERM
        if loggers.first_process():
            saved = f"saved up to step {last.saved_step}" if last.path.is_file() else "nothing is saved yet"
            print(f"\nstopped at step {trainer.global_step}, {saved}", file=sys.stderr)
            print("go on with the same command plus resume=true", file=sys.stderr)
        sys.exit(app.INTERRUPTED)
    except DivergedError as error:
        raise DivergedError(f"{error}; {_advice(last.path)}") from error
    except MisconfigurationException as error:
        raise SepnetError(str(error)) from error


def _advice(checkpoint: Path) -> str:
    """What to do about a loss that is no longer a number."""
    lower = "a lower optimizer.lr, or trainer.precision=32-true, or look at these files"
    if not checkpoint.is_file():
        return f"take {lower}"
    return f"the last good checkpoint is kept: go on with resume={checkpoint.parent.parent} and {lower}"


def _close(trainer: pl.Trainer, last: LastCheckpoint, export: ExportBest, folder: Path) -> None:
    """Say what was reached."""
    best = told_score(export.score, export.best)
    reached = f"{trainer.global_step} steps, {best} on the validation set at best"
    if last.n_batches == 0:
        print(
            f"this run is finished: {reached}; to go on, raise what ended it (trainer.max_time, max_epochs, "
            f"max_steps, or early_stopping_patience) and give resume={folder}"
        )
    else:
        print(f"done: {reached}; the weights are in {folder / artifact.WEIGHTS}")


def _trainer(
    config: DictConfig, folder: Path, data_fingerprint: str, callbacks: list[Callback]
) -> pl.Trainer:
    """Lightning's Trainer. Raises SepnetError for settings that it does not take."""
    container: Any = OmegaConf.to_container(config, resolve=True)
    described = {**container, "data_fingerprint": data_fingerprint, **artifact.describe_environment()}
    logger = artifact.build({**container["logger"], "_partial_": True})
    try:
        return pl.Trainer(
            **_settings(config),
            logger=logger(folder=folder, config=described),
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            use_distributed_sampler=False,  # the sampler knows the ranks itself
            enable_model_summary=False,
            default_root_dir=folder,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        with contextlib.suppress(OSError):
            folder.rmdir()  # if it is empty: the run has not begun
        raise SepnetError(f"trainer: {error}") from error


def _settings(config: DictConfig) -> dict[str, Any]:
    """The trainer's own, with the precision that this machine is good at in place of ``auto``."""
    settings: Any = OmegaConf.to_container(config.trainer, resolve=True)
    return {**settings, "precision": _precision(settings["precision"])}


def _callbacks(
    config: DictConfig, checkpoints: Path, last: LastCheckpoint, export: ExportBest
) -> list[Callback]:
    """What runs beside training, in the order in which Lightning calls it."""
    callbacks: list[Callback] = [LearningRate(**config.schedule), Throughput(), Cost()]
    callbacks += [last, export, Samples()]
    # Behind all that wants the averaged weights, or the plain ones at the end.
    if config.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=config.ema_decay))
    if config.early_stopping_patience is not None:
        callbacks.append(
            EarlyStopping(f"val/{export.score}", mode="max", patience=config.early_stopping_patience)
        )
    return [
        *callbacks,
        BestCheckpoints(folder=checkpoints, count=config.checkpoints.best, score=export.score),
        Progress(),
    ]


@contextlib.contextmanager
def _stopping(last: LastCheckpoint) -> Iterator[None]:
    """The first Ctrl-C lets the step end and be saved; the second stops at once."""
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

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _checked_groups(config: DictConfig) -> dict[str, Any]:
    """The settings that ``check_settings`` looks at, as nested dictionaries."""
    return {
        name: OmegaConf.to_container(config[name], resolve=True)
        if isinstance(config[name], DictConfig)
        else config[name]
        for name in CHECKED
    }


def _check(config: DictConfig) -> None:
    rate = config.data.get("sample_rate")
    wanted = config.model.get("sample_rate")
    if None not in (rate, wanted) and rate != wanted:
        raise SepnetError(
            f"data.sample_rate is {rate} Hz, but model.sample_rate {wanted} Hz: they have to agree"
        )
    size = config.loader.batch_size
    if size != "auto" and not isinstance(size, int):
        raise SepnetError(f"loader.batch_size is {size!r}: give a number, or auto")
    known = inspect.signature(pl.Trainer).parameters
    for name in config.trainer:
        if name not in known:
            raise SepnetError(f"Lightning's Trainer has no setting {name!r}{app.nearest(name, known)}")
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise SepnetError("trainer=gpu was asked for, but torch sees no GPU: take trainer=cpu")


def _compile(separator: Trainable, backend: str) -> None:
    """Have the network translated by torch.compile when it is first called; its weights keep their names."""
    network = getattr(separator, "network", None)
    if not isinstance(network, torch.nn.Module):
        raise SepnetError(f"{type(separator).__name__} has no network to compile: leave out compile")
    if backend not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise SepnetError(f"compile={backend}{app.nearest(backend, known)}")
    network.compile(backend=backend)


def _with_batch_size(
    config: DictConfig, separator: Trainable, data: MixtureData, standing: Path | None
) -> DictConfig:
    """The configuration with a number in place of ``auto``: found, or that of the run that goes on."""
    if config.loader.batch_size != "auto":
        return config
    settled = config.copy()
    if standing is not None:
        settled.loader.batch_size = artifact.read_config(standing).loader.batch_size
        return settled
    if not loggers.first_process():  # which it has started: all have to take the same
        settled.loader.batch_size = int(os.environ[BATCH_SIZE])
        return settled
    try:
        plan = pl.Trainer(**{**_settings(config), "logger": False, "enable_checkpointing": False})
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise SepnetError(f"trainer: {error}") from error
    size = largest_batch(
        separator,
        data,
        device=plan.strategy.root_device,
        precision=plan.precision_plugin.forward_context,
        most=data.epoch_size // plan.world_size,
    )
    settled.loader.batch_size = size * plan.world_size
    os.environ[BATCH_SIZE] = str(settled.loader.batch_size)
    print(f"{settled.loader.batch_size} mixtures a step fit into memory")
    return settled


def _adopted(config: DictConfig) -> DictConfig:
    """The configuration with the model that the weights of ``ckpt`` belong to.

    A run that goes on has long left those behind: its own model counts.
    """
    if not config.resume:
        return warm_start.adopt_model(config, _overrides(), chosen=_choice("model"))
    adopted = config.copy()
    adopted.model = artifact.read_config(_find(config)).model
    return adopted


def _check_slots(separator: Trainable, config: DictConfig) -> None:
    """Raises SepnetError for outputs that would learn other classes than those that they stand for."""
    labels, slots = (
        separator.info.labels if isinstance(separator, Separator) else None,
        config.data.get("mixing", {}).get("slots"),
    )
    if labels is not None and list(labels) != list(slots or ()):
        raise SepnetError(
            f"model.labels is {list(labels)}, but data.mixing.slots {list(slots or ()) or None}: "
            "an output learns the class of its slot, so they have to be the same, in order"
        )


def _choice(group: str) -> str | None:
    """The file of a folder in conf that the command line or its experiment chose, where there is one."""
    return HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None


def _overrides() -> list[str]:
    """What the command line said, where there is one."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _quiet() -> None:
    """Leave out what Lightning tells at each start."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in SAY_NOTHING_OF:
        warnings.filterwarnings("ignore", message)


def _precision(wanted: str | int) -> str | int:
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if has_fast_bfloat16() else "32-true"


def _new(config: DictConfig) -> Path:
    """A folder of its own for a new run, made."""
    stem = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{config.name or _choice('model') or 'run'}"
    for number in count(1):
        folder = Path(config.runs) / (stem if number == 1 else f"{stem}-{number}")
        if not loggers.first_process():
            return folder  # the other processes write nothing
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError


def _write(config: DictConfig, folder: Path) -> None:
    """The configuration, whole or not at all."""
    atomic.write_text(folder / artifact.CONFIG, OmegaConf.to_yaml(config, resolve=True))


def _find(config: DictConfig) -> Path:
    """The run to go on with. Raises SepnetError where there is none."""
    if config.resume is not True:
        return artifact.run_folder(config.resume)
    runs = Path(config.runs)
    folders = sorted((path.parent for path in runs.glob(f"*/{artifact.CONFIG}")), reverse=True)
    for folder in folders:
        with contextlib.suppress(
            yaml.YAMLError, OmegaConfBaseException, AssertionError
        ):  # not ours, or spoilt
            if _essence(artifact.read_config(folder), config) == _essence(config, config):
                return folder
    raise SepnetError(
        f"resume=true, but none of the {len(folders)} runs under {runs.resolve()} was started with these "
        "very settings: give the command that started it, or leave out resume=true"
    )


def _essence(settings: DictConfig, asked: DictConfig) -> dict[str, Any]:
    """What has to agree between a run and its resumption, of one or the other.

    asked: the resumption's; what it leaves to the run is left out: the model of a ``ckpt``, and a batch
    that was found.
    """
    container: Any = OmegaConf.to_container(settings, resolve=True)
    if asked.loader.batch_size == "auto":
        container["loader"].pop("batch_size")
    if asked.ckpt is not None:
        container.pop("model")
    return {name: value for name, value in container.items() if name not in IGNORED}


if __name__ == "__main__":  # how Lightning starts the other processes of a training
    main()
