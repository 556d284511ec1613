"""One training in several processes, on one machine or several: rank 0 decides, and all others follow."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback

from sepnet.training import loggers
from sepnet.training.checkpoints import LastCheckpoint
from sepnet.training.datamodule import MixtureDataModule
from sepnet.types import SepnetError

NODE_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


@dataclass(frozen=True)
class Start:
    """What has to be the same in all processes of a training.

    Attributes:
        folder: The run folder.
        n_steps: The number of steps in the checkpoint that is resumed; 0 for a start from the beginning.
        batch_size: The number of mixtures in a step.
        data_fingerprint: Identifies the training mixtures.
    """

    folder: Path
    n_steps: int
    batch_size: int
    data_fingerprint: str


class SameStart(Callback):
    """Gives the run folder and the batch size of rank 0 to all processes, once they are connected.

    Only rank 0 makes the run folder and looks for the largest batch, since the name contains the time and
    another GPU may hold another batch. What each process finds out alone has to agree: the data and the
    checkpoint.

    Args:
        start: Called after the processes are connected; returns what this process would start from. Only that
            of rank 0 has the right folder and batch size.
        module: Gets the batch size.
        last: Gets its path, in the run folder.
    """

    def __init__(self, start: Callable[[], Start], module: MixtureDataModule, last: LastCheckpoint) -> None:
        self.start, self.module, self.last = start, module, last

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.world_size == 1:
            return
        own = self.start()
        first = trainer.strategy.broadcast(own)
        difference = start_difference(own, first)
        # All processes end, and none waits for another.
        if not trainer.strategy.reduce_boolean_decision(difference is None, all=True):
            raise SepnetError(
                f"process {trainer.global_rank} of {trainer.world_size} {difference}"
                if difference
                else "the processes of this training do not start from the same, as one of them says: share "
                "the corpus and the folder of runs between the nodes"
            )
        self.last.path = first.folder / self.last.path.relative_to(own.folder)
        self.module.batch_size = first.batch_size


def start_difference(own: Start, first: Start) -> str | None:
    """Describe how the start of a process contradicts that of rank 0.

    Args:
        own: The start of the process.
        first: That of rank 0.

    Returns:
        A clause for a message; None if they agree.
    """
    if own.data_fingerprint != first.data_fingerprint:
        return (
            f"reads other data than process 0 (fingerprint {own.data_fingerprint}, not "
            f"{first.data_fingerprint}): share the corpus between the nodes, or copy it anew"
        )
    if own.n_steps != first.n_steps:
        return (
            f"found a checkpoint of {own.n_steps} steps, but process 0 one of {first.n_steps} in "
            f"{first.folder}: share the folder of runs between the nodes"
        )
    return None


def check_processes(trainer: pl.Trainer) -> None:
    """Check that the processes that were started, or will be, are those that the trainer's settings ask for.

    Torchrun and SLURM tell each process its place; otherwise MASTER_ADDR, MASTER_PORT and NODE_RANK have to.

    Raises:
        SepnetError: There are other processes, or a process does not know its node, so it would wait for the
            others without end.
    """
    n_nodes, n_devices = trainer.num_nodes, trainer.num_devices
    if trainer.world_size == 1:
        if not loggers.first_process():
            raise SepnetError(
                "several processes were started, but trainer.num_nodes and trainer.devices are 1: take "
                "trainer=ddp and their numbers"
            )
        return
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if not isinstance(environment, ClusterEnvironment):
        return
    try:
        environment.validate_settings(num_devices=n_devices, num_nodes=n_nodes)
    except ValueError as error:
        raise SepnetError(f"trainer: {' '.join(str(error).split())}") from error
    if n_nodes > 1 and isinstance(environment, LightningEnvironment):
        _check_variables(n_nodes)


def _check_variables(n_nodes: int) -> None:
    """Raise SepnetError where a process that no launcher has started does not know its node."""
    if missing := [name for name in NODE_VARIABLES if not os.environ.get(name)]:
        raise SepnetError(
            f"trainer.num_nodes is {n_nodes}, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set: start the command on each node by SLURM or "
            f"torchrun, or set {', '.join(NODE_VARIABLES)} (0 to {n_nodes - 1}) there"
        )
    if not 0 <= (node := int(os.environ["NODE_RANK"])) < n_nodes:
        raise SepnetError(
            f"NODE_RANK is {node}, but trainer.num_nodes {n_nodes}: give each node a number from 0 to "
            f"{n_nodes - 1}"
        )
