"""Data loaders over MixtureData that go on exactly where a stopped run left them."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Subset

from sepnet.data.dataset import Collate, EpochSampler, MixtureData, TrainingMixtures
from sepnet.data.librimix import FixedSet
from sepnet.data.mixing import Example
from sepnet.types import Batch, Mixture


class MixtureDataModule(L.LightningDataModule):
    """Training batches on the fly, and validation mixtures one at a time.

    batch_size: mixtures a step, over all ranks together. n_workers: processes that mix; with 0 the
    training process mixes, which costs little on a CPU. n_valid: how many of the validation mixtures.
    """

    def __init__(self, *, data: MixtureData, batch_size: int = 8, n_workers: int = 0, n_valid: int | None = None) -> None:
        super().__init__()
        self.data, self.batch_size, self.n_workers, self.n_valid = data, batch_size, n_workers, n_valid
        self._train: TrainingMixtures | None = None
        self._valid: FixedSet | None = None

    def prepare_data(self) -> None:
        """Index and cache, on one process alone."""
        self.data.train()
        self.data.valid()

    def train_dataloader(self) -> DataLoader[Example]:
        trainer = self.trainer
        assert trainer is not None
        self._train = self._train or self.data.train()
        sampler = EpochSampler(
            self.data.epoch_size,
            rank=trainer.global_rank,
            n_ranks=trainer.world_size,
            epoch=trainer.current_epoch,
            # Zero at the start of an epoch; the count restored from the checkpoint in the middle of one.
            skip=trainer.fit_loop.epoch_loop.batch_progress.current.ready * self._per_rank,
        )
        return DataLoader(
            self._train,
            batch_size=self._per_rank,
            sampler=sampler,
            num_workers=self.n_workers,
            collate_fn=Collate(self.data.sample_rate),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.n_workers > 0,
            drop_last=True,
        )

    def val_dataloader(self) -> DataLoader[Mixture]:
        trainer = self.trainer
        assert trainer is not None
        self._valid = self._valid or self.data.valid()
        count = min(self.n_valid or len(self._valid), len(self._valid))
        mine = Subset(self._valid, range(trainer.global_rank, count, trainer.world_size))
        return DataLoader(mine, batch_size=None)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # A Mixture stays where it is: separate() takes it to the separator.
        return batch.to(device, non_blocking=True) if isinstance(batch, Batch) else batch

    @property
    def _per_rank(self) -> int:
        assert self.trainer is not None
        return self.batch_size // self.trainer.world_size
