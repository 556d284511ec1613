"""Training speed beside asteroid's: python benchmarks/run.py what=training peer_python=/path/python."""

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

BATCH, N_WARM_UP = 4, 3
Precision = Literal["32-true", "bf16-mixed"]
# The sizes of conf/model/conv_tasnet.yaml, by asteroid's names.
THEIRS = {"n_filters": 512, "kernel_size": 16, "stride": 8, "bn_chan": 128, "hid_chan": 512, "skip_chan": 128}


class Clock(Callback):
    """Records the end of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """From the end of one step to that of the next, without the first few."""
        ends = self.ends[N_WARM_UP:]
        return [later - earlier for earlier, later in itertools.pairwise(ends)]


def run(config: DictConfig) -> None:
    """Print steps a second of Conv-TasNet, trained by sepnet and by asteroid.

    sepnet mixes on the fly; asteroid gets noise that is in memory already. Sizes, batch and length agree;
    both run in float32, sepnet in bfloat16, too. They alternate.

    Raises:
        SepnetError: ``config.peer_python`` is missing, or has no asteroid.
    """
    if config.peer_python is None:
        raise SepnetError(
            "the benchmark needs an interpreter that has asteroid: peer_python=/path/to/venv/bin/python"
        )
    data: MixtureData = artifact.build(config.data)
    print(
        f"Conv-TasNet, batch {BATCH} x {data.mixing.seconds:g} s, {config.n_steps} steps, "
        f"{torch.get_num_threads()} threads, medians of {config.repetitions} repetitions"
    )
    step_seconds: dict[str, list[float]] = {"asteroid": [], "sepnet, 32-true": [], "sepnet, bf16-mixed": []}
    for _ in range(config.repetitions):
        step_seconds["asteroid"].append(_theirs(config, data))
        for precision in get_args(Precision):
            step_seconds[f"sepnet, {precision}"].append(_ours(config, data, precision))
    theirs = statistics.median(step_seconds["asteroid"])
    for name, seconds in step_seconds.items():
        middle = statistics.median(seconds)
        print(
            f"{name:20s} {1 / middle:6.3f} steps/s, {theirs / middle:.2f} times asteroid's "
            f"({min(seconds):.2f} to {max(seconds):.2f} s a step)"
        )


def _ours(config: DictConfig, data: MixtureData, precision: Precision) -> float:
    """Median seconds a step."""
    model = OmegaConf.load(artifact.config_folder() / "model" / "conv_tasnet.yaml")
    assert isinstance(model, DictConfig)
    pl.seed_everything(0, verbose=False)
    task = SeparationTask(separator=artifact.build(model), optimizer=torch.optim.Adam)
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=config.n_steps + N_WARM_UP + 1, precision=precision,
        gradient_clip_val=5.0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[clock], limit_val_batches=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=MixtureDataModule(data=data, batch_size=BATCH))
    return statistics.median(clock.seconds)


def _theirs(config: DictConfig, data: MixtureData) -> float:
    settings = {
        "batch": BATCH,
        "time": round(data.mixing.seconds * data.sample_rate),
        "steps": config.n_steps,
        "warm_up": N_WARM_UP,
        "network": {**THEIRS, "n_blocks": 8, "n_repeats": 3, "mask_act": "relu"},
    }
    script = Path(__file__).with_name("peer_asteroid.py")
    command = [str(config.peer_python), str(script), json.dumps(settings)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1]
        raise SepnetError(f"{config.peer_python} can't run asteroid ({reason}): install it there") from error
    seconds: list[float] = json.loads(done.stdout.strip().splitlines()[-1])["seconds"]
    return statistics.median(seconds)
