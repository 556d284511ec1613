"""One training on several nodes, which here are processes of one machine, is the training of one process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_only
from training_fixtures import (
    checkpoint,
    compose,
    logged,
    make_corpus,
    only_run,
    run,
    seen,
    settings,
)

from sepnet.cli.train import prepare, train
from sepnet.training.checkpoints import LastCheckpoint
from sepnet.training.datamodule import MixtureDataModule
from sepnet.training.processes import SameStart, Start, start_difference
from sepnet.training.schedule import LearningRate
from sepnet.types import SepnetError

N_NODES = 2
LARGEST_DIFFERENCE = 1e-6
KILLED = -signal.SIGKILL
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", f"trainer.num_nodes={N_NODES}")
ONE = ("data.valid.n_mixtures=3",)  # an odd number: one node has more of them than the other


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("nodes") / "wavs")


@pytest.fixture(scope="module")
def one_process(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a run in one process that nothing stopped."""
    home = tmp_path_factory.mktemp("one")
    command = run("train", settings(corpus, home, *ONE), home, log=home / "seen")
    assert command.wait() == 0, command.told
    return home


def by_hand(node: int) -> dict[str, str]:
    return {"NODE_RANK": str(node)}


def as_torchrun(node: int) -> dict[str, str]:
    ranks = {"RANK": node, "GROUP_RANK": node, "LOCAL_RANK": 0}
    sizes = {"WORLD_SIZE": N_NODES, "GROUP_WORLD_SIZE": N_NODES, "LOCAL_WORLD_SIZE": 1}
    return {"TORCHELASTIC_RUN_ID": "one", **{name: str(value) for name, value in {**ranks, **sizes}.items()}}


def as_slurm(node: int, n_nodes: int = N_NODES, n_tasks_per_node: int = 1) -> dict[str, str]:
    """The variables of the first task of a node."""
    variables = {
        "JOB_ID": 4242,
        "JOB_NAME": "train",
        "NNODES": n_nodes,
        "NTASKS": n_nodes * n_tasks_per_node,
        "NTASKS_PER_NODE": n_tasks_per_node,
        "NODELIST": "gpu[07-08]",
        "NODEID": node,
        "PROCID": node * n_tasks_per_node,
        "LOCALID": 0,
    }
    return {f"SLURM_{name}": str(value) for name, value in variables.items()}


@dataclass
class Ended:
    """A process that has ended."""

    status: int
    out: str
    err: str


