"""Steps a second of asteroid's Conv-TasNet in its own System; benchmarks/training.py runs it.

    python peer_asteroid.py '{"batch": 4, "time": 24000, "steps": 20, "warm_up": 5, "network": {...}}'

The interpreter needs asteroid. Nothing of sepnet is imported, as the two pin different versions of packages.
The data are noise in memory.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from asteroid.engine.system import System
from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr
from asteroid.models import ConvTasNet
from torch.utils.data import DataLoader, TensorDataset


class Clock(pl.Callback):
    """Records the end of each step."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """From the end of one step to that of the next, without the first few."""
        ends = self.ends[self.warm_up :]
        return [later - earlier for earlier, later in itertools.pairwise(ends)]


def main(settings: dict[str, Any]) -> None:
    """Train for some steps, and print their seconds as JSON."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    n_items = settings["batch"] * (settings["steps"] + settings["warm_up"] + 1)
    sources = torch.randn(n_items, 2, settings["time"])
    loader = DataLoader(TensorDataset(sources.sum(dim=1), sources), batch_size=settings["batch"])
    model = ConvTasNet(n_src=2, sample_rate=8000, **settings["network"])
    system = System(
        model=model,
        loss_func=PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx"),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        train_loader=loader,
        val_loader=loader,  # required by System; not used
    )
    clock = Clock(settings["warm_up"])
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        gradient_clip_val=5.0,
        callbacks=[clock],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(system)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    result = {"seconds": clock.seconds(), "parameters": n_parameters, "threads": torch.get_num_threads()}
    print(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
