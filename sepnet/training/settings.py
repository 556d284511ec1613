"""The settings of a training, as in conf/train.yaml and conf/trainer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import lightning.pytorch as pl
import torch
from annotated_types import Ge, Gt, Le, Lt

from sepnet.ranges import (
    Days,
    Name,
    NameOrPath,
    Node,
    NonNegativeFloat,
    NonNegativeInt,
    PathSetting,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seed,
    Text,
)
from sepnet.settings import check_value, nearest, parse
from sepnet.training.precision import has_fast_bfloat16
from sepnet.types import SepnetError

MAX_NAME_BYTES = 200  # file systems allow 255 for a folder; its name begins with the time

OPTIMIZER = {"lr": PositiveFloat, "weight_decay": NonNegativeFloat}
"""What torch's optimizers do not check before they are called."""
Unlimited = Literal[-1]
Share = Annotated[float, Gt(0), Le(1)]
Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed", "32", "16", "bf16", 16, 32]
"""Those in which separators learn: the whole network in 16 or 64 bits is neither needed nor tested."""


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """How batches are made.

    Attributes:
        batch_size: Mixtures in a step, over all devices; ``auto``: as many as fit into the GPU.
        n_workers: Processes that make mixtures; 0: the training process makes them.
        n_valid: Mixtures to validate with; None: all.
    """

    batch_size: PositiveInt | Literal["auto"]
    n_workers: Annotated[int, Ge(0), Le(256)]
    n_valid: PositiveInt | None


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The learning rate over the run; see ``sepnet.training.schedule.LearningRate``."""

    warmup_steps: NonNegativeInt
    decay: Literal["cosine", "linear", "none"]
    decay_from: Probability
    final: Probability


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """Which checkpoints are kept.

    Attributes:
        best: How many of the best.
        every_n_steps: Steps between two writes of the last one.
    """

    best: Annotated[int, Ge(0), Le(10_000)]
    every_n_steps: PositiveInt


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Those settings of Lightning's Trainer that conf/trainer has. Others of the Trainer's may be added."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
    devices: Annotated[int, Ge(1), Le(4096)] | Unlimited | Literal["auto"] | list[NonNegativeInt]
    num_nodes: Annotated[int, Ge(1), Le(4096)]
    strategy: Text
    precision: Precision
    max_time: Days | None
    max_steps: PositiveInt | Unlimited
    max_epochs: PositiveInt | Unlimited | None
    gradient_clip_val: NonNegativeFloat | None
    accumulate_grad_batches: PositiveInt
    check_val_every_n_epoch: PositiveInt | None
    limit_train_batches: PositiveInt | Share | None
    limit_val_batches: PositiveInt | Share | None
    num_sanity_val_steps: NonNegativeInt | Unlimited
    log_every_n_steps: NonNegativeInt
    deterministic: bool | Literal["warn"] | None


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of conf/train.yaml.

    Attributes:
        model: The separator.
        data: The mixtures.
        optimizer: Called with the parameters.
        trainer: For Lightning's Trainer; see ``TrainerSettings``.
        logger: Where numbers go, beside a CSV file.
        name: Of the run folder, after the time; None: the model's.
        runs: The folder that holds the run folders.
        seed: Of the initial weights.
        ckpt: Weights to start from.
        resume: True: go on with the newest run of the same settings; or a run folder to go on with.
        loader: See ``LoaderSettings``.
        schedule: See ``ScheduleSettings``.
        checkpoints: See ``CheckpointSettings``.
        early_stopping_patience: Stop after so many validations without a better score; None: never.
        compile: The backend of torch.compile; None: do not compile.
        ema_decay: Of a moving average of the weights that is validated and saved; None: no average.

    Raises:
        SepnetError: The name can't be part of a folder's, or the trainer's settings can't be used.
    """

    model: Node
    data: Node
    optimizer: Node
    trainer: dict[str, Any]
    logger: Node
    name: Name | None
    runs: PathSetting
    seed: Seed
    ckpt: NameOrPath | None
    resume: bool | PathSetting | None
    loader: LoaderSettings
    schedule: ScheduleSettings
    checkpoints: CheckpointSettings
    early_stopping_patience: PositiveInt | None
    compile: Text | None
    ema_decay: Annotated[float, Ge(0), Lt(1)] | None

    def __post_init__(self) -> None:
        _check_name(self.name)
        for name, allowed in OPTIMIZER.items():
            if name in self.optimizer:
                check_value(f"optimizer.{name}", allowed, self.optimizer[name])
        trainer_arguments(self.trainer)


def trainer_arguments(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Check the settings of Lightning's Trainer, and fill in what ``auto`` stands for.

    Args:
        trainer: As in conf/trainer, with any others of the Trainer's.

    Returns:
        The Trainer's arguments.

    Raises:
        SepnetError: The Trainer has no such setting, a value can't be used, or there is no GPU.
    """
    known = inspect.signature(pl.Trainer).parameters
    for name in trainer:
        if name not in known:
            raise SepnetError(f"Lightning's Trainer has no setting {name!r}{nearest(name, known)}")
    checked = parse(TrainerSettings, trainer, "trainer.")
    if checked.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise SepnetError(
            f"trainer.accelerator is {checked.accelerator}, but torch sees no GPU: take trainer=cpu"
        )
    arguments = {**trainer, **{field.name: getattr(checked, field.name) for field in fields(checked)}}
    if checked.precision == "auto":
        on_gpu = checked.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        arguments["precision"] = "bf16-mixed" if has_fast_bfloat16("cuda" if on_gpu else "cpu") else "32-true"
    return arguments


def _check_name(name: str | None) -> None:
    """Raise SepnetError for a name that would lead out of the folder of runs, or is too long."""
    if name is None:
        return
    if any(character in name for character in "/\\\0"):
        raise SepnetError(f"name is {name!r}: give a name without slashes, and the folder as runs=...")
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        raise SepnetError(f"name has {size} bytes: give a name of at most {MAX_NAME_BYTES}")
