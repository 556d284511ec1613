"""Loggers: CSV always, wandb without a key or a network, TensorBoard, none; and the samples they show."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from training_fixtures import RATE, compose, logged, make_corpus, only_run, run, settings

from sepnet.cli.train import train
from sepnet.training import loggers
from sepnet.training.samples import spectrogram_image
from sepnet.types import SepnetError

CSV_METRICS = "train/loss", "train/si_sdri", "train/lr", "train/grad_norm", "val/si_sdri"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("loggers") / "wavs")


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which nobody has a key."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SILENT", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").touch()
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    loggers.close()


def test_csv_is_beside_every_logger_but_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {
        "only_csv": {CSVLogger},
        "tensorboard": {CSVLogger, TensorBoardLogger},
        "none": set(),
    }
    for name, wanted in kinds.items():
        assert {type(one) for one in getattr(loggers, name)(folder=tmp_path, config={})} == wanted
    both = loggers.wandb(folder=tmp_path, config={}, project="p", entity=None)
    assert {type(one) for one in both} == {CSVLogger, WandbLogger}
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert [type(one) for one in loggers.wandb(folder=tmp_path, config={}, project="p", entity=None)] == [
        CSVLogger
    ]


@pytest.mark.parametrize("name", ["none", "tensorboard"])
def test_a_run_with_another_logger(name: str, corpus: Path, tmp_path: Path) -> None:
    train(compose(settings(corpus, tmp_path, f"logger={name}")))
    folder = only_run(tmp_path)
    assert (folder / "model.safetensors").is_file()
    assert (folder / "csv").exists() == (name != "none")
    if name == "tensorboard":
        assert {"train/loss", "val/si_sdri", "train/audio_seconds_per_second"} <= set(
            events(folder).scalars.Keys()
        )


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_samples_are_few_and_the_mixtures_are_sent_once(corpus: Path, tmp_path: Path) -> None:
    train(compose(settings(corpus, tmp_path, "logger=tensorboard")))
    shown = events(only_run(tmp_path))
    names = [f"{index}/{name}" for index in range(2) for name in ("estimate_1", "estimate_2")]
    once = [f"{index}/{name}" for index in range(2) for name in ("mixture", "reference_1", "reference_2")]
    for kind, tags in (("audio", shown.audios), ("spectrogram", shown.images)):
        assert sorted(tags.Keys()) == sorted(f"{kind}/{name}" for name in names + once)
        assert [len(tags.Items(f"{kind}/{name}")) for name in names] == [2] * 4  # two validations
        assert [len(tags.Items(f"{kind}/{name}")) for name in once] == [1] * 6
    assert shown.audios.Items("audio/0/mixture")[0].sample_rate == RATE


def test_a_spectrogram_is_loud_where_the_tone_is() -> None:
    time_ = torch.arange(RATE) / RATE
    colours = spectrogram_image(torch.sin(2 * torch.pi * 1000 * time_), RATE)
    assert colours.dtype == np.uint8
    assert colours.shape[2] == 3
    brightness = colours.astype(float).sum(axis=(1, 2))
    height = len(brightness)
    assert abs((height - 1 - int(brightness.argmax())) / (height - 1) - 1000 / 4000) < 0.02  # low ones below


# ---------------------------------------------------------------- wandb


def test_without_a_key_wandb_is_offline_silent_and_says_once_where(corpus: Path, tmp_path: Path) -> None:
    words = [word for word in settings(corpus, tmp_path) if not word.startswith("logger=")]
    told = run("train", words, tmp_path)  # the default logger
    assert told.wait() == 0, told.told
    folder = only_run(tmp_path)
    lines = [line for line in told.out.splitlines() if line.startswith("wandb:")]
    assert lines == [f"wandb: offline, the run is kept in {folder / 'wandb'} (`wandb sync` sends it)"]
    assert told.err == ""
    (offline,) = (folder / "wandb").glob("offline-run-*")
    assert list(offline.glob("*.wandb"))
    for name in CSV_METRICS:
        assert logged(folder, name)
    media = [path.suffix for path in offline.rglob("media/**/*") if path.is_file()]
    assert set(media) == {".wav", ".png"}
    # 2 mixtures, 2 validations: 2 estimates each time; the mixture and 2 references once.
    assert media.count(".wav") == media.count(".png") == 2 * (2 * 2 + 3)


def test_each_run_of_a_process_gets_its_own_wandb_run(corpus: Path, tmp_path: Path) -> None:
    words = [word for word in settings(corpus, tmp_path, "seed=0,1") if not word.startswith("logger=")]
    told = run("train", ["-m", *words], tmp_path)
    assert told.wait() == 0, told.told
    folders = list((tmp_path / "runs").glob("*/wandb"))
    assert len(folders) == 2
    assert all(len(list(folder.glob("offline-run-*"))) == 1 for folder in folders)


def test_a_key_is_found_where_wandb_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not loggers.has_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    assert loggers.has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert not loggers.has_key()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert loggers.has_key()


def test_an_unreachable_network_is_not_waited_for(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over = threading.Event()

    def hang(*args: Any, **keywords: Any) -> None:
        over.wait()
        raise OSError("at last")

    monkeypatch.setattr(socket, "create_connection", hang)  # a name server that does not answer
    begin = time.monotonic()
    assert not loggers.reachable(seconds=0.2)
    assert time.monotonic() - begin < 2
    over.set()
    monkeypatch.setattr(socket, "create_connection", MagicMock(side_effect=OSError("no route")))
    assert not loggers.reachable()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    _, offline = loggers.wandb(folder=tmp_path / "run", config={}, project="p", entity=None)
    assert isinstance(offline, WandbLogger)
    assert offline._offline
    assert capsys.readouterr().out.startswith("wandb: offline")


def test_online_the_best_checkpoint_is_sent(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for wandb's run: what is logged to it, and which files."""
    server = MagicMock(id="stand-in")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(loggers, "reachable", lambda: True)
    start = MagicMock(return_value=server)
    monkeypatch.setattr(wandb, "init", start)
    sent: list[tuple[str, list[str]]] = []
    server.log_artifact = lambda artifact, aliases: sent.append(
        (artifact.metadata["original_filename"], aliases)
    )
    train(compose(settings(corpus, tmp_path, "logger=wandb", "checkpoints.best=1")))
    folder = only_run(tmp_path)
    keywords = start.call_args.kwargs
    assert keywords["project"] == "sepnet"
    assert keywords["id"] == keywords["name"] == folder.name
    assert keywords["resume"] == "allow"
    assert keywords["config"]["model"]["network"]["n_channels"] == 8
    assert keywords["config"]["data_fingerprint"]
    (best,) = (path.name for path in folder.glob("checkpoints/step*.ckpt"))
    assert sent == [(best, ["latest", "best"])]
    names = {name for call in server.log.call_args_list for name in call.args[0]}
    assert {
        *CSV_METRICS,
        "train/audio_seconds_per_second",
        "audio/0/estimate_1",
        "spectrogram/1/mixture",
    } <= names


