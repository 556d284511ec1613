"""Training: what is kept, what is logged, what stops it, and that several processes learn as one."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Timer
from torch import Tensor, nn
from training_fixtures import (
    TINY,
    TINY_BLSTM,
    checkpoint,
    compose,
    logged,
    make_corpus,
    only_run,
    run,
    seen,
    settings,
)

import sepnet
from sepnet import artifact
from sepnet.cli import app
from sepnet.cli.train import train
from sepnet.data.dataset import MixtureData
from sepnet.separators.identity import Identity
from sepnet.training import progress as telling
from sepnet.training import trainer as trainer_module
from sepnet.training.checkpoints import LastCheckpoint
from sepnet.training.datamodule import MixtureDataModule
from sepnet.training.export import ExportBest
from sepnet.training.progress import Progress, Throughput
from sepnet.training.run import compile_network
from sepnet.training.schedule import LearningRate, progress
from sepnet.training.settings import trainer_arguments
from sepnet.training.task import DivergedError, SeparationTask, si_sdr_gain
from sepnet.training.trainer import run_trainer
from sepnet.types import Batch, Mixture, Separation, SeparatorInfo, SepnetError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("training") / "wavs")


def flat(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


# ---------------------------------------------------------------- how far, and how fast


def trainer_at(step: int, **settings: Any) -> pl.Trainer:
    """A trainer in its tenth batch or so; 10 batches an epoch."""
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", **quiet, **settings)
    trainer.fit_loop.max_batches = 10
    done: Any = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
    done.completed = step
    return trainer


def elapsed(trainer: pl.Trainer, seconds: float) -> pl.Trainer:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    (timer,) = (one for one in callbacks if isinstance(one, Timer))
    timer.load_state_dict({"time_elapsed": {"train": seconds}})
    return trainer


def test_progress_is_the_furthest_of_steps_epochs_and_time() -> None:
    assert progress(trainer_at(0, max_epochs=2)) == 0.0
    assert progress(trainer_at(5, max_epochs=2)) == pytest.approx(5 / 20)
    assert progress(trainer_at(5, max_epochs=-1, max_steps=50)) == pytest.approx(5 / 50)
    assert progress(trainer_at(5, max_epochs=2, max_steps=50)) == pytest.approx(5 / 20)
    assert progress(trainer_at(5, max_epochs=2, max_steps=8)) == pytest.approx(5 / 8)
    minute = timedelta(minutes=1)
    assert progress(elapsed(trainer_at(5, max_epochs=-1, max_time=minute), 15)) == pytest.approx(0.25)
    assert progress(elapsed(trainer_at(5, max_epochs=1, max_time=minute), 15)) == pytest.approx(0.5)
    assert progress(elapsed(trainer_at(5, max_epochs=2, max_time=minute), 45)) == pytest.approx(0.75)
    assert progress(elapsed(trainer_at(99, max_epochs=2, max_time=minute), 99)) == 1.0


def test_progress_counts_accumulated_batches_as_one_step() -> None:
    # 10 batches are 4 steps of 3, the last of a single batch.
    assert progress(trainer_at(4, max_epochs=2, accumulate_grad_batches=3)) == pytest.approx(0.5)


def test_learning_rate_warms_up_and_decays() -> None:
    rate = LearningRate(warmup_steps=4, decay="cosine", decay_from=0.5, final=0.1)
    assert [rate.factor(step, 0.0) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rate.factor(100, 0.5) == pytest.approx(1.0)
    assert rate.factor(100, 0.75) == pytest.approx(0.1 + 0.9 / 2)
    assert rate.factor(100, 1.0) == pytest.approx(0.1)
    shares = torch.linspace(0, 1, 50).tolist()
    assert all(rate.factor(100, a) >= rate.factor(100, b) for a, b in pairwise(shares))
    linear = LearningRate(warmup_steps=0, decay="linear", final=0.0)
    assert [linear.factor(0, done) for done in (0.0, 0.25, 1.0)] == pytest.approx([1.0, 0.75, 0.0])
    assert LearningRate(warmup_steps=0, decay="none", final=0.0).factor(7, 1.0) == 1.0


def test_a_run_follows_its_schedule(corpus: Path, tmp_path: Path) -> None:
    train(
        compose(settings(corpus, tmp_path, "schedule.decay=linear", "schedule.final=0.0", "optimizer.lr=0.1"))
    )
    expected = [0.1 * min((step + 1) / 3, 1.0) * (1 - step / 10) for step in range(10)]
    assert list(logged(only_run(tmp_path), "train/lr").values()) == pytest.approx(expected)


def test_throughput_is_seconds_of_audio_over_seconds_without_validation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(telling.time, "perf_counter", lambda: now[0])
    batch = Batch(torch.zeros(4, 1, 16000), torch.zeros(4, 2, 16000), ("",) * 4, 8000)  # 8 s
    trainer, module = trainer_at(0, max_epochs=1), MagicMock(spec=pl.LightningModule)
    throughput = Throughput()
    for validation in (0.0, 50.0, 0.0):
        now[0] += 0.5  # for data, but before the first batch
        throughput.on_train_batch_start(trainer, module, batch, 0)
        now[0] += 1.5
        throughput.on_train_batch_end(trainer, module, None, batch, 0)
        now[0] += validation
        throughput.on_validation_end(trainer, module)
    throughput.on_train_epoch_end(trainer, module)
    assert [call.args for call in module.log.call_args_list] == [
        ("train/audio_seconds_per_second", pytest.approx(24 / 5.5)),
        ("train/waiting_share", pytest.approx(1.0 / 5.5)),
    ]


def test_time_left_is_that_of_the_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(telling.time, "monotonic", lambda: now[0])
    bar = Progress(refresh_rate=0)
    bar._trainer = before = trainer_at(100, max_epochs=40)
    module = MagicMock(spec=pl.LightningModule)
    bar.on_train_start(before, module)  # goes on at a quarter of 400 steps
    assert bar.remaining_time(before) == ""
    now[0] += 3723
    later = trainer_at(200, max_epochs=40)
    assert bar.remaining_time(later) == "2:04:06"  # as long as for the first 100, twice
    assert Progress.remaining_time(bar, trainer_at(400, max_epochs=40)) == "0:00:00"


def test_bar_and_lines_of_an_epoch_tell_what_is_left(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainer_module, "Progress", lambda: Progress(refresh_rate=1))
    train(compose(settings(corpus, tmp_path)))
    told = capsys.readouterr().out
    assert re.search(r"Epoch 1: .*left=0:0\d:\d\d", told)
    line = (
        r"epoch 2, step 10, loss -?\d+\.\d+, SI-SDRi -?\d+\.\d\d dB on the validation set, "
        r"\d+ s of audio per second, \d+% of it waiting for data, 0:00:00 left"
    )
    assert re.search(line, told), told


def test_the_console_is_tidy(corpus: Path, tmp_path: Path) -> None:
    told = run("train", settings(corpus, tmp_path, "loader.n_workers=1"), tmp_path)
    assert told.wait() == 0
    assert told.err == ""
    lines = (
        r"run folder \S+-pit",
        r"0\.00 M parameters, 32-true, cpu",
        "epoch 1, .*",
        "epoch 2, .*",
        r"done: 10 steps, .*",
    )
    assert re.fullmatch("\n".join(lines) + "\n", told.out), told.out


def test_mixtures_that_fill_no_batch_are_announced(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(compose(settings(corpus, tmp_path, "loader.batch_size=8", "trainer.max_epochs=1")))
    assert "4 of the 20 mixtures of each epoch are left out" in capsys.readouterr().out


# ---------------------------------------------------------------- what is kept


def test_the_run_folder_explains_itself_and_loads(corpus: Path, tmp_path: Path) -> None:
    train(compose(settings(corpus, tmp_path, "checkpoints.best=2", "trainer.max_epochs=4")))
    folder = only_run(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.yaml",
        "model.safetensors",
        "metrics.json",
        "provenance.json",
        "README.md",
        "checkpoints",
        "csv",
    }
    separator = sepnet.load(folder)
    audio = torch.randn(1, 2000, generator=torch.Generator().manual_seed(0))
    assert sepnet.separate(audio, 8000, separator).sources.shape == (2, 2000)
    kept = [path.name for path in (folder / "checkpoints").iterdir() if path.name != "last.ckpt"]
    scores = logged(folder, "val/si_sdri")
    best = sorted(scores, key=lambda step: -scores[step])[:2]
    assert sorted(kept) == sorted(f"step{step + 1}-si_sdri{scores[step]:.2f}.ckpt" for step in best)
    for name in ("last.ckpt", *kept):
        assert "state_dict" in checkpoint(folder, name)  # read with weights_only=True
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["si_sdri_db"] == pytest.approx(max(scores.values()), abs=1e-5)
    assert metrics["step"] == best[0] + 1
    assert metrics["hours_of_audio"] == pytest.approx((best[0] + 1) * 4 * 0.25 / 3600)


def test_weights_are_there_from_the_first_validation_on(corpus: Path, tmp_path: Path) -> None:
    words = settings(corpus, tmp_path)
    killed = run("train", words, tmp_path, log=tmp_path / "seen", kill="batch:6")
    assert killed.wait() < 0
    assert isinstance(sepnet.load(only_run(tmp_path)), nn.Module)


def averages(corpus: Path, home: Path, decay: float, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Train with averaged weights; give the averages after each step, worked out here."""
    plain: list[Tensor] = []
    batch_end = LastCheckpoint.on_train_batch_end

    def record(self: LastCheckpoint, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any) -> None:
        plain.append(flat(module))
        batch_end(self, trainer, module, *rest)

    monkeypatch.setattr(LastCheckpoint, "on_train_batch_end", record)
    train(compose(settings(corpus, home, f"ema_decay={decay}", base=TINY_BLSTM)))
    averaged = [plain[0]]
    for weights in plain[1:]:
        averaged.append(decay * averaged[-1] + (1 - decay) * weights)
    return averaged


