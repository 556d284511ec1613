"""Steps a second of asteroid's Conv-TasNet in its own System; run by an interpreter that has asteroid.

    python peer_asteroid.py '{"batch": 4, "time": 24000, "steps": 20, "warm_up": 5, "network": {...}}'

It imports nothing of sepnet, whose packages asteroid's pins do not go with. The data are noise in memory.
"""

import itertools
import json
import sys
import time
import warnings

import pytorch_lightning as pl
import torch
from asteroid.engine.system import System
from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr
from asteroid.models import ConvTasNet
from torch.utils.data import DataLoader, TensorDataset


class Clock(pl.Callback):
    """The seconds of each step after the first few."""

    def __init__(self, warm_up):
        self.warm_up, self.ends = warm_up, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.ends.append(time.perf_counter())

    def seconds(self):
        ends = self.ends[self.warm_up :]
        return [later - earlier for earlier, later in itertools.pairwise(ends)]


def main(told):
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    total = told["batch"] * (told["steps"] + told["warm_up"] + 1)
    sources = torch.randn(total, 2, told["time"])
    loader = DataLoader(TensorDataset(sources.sum(dim=1), sources), batch_size=told["batch"])
    model = ConvTasNet(n_src=2, sample_rate=8000, **told["network"])
    system = System(
        model=model,
        loss_func=PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx"),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        train_loader=loader,
        val_loader=loader,  # System wants one; it is not gone through
    )
    clock = Clock(told["warm_up"])
    quiet = {
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", gradient_clip_val=5.0, callbacks=[clock], **quiet)
    trainer.fit(system)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        json.dumps({"seconds": clock.seconds(), "parameters": parameters, "threads": torch.get_num_threads()})
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