@pytest.mark.parametrize(
    "refusal", [wandb.errors.AuthenticationError("the key is not known"), ValueError("40 letters")]
)
def test_a_server_that_refuses_makes_it_offline(
    refusal: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "wrong")
    monkeypatch.setattr(loggers, "reachable", lambda: True)
    monkeypatch.setattr(wandb, "init", MagicMock(side_effect=refusal))
    _, offline = loggers.wandb(folder=tmp_path / "run", config={}, project="p", entity=None)
    assert isinstance(offline, WandbLogger)
    assert offline._offline
    assert capsys.readouterr().out.startswith(f"wandb: {refusal}\nwandb: offline, the run is kept in ")


def test_tensorboard_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        loggers, "TensorBoardLogger", MagicMock(side_effect=ModuleNotFoundError("tensorboard"))
    )
    with pytest.raises(SepnetError, match="pip install"):
        loggers.tensorboard(folder=tmp_path, config={})


def test_what_wandb_is_told_can_be_read(corpus: Path, tmp_path: Path) -> None:
    """The settings, the versions and the data's fingerprint are in the offline run."""
    config = {"model": {"n_sources": 2}, "data_fingerprint": "abc"}
    _, logger = loggers.wandb(folder=tmp_path / "run", config=config, project="p", entity=None)
    assert isinstance(logger, WandbLogger)
    assert json.loads(json.dumps(dict(logger.experiment.config))) == config
