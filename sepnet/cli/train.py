"""python scripts/train.py: trains a model, and writes a run folder."""

from __future__ import annotations

import logging
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.cli import app
from sepnet.training.callbacks import AtomicCheckpointIO, LearningRate, Progress, RandomState, Throughput
from sepnet.training.datamodule import MixtureDataModule
from sepnet.training.export import ExportBest
from sepnet.training.loggers import Samples
from sepnet.training.task import SeparationTask
from sepnet.types import SepnetError

IGNORED = ("name", "runs", "resume")  # settings that may differ between a run and its resumption


def main() -> None:
    """The command line."""
    app.run(train, "train")


def train(config: DictConfig) -> None:
    """Train what the configuration describes. Raises SepnetError for what can't be."""
    _quiet()
    _check(config)
    folder = _find(config) if config.resume else _new(config)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    resumed = checkpoint if config.resume and checkpoint.is_file() else None
    print(f"run folder: {folder}" + (f", going on from {checkpoint.name}" if resumed else ""))
    L.seed_everything(config.seed, verbose=False)
    data = artifact.build(config.data)
    module = MixtureDataModule(data=data, **config.loader)
    task = SeparationTask(separator=artifact.build(config.model), optimizer=artifact.build(config.optimizer))
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / artifact.CONFIG, resolve=True)
    container: Any = OmegaConf.to_container(config, resolve=True)
    described = {**container, "data_fingerprint": data.fingerprint, **artifact.surroundings()}
    trainer = L.Trainer(
        **{**container["trainer"], "precision": _precision(config.trainer.precision)},
        logger=artifact.build({**container["logger"], "_partial_": True})(folder=folder, config=described),
        callbacks=_callbacks(config, folder, data.fingerprint),
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,  # the sampler knows the ranks itself
        enable_model_summary=False,
        default_root_dir=folder,
    )
    _fit(trainer, task, module, resumed, folder)


def _fit(
    trainer: L.Trainer, task: SeparationTask, module: MixtureDataModule, resumed: Path | None, folder: Path
) -> None:
    parameters = sum(p.numel() for p in task.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {trainer.precision} on {trainer.accelerator.__class__.__name__}")
    try:
        trainer.fit(task, datamodule=module, ckpt_path=resumed, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        print(
            f"\nstopped at step {trainer.global_step}; what was saved is under {folder}. "
            "Go on with the same command plus resume=true",
            file=sys.stderr,
        )
        sys.exit(app.INTERRUPTED)
    except RuntimeError as error:
        if resumed is None or "state_dict" not in str(error):
            raise
        raise SepnetError(
            f"{resumed} holds the weights of another architecture than model describes: "
            f"{' '.join(str(error).split())[:200]}; resume with the settings that the run was started with"
        ) from error
    score = trainer.callback_metrics.get("val/si_sdri")
    reached = f", SI-SDRi {float(score):.2f} dB on the validation set" if score is not None else ""
    print(f"done: {trainer.global_step} steps{reached}; the best weights are in {folder / artifact.WEIGHTS}")


def _callbacks(config: DictConfig, folder: Path, data_fingerprint: str) -> list[Callback]:
    """What runs beside training, in the order in which Lightning calls it."""
    checkpoints = folder / "checkpoints"
    best = ModelCheckpoint(
        dirpath=checkpoints,
        filename="step{step}-si_sdri{val/si_sdri:.2f}",
        auto_insert_metric_name=False,
        monitor="val/si_sdri",
        mode="max",
        save_top_k=config.checkpoints.best,
    )
    last = ModelCheckpoint(
        dirpath=checkpoints,
        filename="last",
        every_n_train_steps=config.checkpoints.every_n_steps,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [
        LearningRate(**config.schedule),
        Throughput(),
        RandomState(),
        # Before the averaging, which puts the plain weights back at the same moment.
        ExportBest(folder=folder, config=config, data_fingerprint=data_fingerprint, save=artifact.save),
        Samples(),
        best,
        last,
        Progress(),
    ]
    if config.ema_decay is not None:
        callbacks.insert(4, EMAWeightAveraging(decay=config.ema_decay))
    if config.early_stopping_patience is not None:
        callbacks.append(EarlyStopping("val/si_sdri", mode="max", patience=config.early_stopping_patience))
    return callbacks


def _check(config: DictConfig) -> None:
    rates = config.data.sample_rate, config.model.get("sample_rate", config.data.sample_rate)
    if rates[0] != rates[1]:
        raise SepnetError(f"data.sample_rate is {rates[0]} Hz, but model.sample_rate {rates[1]} Hz: they have to agree")
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise SepnetError("trainer=gpu was asked for, but torch sees no GPU: take trainer=cpu")


def _quiet() -> None:
    """Leave out what Lightning tells at each start."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in (".*isinstance\\(treespec.*", ".*does not have many workers.*", ".*exists and is not empty.*"):
        warnings.filterwarnings("ignore", message)


def _precision(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    # Where the processor multiplies bfloat16 matrices in hardware that is several times faster.
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return "bf16-mixed" if has_tiles else "32-true"


def _new(config: DictConfig) -> Path:
    name = config.name or HydraConfig.get().runtime.choices.model
    return Path(config.runs) / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{name}"


def _find(config: DictConfig) -> Path:
    """The newest run of this configuration. Raises SepnetError where there is none."""

    def essence(settings: DictConfig) -> dict[str, Any]:
        container: Any = OmegaConf.to_container(settings, resolve=True)
        return {name: value for name, value in container.items() if name not in IGNORED}

    runs = Path(config.runs)
    folders = sorted((path.parent for path in runs.glob(f"*/{artifact.CONFIG}")), reverse=True)
    for folder in folders:
        if essence(artifact.read_config(folder)) == essence(config):
            return folder
    raise SepnetError(
        f"resume=true, but none of the {len(folders)} runs under {runs.resolve()} was started with these very "
        "settings: give the command that started it, or leave out resume=true"
    )