def run_nodes(
    words: list[str], home: Path, variables: Callable[[int], dict[str, str]], *, kill: str = ""
) -> list[Ended]:
    """Run a training on two nodes, each a process that logs its batches to ``home``/node<number>.0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = [sys.executable, str(Path(__file__).with_name("training_fixtures.py")), *words]
    processes = []
    for node in range(N_NODES):
        own = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
            "SEPNET_TEST_LOG": str(home / f"node{node}"),
            "SEPNET_TEST_KILL": kill,
            **variables(node),
        }
        processes.append(
            subprocess.Popen(
                script,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **own},
                cwd=home,
            )
        )
    try:
        told = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [Ended(process.returncode, *texts) for process, texts in zip(processes, told, strict=True)]


def assert_same_training(home: Path, expected: Path) -> None:
    """Compare the weights and validation scores of the only runs of two homes."""
    one, other = checkpoint(only_run(expected)), checkpoint(only_run(home))
    assert one["global_step"] == other["global_step"] == 10
    difference = max(
        float((other["state_dict"][key] - w).abs().max()) for key, w in one["state_dict"].items()
    )
    print(f"\nlargest difference of a weight: {difference:.1e}")
    assert difference <= LARGEST_DIFFERENCE
    scores, known = (logged(only_run(place), "val/si_sdri") for place in (home, expected))
    assert scores == pytest.approx({step: known[step] for step in scores}, abs=1e-6)
    names = [sorted(path.name for path in only_run(place).rglob("*.ckpt")) for place in (home, expected)]
    assert names[0] == names[1]


def ids_by_batch(*logs: Path) -> dict[tuple[int, int], list[str]]:
    """The mixtures of each step in all processes together."""
    ids: dict[tuple[int, int], list[str]] = {}
    for log in logs:
        for row in seen(log):
            ids.setdefault((row["epoch"], row["batch"]), []).extend(row["ids"])
    return {step: sorted(names) for step, names in ids.items()}


@pytest.mark.slow
def test_two_nodes_learn_what_one_process_learns(corpus: Path, one_process: Path, tmp_path: Path) -> None:
    nodes = run_nodes(settings(corpus, tmp_path, *ONE, *DDP), tmp_path, by_hand)
    assert [node.status for node in nodes] == [0, 0], nodes
    assert nodes[0].out.count("run folder") == nodes[0].out.count("done: 10 steps") == 1
    assert nodes[1].out == ""
    assert_same_training(tmp_path, one_process)
    logs = [tmp_path / f"node{node}.0" for node in range(N_NODES)]
    assert all(len(row["ids"]) == 2 for log in logs for row in seen(log))
    assert ids_by_batch(*logs) == ids_by_batch(one_process / "seen")


@pytest.mark.slow
def test_killed_on_two_nodes_it_goes_on_in_one_process(
    corpus: Path, one_process: Path, tmp_path: Path
) -> None:
    words = settings(corpus, tmp_path, *ONE)
    nodes = run_nodes([*words, *DDP], tmp_path, as_torchrun, kill="batch:4")
    assert [node.status for node in nodes] == [KILLED, KILLED], nodes
    resumed = run("train", [*words, "resume=true"], tmp_path, log=tmp_path / "seen")
    assert resumed.wait() == 0, resumed.told
    assert "from its last checkpoint" in resumed.out
    assert_same_training(tmp_path, one_process)


@pytest.mark.slow
def test_killed_in_one_process_it_goes_on_on_two_nodes(
    corpus: Path, one_process: Path, tmp_path: Path
) -> None:
    words = settings(corpus, tmp_path, *ONE)
    killed = run("train", words, tmp_path, log=tmp_path / "seen", kill="batch:4")
    assert killed.wait() == KILLED, killed.told
    nodes = run_nodes([*words, *DDP, "resume=true"], tmp_path, as_slurm)
    assert [node.status for node in nodes] == [0, 0], nodes
    assert nodes[0].out.count("from its last checkpoint") == 1
    assert nodes[1].out == ""
    assert_same_training(tmp_path, one_process)


# ---------------------------------------------------------------- without a second process


@pytest.fixture(name="no_cluster", autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # which Lightning sets, and keeps
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_a_node_that_does_not_know_its_number_is_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(settings(corpus, tmp_path, *DDP))
    with pytest.raises(SepnetError, match="MASTER_ADDR and MASTER_PORT and NODE_RANK are not set: start"):
        train(config)
    monkeypatch.setenv("MASTER_ADDR", "node-0")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(
        SepnetError, match=r"num_nodes is 2, but NODE_RANK is not set: .* NODE_RANK \(0 to 1\)"
    ):
        train(config)
    monkeypatch.setenv("NODE_RANK", "2")
    with pytest.raises(SepnetError, match="give each node a number from 0 to 1"):
        train(config)
    assert not (tmp_path / "runs").exists()


def test_the_variables_of_slurm_give_the_number_of_processes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in as_slurm(1, n_nodes=2, n_tasks_per_node=4).items():
        monkeypatch.setenv(name, value)
    four = [word for word in DDP if "devices" not in word] + ["trainer.devices=4"]
    prepare(compose(settings(corpus, tmp_path, *four)))
    with pytest.raises(SepnetError, match=r"trainer: .*`devices=1`.*`--ntasks-per-node=4`"):
        prepare(compose(settings(corpus, tmp_path, *DDP)))
    with pytest.raises(SepnetError, match=r"trainer: .*`num_nodes=3`.*`--nodes=2`"):
        prepare(compose(settings(corpus, tmp_path, *four, "trainer.num_nodes=3")))
    monkeypatch.setattr(rank_zero_only, "rank", 4)
    with pytest.raises(SepnetError, match=r"several processes were started, but .* are 1: take trainer=ddp"):
        prepare(compose(settings(corpus, tmp_path)))


START = Start(folder=Path("runs/a"), n_steps=7, batch_size=8, data_fingerprint="abc")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": Path("runs"), "batch_size": 1}, None),
        ({"data_fingerprint": "xyz"}, "reads other data than process 0 (fingerprint xyz, not abc)"),
        ({"n_steps": 0}, "found a checkpoint of 0 steps, but process 0 one of 7 in runs/a"),
    ],
)
def test_data_and_checkpoint_have_to_be_those_of_the_first_process(
    changes: dict[str, Any], message: str | None
) -> None:
    module = Mock(spec=MixtureDataModule, batch_size=1)
    last = LastCheckpoint(path=Path("runs/checkpoints/last.ckpt"), every_n_steps=1)
    own = replace(START, **{"folder": Path("runs"), **changes})
    strategy = Mock(broadcast=lambda _: START, reduce_boolean_decision=lambda own, **_: own)
    trainer = Mock(spec=pl.Trainer, world_size=2, global_rank=1, strategy=strategy)
    same_start = SameStart(lambda: own, module, last)
    difference = start_difference(own, START)
    if message is None:
        assert difference is None
        same_start.setup(trainer, pl.LightningModule(), "fit")
        assert (module.batch_size, last.path) == (8, Path("runs/a/checkpoints/last.ckpt"))
    else:
        assert difference is not None
        assert difference.startswith(message)
        with pytest.raises(SepnetError, match="process 1 of 2 "):
            same_start.setup(trainer, pl.LightningModule(), "fit")


def test_a_rate_that_depends_on_time_is_the_same_in_all_processes() -> None:
    """The clocks of the processes differ, as they started one after another: the mean progress counts."""
    timer = Timer(duration={"seconds": 100})
    timer._offset = 50
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    root_device = torch.device("cpu")
    strategy = Mock(root_device=root_device, reduce=lambda share, **_: (share + 0.7) / 2)  # 0.7 of another
    progress = {"max_steps": -1, "max_epochs": None, "global_step": 0, "num_training_batches": 5}
    trainer = Mock(
        spec=pl.Trainer,
        **progress,
        world_size=2,
        callbacks=[timer],
        optimizers=[optimizer],
        strategy=strategy,
    )
    rate = LearningRate(warmup_steps=0, decay="linear", final=0.0)
    module = Mock(spec=pl.LightningModule)
    rate.on_fit_start(trainer, module)
    rate.on_train_batch_start(trainer, module, None, 0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.4, abs=1e-3)


def test_a_method_that_learns_at_once_needs_one_process(corpus: Path, tmp_path: Path) -> None:
    words = settings(corpus, tmp_path, "model=nmf_supervised", "trainer=ddp", "trainer.accelerator=cpu")
    with pytest.raises(SepnetError, match="SupervisedNMF learns in one process, not in 2"):
        prepare(compose([word for word in words if not word.startswith("model.")]))