def test_exported_weights_are_the_averaged_ones_and_the_best_checkpoint_s(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged = averages(corpus, tmp_path, 0.8, monkeypatch)
    folder = only_run(tmp_path)
    metrics = json.loads((folder / "metrics.json").read_text())
    exported: Any = sepnet.load(folder)
    torch.testing.assert_close(flat(exported), averaged[metrics["step"] - 1], atol=1e-6, rtol=0)
    (best,) = folder.glob(f"checkpoints/step{metrics['step']}-*.ckpt")
    chosen: Any = sepnet.load(best)
    assert torch.equal(flat(exported), flat(chosen))
    # The score is that of these very weights.
    data: MixtureData = artifact.build(artifact.read_config(folder).data)
    gains = [si_sdr_gain(exported, mixture) for mixture in data.valid()]
    assert None not in gains
    assert metrics["si_sdri_db"] == pytest.approx(
        sum(float(g) for g in gains if g is not None) / len(gains), abs=1e-4
    )


def test_logged_metrics_are_all_there(corpus: Path, tmp_path: Path) -> None:
    train(compose(settings(corpus, tmp_path)))
    folder = only_run(tmp_path)
    for name, steps in {
        "train/loss": range(10),
        "train/si_sdri": range(10),
        "train/lr": range(10),
        "train/grad_norm": range(10),
        "train/audio_seconds_per_second": (4, 9),
        "train/waiting_share": (4, 9),
        "val/si_sdri": (4, 9),
    }.items():
        values = logged(folder, name)
        assert list(values) == list(steps), name
        assert all(math.isfinite(value) for value in values.values()), name


# ---------------------------------------------------------------- what stops it


def spoil_batch(number: int, monkeypatch: pytest.MonkeyPatch, factor: float) -> list[Batch]:
    """Have the loss of one batch (from 0) multiplied; the batches are kept."""
    batches: list[Batch] = []
    step = SeparationTask.training_step

    def spoilt(self: SeparationTask, batch: Batch, index: int) -> Tensor:
        batches.append(batch)
        loss = self.separator.loss
        if len(batches) == number + 1:
            monkeypatch.setattr(
                self.separator, "loss", lambda batch: {"loss": loss(batch)["loss"].abs() * factor}
            )
        return step(self, batch, index)

    monkeypatch.setattr(SeparationTask, "training_step", spoilt)
    return batches


@pytest.mark.parametrize(
    ("factor", "said"), [(math.nan, "the loss is nan"), (1e12, r"the loss is \d.*e\+\d\d")]
)
def test_a_loss_that_is_no_number_stops_and_leaves_the_last_good_checkpoint(
    factor: float,
    said: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches = spoil_batch(5, monkeypatch, factor)
    with pytest.raises(SystemExit) as ended, app.one_sentence():
        train(compose(settings(corpus, tmp_path)))
    assert ended.value.code == 2
    told = capsys.readouterr().err
    folder = only_run(tmp_path)
    assert re.match(f"error: {said} at step 5, in the batch of ", told)
    assert all(name in told for name in batches[-1].ids)
    assert f"resume={folder} and a lower optimizer.lr" in told
    assert told.count("\n") == 1
    kept = checkpoint(folder)
    assert kept["global_step"] == 4  # the one behind the validation waits for a sound loss
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept["state_dict"].values())
    # And what it advises works.
    monkeypatch.undo()
    train(compose(settings(corpus, tmp_path, f"resume={folder}", "optimizer.lr=0.0001")))
    assert checkpoint(folder)["global_step"] == 10
    assert logged(folder, "train/lr")[4] == pytest.approx(
        0.0001 * LearningRate(warmup_steps=3).factor(4, 0.4)
    )


def test_weights_are_not_saved_before_a_loss_has_shown_them_to_be_sound(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_end = ExportBest.on_train_batch_end

    def spoil(self: ExportBest, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any) -> None:
        batch_end(self, trainer, module, *rest)
        if trainer.global_step == 3:
            with torch.no_grad():
                next(module.parameters()).fill_(math.nan)  # as a step does that overflows

    monkeypatch.setattr(ExportBest, "on_train_batch_end", spoil)
    with pytest.raises(
        DivergedError, match=r"an estimate is not a number \(.*\) at step 3, in the batch of \[train"
    ):
        train(compose(settings(corpus, tmp_path, "checkpoints.every_n_steps=1")))
    kept = checkpoint(only_run(tmp_path))
    assert kept["global_step"] == 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept["state_dict"].values())


def test_a_gradient_that_is_no_number_stops_before_the_step(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = SeparationTask.backward

    def infinite(self: SeparationTask, loss: Tensor, *rest: Any) -> None:
        backward(self, loss, *rest)
        if self.global_step == 3:
            gradient = next(p.grad for p in self.parameters() if p.grad is not None)
            gradient.view(-1)[0] = math.inf

    monkeypatch.setattr(SeparationTask, "backward", infinite)
    with pytest.raises(DivergedError, match="the norm of the gradient is inf at step 3"):
        train(compose(settings(corpus, tmp_path)))


def test_gradients_are_clipped(corpus: Path, tmp_path: Path) -> None:
    words = [
        "trainer.gradient_clip_val=0.125",
        "trainer.max_steps=1",
        "schedule.warmup_steps=0",
        "optimizer.lr=0.5",
    ]
    sgd = ["optimizer._target_=torch.optim.SGD", "optimizer.weight_decay=0.0"]
    config = compose(settings(corpus, tmp_path, *words, *sgd))
    pl.seed_everything(config.seed, verbose=False)
    before = flat(artifact.build(config.model))
    train(config)
    after: Any = sepnet.load(only_run(tmp_path))
    assert logged(only_run(tmp_path), "train/grad_norm")[0] > 0.125  # as it was before
    assert float((flat(after) - before).norm()) == pytest.approx(0.5 * 0.125, rel=1e-4)


def test_the_time_is_kept_to_and_the_last_weights_are_validated_and_saved(
    corpus: Path, tmp_path: Path
) -> None:
    more = ("trainer.max_epochs=null", "trainer.max_time=00:00:00:01", "data.epoch_size=4000000")
    train(compose(settings(corpus, tmp_path, *more)))
    folder = only_run(tmp_path)
    steps = checkpoint(folder)["global_step"]
    assert 0 < steps < 1_000_000
    assert json.loads((folder / "metrics.json").read_text())["step"] == steps
    assert list(logged(folder, "val/si_sdri")) == [steps - 1]


def test_the_last_of_so_many_steps_is_validated(corpus: Path, tmp_path: Path) -> None:
    train(compose(settings(corpus, tmp_path, "trainer.max_steps=7")))
    folder = only_run(tmp_path)
    assert checkpoint(folder)["global_step"] == 7
    assert list(logged(folder, "val/si_sdri")) == [4, 6]


# ---------------------------------------------------------------- where it runs


@pytest.mark.parametrize("name", ["cpu", "gpu", "ddp", "debug"])
def test_trainers_compose(name: str, corpus: Path, tmp_path: Path) -> None:
    config = compose(settings(corpus, tmp_path, base=("data=folder", f"trainer={name}")))
    if name == "gpu" and not torch.cuda.is_available():
        with pytest.raises(SepnetError, match="torch sees no GPU: take trainer=cpu"):
            train(config)
        assert not list(tmp_path.glob("runs/*"))
        return
    config.trainer.accelerator = "cpu"
    arguments = trainer_arguments(app.plain(config)["trainer"])
    trainer = run_trainer(arguments, [], tmp_path, [])
    assert trainer.world_size == (2 if name == "ddp" else 1)
    assert isinstance(trainer.strategy, pl.strategies.DDPStrategy) == (name == "ddp")


def test_debug_takes_a_few_steps_of_everything(corpus: Path, tmp_path: Path) -> None:
    base = ("trainer=debug", *(word for word in TINY if not word.startswith("trainer.")))
    train(compose(settings(corpus, tmp_path, base=base)))
    assert checkpoint(only_run(tmp_path))["global_step"] == 6
    assert isinstance(sepnet.load(only_run(tmp_path)), nn.Module)


def train_by_two(corpus: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A training in two processes that share each batch; the programs it starts are as a user starts them."""
    words = (*settings(corpus, home, "trainer=ddp", "trainer.accelerator=cpu"), *words)
    script = [sys.executable, str(Path(__file__).with_name("training_fixtures.py")), *words]
    variables = {**os.environ, "SEPNET_TEST_LOG": str(home / "seen"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(script, capture_output=True, text=True, env=variables, cwd=home, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_see_the_mixtures_of_one_and_learn_the_same(corpus: Path, tmp_path: Path) -> None:
    homes = tmp_path / "two", tmp_path / "one"
    for home in homes:
        home.mkdir()
    two = train_by_two(corpus, homes[0])
    assert "sync_dist" not in two.stderr
    assert two.stdout.count("run folder") == two.stdout.count("done: 10 steps") == 1
    train_one = run("train", settings(corpus, homes[1]), homes[1], log=homes[1] / "seen")
    assert train_one.wait() == 0, train_one.told
    ranks = [seen(Path(f"{homes[0]}/seen.{rank}")) for rank in (0, 1)]
    alone = seen(homes[1] / "seen")
    assert len(ranks[0]) == len(ranks[1]) == len(alone) == 10
    for left, right, both in zip(*ranks, alone, strict=True):
        assert len(left["ids"]) == len(right["ids"]) == 2
        assert sorted(left["ids"] + right["ids"]) == sorted(both["ids"])
    one, other = (checkpoint(only_run(home)) for home in homes)
    for name, weights in one["state_dict"].items():
        torch.testing.assert_close(other["state_dict"][name], weights, atol=1e-5, rtol=0)
    scores = [logged(only_run(home), "val/si_sdri") for home in homes]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert len(list(homes[0].glob("runs/*"))) == 1


@pytest.mark.slow
def test_a_finished_run_of_two_processes_says_so(corpus: Path, tmp_path: Path) -> None:
    train_by_two(corpus, tmp_path)
    again = train_by_two(corpus, tmp_path, "resume=true")
    assert "this run is finished: 10 steps" in again.stdout
    assert "terminate" not in again.stderr


def test_a_batch_that_processes_can_t_share_is_refused(corpus: Path, tmp_path: Path) -> None:
    data = artifact.build(compose(settings(corpus, tmp_path)).data)
    module = MixtureDataModule(data=data, batch_size=3)
    module.trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False
    )
    with pytest.raises(
        SepnetError, match="batch_size=3 can't be shared by 2 processes: give a multiple of 2"
    ):
        module.train_dataloader()
    for wrong in ({"batch_size": 21}, {"batch_size": 0}, {"n_workers": -1}, {"n_valid": 0}):
        with pytest.raises(SepnetError, match=r"data\.epoch_size=20"):
            MixtureDataModule(data=data, **wrong)


# ---------------------------------------------------------------- compiled


def test_a_compiled_network_learns_the_same(corpus: Path, tmp_path: Path) -> None:
    """By a backend that translates, but does not optimise: the arithmetic is the same."""
    states = []
    for name, more in (("plain", ()), ("compiled", ("compile=aot_eager",))):
        (tmp_path / name).mkdir()
        done = run("train", settings(corpus, tmp_path / name, *more), tmp_path / name)
        assert done.wait() == 0, done.told
        states.append(checkpoint(only_run(tmp_path / name))["state_dict"])
    plain, compiled = states
    assert plain.keys() == compiled.keys()
    for key, tensor in plain.items():
        torch.testing.assert_close(compiled[key], tensor, atol=1e-5, rtol=1e-4)


def test_compiling_translates_the_network_and_leaves_the_names_of_its_weights() -> None:
    class Twice(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    separator = Silent()
    separator.network = Twice(2, 2)
    names, calls = list(separator.state_dict()), []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        calls.append(graph)
        return graph.forward

    torch._dynamo.register_backend(backend, name="counting")
    compile_network(separator, "counting")
    separator.network(torch.zeros(1, 2))
    assert len(calls) == 1
    with torch.compiler.set_stance("force_eager"):  # as validation does, whose clips are of every length
        separator.network(torch.zeros(7, 3, 2))
    assert len(calls) == 1
    assert list(separator.state_dict()) == names


def test_validation_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stances = []
    set_stance = torch.compiler.set_stance
    monkeypatch.setattr(
        torch.compiler, "set_stance", lambda stance: stances.append(stance) or set_stance(stance)
    )
    references = torch.randn(2, 800)
    si_sdr_gain(Identity(), Mixture(references.sum(dim=0, keepdim=True), 8000, 2, references=references))
    assert stances == ["force_eager"]


def test_one_that_counts_is_told_the_number_when_it_is_judged() -> None:
    class Counts(Identity):
        info = SeparatorInfo(counts_sources=True)

        def estimate_n_sources(self, mixture: Mixture) -> int:
            return 5

        def separate(self, mixture: Mixture) -> Separation:
            return Separation(mixture.audio.expand(mixture.n_sources or self.estimate_n_sources(mixture), -1))

    references = torch.randn(2, 800)
    mixture = Mixture(references.sum(dim=0, keepdim=True), 8000, 2, references=references)
    assert float(si_sdr_gain(Counts(), mixture)) == pytest.approx(0.0, abs=1e-4)


def test_slots_and_labels_have_to_be_the_same(corpus: Path, tmp_path: Path) -> None:
    labelled = [
        word
        for word in settings(corpus, tmp_path, "model=conv_autoencoder", "data.sample_rate=16000")
        if not word.startswith("model.")
    ]
    with pytest.raises(SepnetError, match=r"model\.labels is \['dog_bark'.*data.mixing.slots None"):
        train(compose(labelled))
    with pytest.raises(
        SepnetError, match=r"loader\.batch_size is '16x': give a whole number from 1 to 1,000,000,000 or auto"
    ):
        train(compose(settings(corpus, tmp_path, "loader.batch_size=16x")))
    assert not list(tmp_path.glob("runs/*"))


def test_backends_that_are_none_and_separators_without_a_network(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match=r"compile=inducto: did you mean .inductor"):
        train(compose(settings(corpus, tmp_path, "compile=inducto")))
    with pytest.raises(SepnetError, match="Silent has no network to compile"):
        compile_network(Silent(), "inductor")


class Silent(nn.Module):
    """A separator of one weight."""

    info = SeparatorInfo()

    def separate(self, mixture: Any) -> Any: ...

    def loss(self, batch: Batch) -> dict[str, Tensor]: ...
