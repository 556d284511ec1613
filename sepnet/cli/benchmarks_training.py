"""python scripts/benchmark.py what=training peer_python=/path/python: steps a second beside asteroid's."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any, Literal, get_args

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.data.dataset import MixtureData
from sepnet.training.datamodule import MixtureDataModule
from sepnet.training.task import SeparationTask
from sepnet.types import SepnetError

BATCH, WARM_UP = 4, 3
Precision = Literal["32-true", "bf16-mixed"]
# Conv-TasNet's sizes, by asteroid's names and by ours.
THEIRS = {"n_filters": 512, "kernel_size": 16, "stride": 8, "bn_chan": 128, "hid_chan": 512, "skip_chan": 128}


class Clock(Callback):
    """The seconds of each step after the first few."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """From the end of one step to that of the next."""
        ends = self.ends[WARM_UP:]
        return [later - earlier for earlier, later in itertools.pairwise(ends)]


def training(config: DictConfig) -> None:
    """Conv-TasNet trained by sepnet, mixing on the fly, and by asteroid on noise that lies in memory.

    The same sizes, batch and length, in float32 both; and sepnet's in bfloat16 as well. They take turns.
    Raises SepnetError where ``peer_python`` has no asteroid.
    """
    if config.peer_python is None:
        raise SepnetError("say which interpreter has asteroid: peer_python=/path/to/venv/bin/python")
    data: MixtureData = artifact.build(config.data)
    print(
        f"Conv-TasNet, batch {BATCH} x {data.mixing.seconds:g} s, {config.n_steps} steps, "
        f"{torch.get_num_threads()} threads, medians of {config.repetitions} turns"
    )
    turns: dict[str, list[float]] = {"asteroid": [], "sepnet, 32-true": [], "sepnet, bf16-mixed": []}
    for _ in range(config.repetitions):
        turns["asteroid"].append(_theirs(config, data))
        for precision in get_args(Precision):
            turns[f"sepnet, {precision}"].append(_ours(config, data, precision))
    theirs = statistics.median(turns["asteroid"])
    for name, seconds in turns.items():
        middle = statistics.median(seconds)
        print(
            f"{name:20s} {1 / middle:6.3f} steps/s, {theirs / middle:.2f} times asteroid's "
            f"({min(seconds):.2f} to {max(seconds):.2f} s a step)"
        )


def _ours(config: DictConfig, data: MixtureData, precision: Precision) -> float:
    """Seconds a step, the median of a run."""
    model = OmegaConf.load(artifact.config_folder() / "model" / "conv_tasnet.yaml")
    assert isinstance(model, DictConfig)
    pl.seed_everything(0, verbose=False)
    task = SeparationTask(separator=artifact.build(model), optimizer=torch.optim.Adam)
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=config.n_steps + WARM_UP + 1, precision=precision, gradient_clip_val=5.0,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[clock], limit_val_batches=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=MixtureDataModule(data=data, batch_size=BATCH))
    return statistics.median(clock.seconds)


def _theirs(config: DictConfig, data: MixtureData) -> float:
    told = {
        "batch": BATCH,
        "time": round(data.mixing.seconds * data.sample_rate),
        "steps": config.n_steps,
        "warm_up": WARM_UP,
        "network": {**THEIRS, "n_blocks": 8, "n_repeats": 3, "mask_act": "relu"},
    }
    script = Path(__file__).resolve().parents[2] / "scripts" / "peer_asteroid.py"
    command = [str(config.peer_python), str(script), json.dumps(told)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1]
        raise SepnetError(f"{config.peer_python} can't run asteroid ({reason}): install it there") from error
    seconds: list[float] = json.loads(done.stdout.strip().splitlines()[-1])["seconds"]
    return statistics.median(seconds)
