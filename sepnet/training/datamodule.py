"""Data loaders that continue exactly where a stopped run left them."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Subset

from sepnet.data.dataset import Collate, CountedSet, EpochSampler, MixtureData, MixtureSet, TrainingMixtures
from sepnet.data.mixer import Example
from sepnet.types import Batch, Mixture, Separator, SepnetError, Trainable


class MixtureDataModule(pl.LightningDataModule):
    """Training batches that are mixed on the fly, and validation mixtures one at a time.

    Args:
        data: The mixtures.
        batch_size: The number of mixtures in a batch, over all ranks together.
        n_workers: The number of processes that mix. With 0 the training process mixes, which is fast enough
            for training on a CPU.
        n_valid: The number of validation mixtures, from the first; None for all.

    Raises:
        SepnetError: A number is out of range. Later also: the ranks cannot share a batch evenly, or there are
            fewer validation mixtures than ranks.
    """

    def __init__(
        self, *, data: MixtureData, batch_size: int = 8, n_workers: int = 0, n_valid: int | None = None
    ) -> None:
        super().__init__()
        if not 1 <= batch_size <= data.epoch_size or n_workers < 0 or (n_valid is not None and n_valid < 1):
            raise SepnetError(
                f"loader.batch_size={batch_size} has to be between 1 and data.epoch_size={data.epoch_size}, "
                f"loader.n_workers={n_workers} 0 or more, and loader.n_valid={n_valid} 1 or more"
            )
        self.data, self.batch_size, self.n_workers, self.n_valid = data, batch_size, n_workers, n_valid
        self._train: TrainingMixtures | None = None
        self._valid: MixtureSet | None = None

    def prepare_data(self) -> None:
        """Index and cache the data; Lightning calls this in one process only."""
        self.data.train()
        self._valid = self.data.valid()

    def check_scores(self, separator: Trainable) -> None:
        """Check, after prepare_data, that a separator can be scored on the validation mixtures.

        Args:
            separator: What is trained.

        Raises:
            SepnetError: It gives another number of sources than one of them holds.
        """
        valid = self._valid
        if not isinstance(separator, Separator) or not isinstance(valid, CountedSet):
            return
        fixed = separator.info.n_sources
        if fixed is None or separator.info.labels is not None:  # a class need not be there
            return
        n_valid = min(self.n_valid or len(valid), len(valid))
        if other := [index for index in range(n_valid) if valid.n_sources(index) != fixed]:
            raise SepnetError(
                f"the model gives {fixed} sources, but {len(other)} of {n_valid} validation mixtures hold "
                f"another number (the first, {valid.id(other[0])}, has {valid.n_sources(other[0])}): set "
                "data.valid.n_sources or model.n_sources to the same number"
            )

    def train_dataloader(self) -> DataLoader[Example]:
        trainer = self._attached()
        if self.batch_size % trainer.world_size:
            raise SepnetError(
                f"loader.batch_size={self.batch_size} can't be shared by {trainer.world_size} processes: "
                f"give a multiple of {trainer.world_size}"
            )
        self._train = self._train or self.data.train()
        batch_size = self.batch_size // trainer.world_size
        # All zero for a new run; for a resumed one those of its checkpoint, see
        # checkpoints.set_between_batches.
        epochs: Any = trainer.fit_loop.epoch_progress.current
        batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        return DataLoader(
            self._train,
            batch_size=batch_size,
            sampler=EpochSampler(
                self.data.epoch_size,
                rank=trainer.global_rank,
                n_ranks=trainer.world_size,
                epoch=epochs.processed,
                skip=batches.processed * batch_size,
            ),
            num_workers=self.n_workers,
            collate_fn=Collate(self.data.sample_rate),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.n_workers > 0,
            drop_last=True,
            generator=torch.Generator(),  # a separate one, so that a restart does not advance that of dropout
        )

    def val_dataloader(self) -> DataLoader[Mixture]:
        trainer = self._attached()
        self._valid = self._valid or self.data.valid()
        n_valid = min(self.n_valid or len(self._valid), len(self._valid))
        if n_valid < trainer.world_size:
            raise SepnetError(
                f"{n_valid} validation mixtures are too few for {trainer.world_size} processes: raise "
                "loader.n_valid, or take fewer trainer.devices"
            )
        dataset: Any = self._valid  # it is indexed like a Dataset
        own: Subset[Mixture] = Subset(dataset, range(trainer.global_rank, n_valid, trainer.world_size))
        return DataLoader(own, batch_size=None, generator=torch.Generator())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # A Mixture is not moved: separate() moves it to the device of the separator.
        return batch.to(device, non_blocking=True) if isinstance(batch, Batch) else batch

    def _attached(self) -> pl.Trainer:
        assert self.trainer is not None
        return self.trainer
