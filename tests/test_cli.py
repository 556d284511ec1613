"""Command lines: what they do, and one clear sentence for what they can't."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from training_fixtures import (
    RATE,
    TINY,
    checkpoint,
    compose,
    make_corpus,
    only_run,
    run,
    settings,
    start,
    voice,
)

import sepnet
from sepnet import artifact
from sepnet.cli import app, evaluate, overrides, separate
from sepnet.cli.train import train
from sepnet.evaluation import Contender, contenders, scoring
from sepnet.training import checkpoints
from sepnet.types import SepnetError

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("cli") / "wavs")


@pytest.fixture(scope="module")
def home(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a trained run."""
    folder = tmp_path_factory.mktemp("trained")
    train(compose(settings(corpus, folder)))
    return folder


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "mix.wav", voice(1.0, rng) + voice(1.0, rng), RATE, subtype="FLOAT")
    return tmp_path / "mix.wav"


def refusal(call: Any, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command line would print to standard error, which is one sentence, before it ends with 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended, app.one_sentence():
        call()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", told), told
    return told.removeprefix("error: ").strip()


def test_a_name_too_long_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / ("n" * 256)
    told = refusal(folder.mkdir, capsys)
    assert told == f"can't write to {folder}: File name too long; give a shorter name"


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            "trainer.max_tme=00:00:01:00",
            "there is no setting 'trainer.max_tme': did you mean 'trainer.max_time'?",
        ),
        ("modle=pit", "there is no setting 'modle': did you mean 'model'?"),
        ("model=pitt", "model has no option 'pitt': did you mean 'pit'?"),
        ("trainer=tpu", "trainer has no option 'tpu'"),
        ("optimizer=null", "optimizer is null: give adamw or muon"),
        ("model=null", "model is null: give ast_contrast, "),
        (
            "model.network.n_chanels=3",
            "there is no setting 'model.network.n_chanels': did you mean 'model.network.n_channels'?",
        ),
        ("data.root=/my/wavs", "there is no setting 'data.root': did you mean 'data.corpus.root'?"),
        ("+epochs=3", "there is no setting 'epochs'"),
        ("+loader.batchsize=3", "there is no setting 'loader.batchsize': did you mean 'loader.batch_size'?"),
        ("model", "'model' is no setting: write name=value"),
        ("trainer.max_epochs=[1", "the settings can't be used: "),
    ],
)
def test_settings_that_are_not_there_are_told_with_the_nearest(
    word: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(lambda: overrides.check("train", ["data=folder", word]), capsys).startswith(told)


@pytest.mark.parametrize(
    ("name", "word", "told"),
    [
        ("serve", "model=pit", "there is no setting 'model': did you mean 'models'?"),
        ("eval", "model=pit", "there is no setting 'model': there are address, chunk_seconds, "),
        ("export", "trainer=ddp", "there is no setting 'trainer': there are format, "),
    ],
)
def test_a_group_of_other_commands_is_no_setting(
    name: str, word: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not overrides.clashes(overrides.key_of(word), name)  # with a setting, which Hydra would not take
    assert refusal(lambda: overrides.check(name, [word]), capsys).startswith(told)


def test_the_nearest_name_is_that_of_the_chosen_model(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data=folder", "model=pit_blstm", "model.network.hiden=3"]
    assert "'model.network.n_hidden'" in refusal(lambda: overrides.check("train", words), capsys)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("+model.network.foo=1", "foo"),
        ("+model.foo=1", "foo"),
        ("+optimizer.momentumm=1", "momentumm"),
        ("+trainer.max_step=1", "Lightning's Trainer has no setting 'max_step': did you mean 'max_steps'?"),
        ("trainer.max_time=soon", r"trainer\.max_time is 'soon': give days:hours:minutes:seconds"),
        ("trainer.max_time=1", r"trainer\.max_time is 1: give days:hours:minutes:seconds"),
        ("trainer.precision=7", r"trainer\.precision is 7: give auto, 32-true"),
        ("trainer.max_epochs=-7", r"trainer\.max_epochs is -7: give a whole number from 1"),
        ("trainer.strategy=ddpp", r"trainer: .*ddpp"),
        ("loader.batch_size=21", r"loader\.batch_size=21 has to be between 1 and data\.epoch_size=20"),
        ("model.sample_rate=16000", "data.sample_rate is 8000 Hz, but model.sample_rate 16000 Hz"),
        ("data.corpus.root=???", r"data\.corpus\.root has no value: give data\.corpus\.root=\.\.\."),
        ("data=noisy_folder", r"data\.noise\.root has no value: give data\.noise\.root=\.\.\."),
        ("data.corpus.root=/not/there", "there is no folder /not/there"),
        ("data.sample_rate=16000", "model.sample_rate 8000 Hz: they have to agree"),
        ("name=a/b", "name is 'a/b': give a name without slashes"),
        ("name=../../escape", r"name is '\.\./\.\./escape': give a name without slashes"),
        ("schedule.warmup_steps=-3", r"schedule\.warmup_steps is -3: give a whole number from 0 to"),
        ("schedule.decay=foo", r"schedule\.decay is 'foo': give cosine, linear or none"),
        ("schedule.final=7", r"schedule\.final is 7: give a number from 0 to 1"),
        ("optimizer.lr=-1", r"optimizer\.lr is -1: give a number above 0"),
        ("optimizer.lr=0", r"optimizer\.lr is 0: give a number above 0"),
        ("optimizer.lr=abc", r"optimizer\.lr is 'abc': give a number above 0"),
        ("optimizer.lr=nan", r"optimizer\.lr is nan: give a number above 0"),
        ("ema_decay=5", "ema_decay is 5: give a number of at least 0 and below 1 or null"),
        ("seed=-1", "seed is -1: give a whole number from 0 to 4,294,967,295"),
        ("data.seed=abc", r"data\.seed is 'abc': give a whole number from 0 to 4,294,967,295"),
        ("data.mixing.seconds=1e9", r"data\.mixing\.seconds is 1000000000\.0: give a number above 0"),
        (
            "model.network.n_channels=0",
            r"model\.network\.n_channels is 0: give a whole number from 1 to 65,536",
        ),
        ("resume=5", "resume is 5: give true or false, a path or null"),
        ("data.train_split=trian", "has no split trian: it has dev, test, train"),
        ("data.valid.n_sources=1", "the model gives 2 sources, but 2 of 2 validation mixtures hold another"),
    ],
)
def test_settings_that_can_t_be_used_are_told_and_leave_no_run(
    word: str, told: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(told, refusal(lambda: train(compose(settings(corpus, tmp_path, word))), capsys))
    assert not list(tmp_path.glob("runs/*"))


def test_a_method_that_does_not_learn_is_not_trained(corpus: Path, tmp_path: Path) -> None:
    words = [word for word in settings(corpus, tmp_path) if not word.startswith("model.")]
    told = run("train", [*words, "model=identity"], tmp_path)
    assert told.wait() == 2
    assert told.err == "error: Identity has nothing to train: choose a trainable model\n"


def test_a_sweep_is_checked_value_by_value(capsys: pytest.CaptureFixture[str]) -> None:
    overrides.check("train", ["data=folder", "model=pit,pit_blstm", "seed=range(3)"], sweep=True)
    words = ["data=folder", "model=pit,pitt", "seed=1,2"]
    assert "did you mean 'pit'?" in refusal(lambda: overrides.check("train", words, sweep=True), capsys)
    words = ["data=folder", "model=pit,pit_blstm", "sed=1,2"]
    assert "did you mean 'seed'?" in refusal(lambda: overrides.check("train", words, sweep=True), capsys)


def test_the_program_ends_with_2_and_no_traceback(tmp_path: Path) -> None:
    for name, words in {
        "train": ["data=folder", "modle=pit"],
        "separate": ["nothing.wav"],
        "eval": [f"runs={tmp_path}"],
        "benchmark": ["data=folder", "what=nothing"],
    }.items():
        told = run(name, words, tmp_path)
        assert told.wait() == 2, told.told
        assert re.fullmatch(r"error: [^\n]+\n", told.err), told.err
        assert told.out == ""
    assert {path.name for path in tmp_path.iterdir()} == {"stdout", "stderr"}


def test_the_command_is_a_program_of_python_too() -> None:
    command = [sys.executable, "-m", "sepnet.cli.main", "separat"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: sepnet has no command 'separat': did you mean 'separate'?\n"


def test_hydra_s_own_flags_work(corpus: Path, tmp_path: Path) -> None:
    told = run("train", ["data=folder", "--help"], tmp_path)
    assert told.wait() == 0
    assert "usage: python scripts/train.py [NAME=VALUE...]" in told.out
    assert "\n  model= " in told.out
    told = run("train", ["--cfg", "job", "data=folder", "loader.batch_size=7"], tmp_path)
    assert told.wait() == 0
    assert "batch_size: 7" in told.out
    told = run("separate", ["--cfg", "job", "channels=all"], tmp_path)
    assert told.wait() == 0
    assert "channels: all" in told.out
    assert {path.name for path in tmp_path.iterdir()} == {"stdout", "stderr"}


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        ("train", ["--config-dir=nowhere"], "there is no folder nowhere"),
        ("train", ["--config-path=nowhere"], "--config-path is not read"),
        ("train", ["--config-name=nothing", "seed=1"], "there is no configuration nothing"),
        ("eval", ["-m", "limit=1,2"], "only training does several jobs"),
        ("eval", ["x" * 3000], "is no setting"),
        ("eval", ["x" * 3000 + "=1"], "the settings can't be used (OSError"),
    ],
)
def test_flags_and_words_that_can_t_be_used_are_told(
    command: str, words: list[str], told: str, tmp_path: Path
) -> None:
    ended = run(command, words, tmp_path)
    assert ended.wait() == 2, ended.told
    assert re.fullmatch(r"error: [^\n]+\n", ended.err), ended.err
    assert told in ended.err
    assert len(ended.err) < 400
    assert {path.name for path in tmp_path.iterdir()} == {"stdout", "stderr"}


def test_own_files_extend_those_of_conf(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "small.yaml").write_text(
        "_target_: sepnet.separators.hpss.HPSS\nmargin: 7\n"
    )
    words = ["data=folder", "model=small", "--config-dir=mine", "--cfg=job"]
    told = run("train", words, tmp_path)
    assert told.wait() == 0, told.told
    assert "margin: 7" in told.out
    told = run("train", ["data=folder", "model=smal", "--config-dir=mine"], tmp_path)
    assert told.wait() == 2
    assert "did you mean 'small'?" in told.err


def test_multirun_makes_a_run_of_each_combination(corpus: Path, tmp_path: Path) -> None:
    words = settings(corpus, tmp_path, "trainer.max_epochs=1", "model.network.n_channels=6,8", "seed=0,1")
    told = run("train", ["-m", *words], tmp_path)
    assert told.wait() == 0, told.told
    folders = [path.parent for path in (tmp_path / "runs").glob("*/model.safetensors")]
    got = {(sepnet.load(folder).network.blocks[0].body[0].in_channels) for folder in folders}  # type: ignore[attr-defined]
    assert len(folders) == 4
    assert got == {6, 8}
    assert {path.name for path in tmp_path.iterdir()} == {"stdout", "stderr", "runs"}


# ---------------------------------------------------------------- data


def test_a_sweep_whose_first_job_is_refused_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    words = [*settings(corpus, tmp_path), "model.objective.metric._target_=3.5", "-m"]
    command = run("train", words, tmp_path)
    assert command.wait() == 2, command.told
    assert "defines: refused" in command.err
    assert not (tmp_path / "runs").exists()


def test_a_corpus_that_can_t_serve_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def trained_on(corpus: Path, *more: str) -> str:
        told = refusal(lambda: train(compose(settings(corpus, tmp_path / "home", *more))), capsys)
        assert not list(tmp_path.glob("home/runs/*"))
        return told

    alone = make_corpus(tmp_path / "alone" / "wavs", train=1)
    assert "1 speakers with usable utterances" in trained_on(alone)
    shared = make_corpus(tmp_path / "shared" / "wavs")
    shutil.copytree(shared / "train" / "train-0", shared / "dev" / "train-0")
    assert "are in more than one split: train-0" in trained_on(shared)
    short = make_corpus(tmp_path / "short" / "wavs", seconds=0.6)
    told = trained_on(short, "data.mixing.seconds=1.0", "data.mixing.short_policy=refuse")
    assert "8 of 8 utterances are shorter than" in told
    assert "data.mixing.short_policy=pad" in told
    slow = trained_on(short, "data.sample_rate=4000", "model.sample_rate=4000")
    assert "are not at 4000 Hz" in slow
    assert "data.resample=true" in slow


def test_files_that_a_list_names_and_nobody_has_are_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text(
        "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain\n"
        "one,dev/dev-0/dev0a.wav,1.0,dev/dev-9/dev9a.wav,1.0\n"
    )
    words = [word for word in settings(corpus, tmp_path) if not word.startswith("data.valid")]
    listed = ["data.valid._target_=sepnet.data.librimix.LibriMixList", f"+data.valid.csv={tmp_path}/list.csv"]
    gone = [f"~data.valid.{name}" for name in ("split", "n_mixtures", "n_sources", "seed")]
    told = refusal(lambda: train(compose([*words, *listed, *gone])), capsys)
    assert "1 files of the list are not among the" in told
    assert "dev/dev-9/dev9a.wav" in told


def test_a_folder_without_splits_is_divided(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus" / "wavs", train=12, dev=0, test=0)
    for speaker in (corpus / "train").iterdir():
        speaker.rename(corpus / speaker.name)
    (corpus / "train").rmdir()
    fractions = "data.corpus.split_fractions={train:0.5,dev:0.25,test:0.25}"
    train(compose(settings(corpus, tmp_path, fractions, "trainer.max_epochs=1")))
    assert sepnet.load(only_run(tmp_path)) is not None


@pytest.mark.parametrize("logger", ["~logger._target_", "logger._target_=nowhere.at_all", "LOGGERS_FAIL"])
def test_a_logger_that_can_not_be_used_leaves_no_folder(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: str
) -> None:
    if logger == "LOGGERS_FAIL":  # when there is a run folder already

        def fail(**_: object) -> None:
            raise SepnetError("no room for numbers")

        monkeypatch.setattr("sepnet.training.loggers.only_csv", fail)
    with pytest.raises(SepnetError, match=r"_target_|no room"):
        train(compose(settings(corpus, tmp_path, *([] if logger == "LOGGERS_FAIL" else [logger]))))
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------- a full disk


def test_a_disk_that_is_full_when_a_checkpoint_is_written_is_told_and_costs_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, count = torch.save, [0]

    def fills_up(content: Any, file: Any) -> None:
        count[0] += 1
        if count[0] == 3:
            file.write(b"some of it")
            raise FULL
        write(content, file)

    monkeypatch.setattr(checkpoints.torch, "save", fills_up)
    told = refusal(lambda: train(compose(settings(corpus, tmp_path))), capsys)
    folder = only_run(tmp_path)
    assert told.startswith(f"can't write {folder}/checkpoints/")
    assert "No space left on device; " in told
    assert "MB are free there: make room" in told
    assert not list(folder.glob("checkpoints/.*"))  # what was half written takes no room
    monkeypatch.undo()
    steps = checkpoint(folder)["global_step"]
    assert steps == 4
    train(compose(settings(corpus, tmp_path, "resume=true")))
    assert checkpoint(folder)["global_step"] == 10


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_torch_tells_of_a_full_disk_in_words_that_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real error, from the kernel through torch."""
    (tmp_path / ".last.ckpt.partial").symlink_to("/dev/full")
    weights = {"weights": torch.zeros(1_000_000)}
    told = refusal(
        lambda: checkpoints.AtomicCheckpointIO().save_checkpoint(weights, tmp_path / "last.ckpt"), capsys
    )
    assert "No space left on device; " in told
    assert "MB are free there: make room" in told
    assert str(tmp_path) in told
    assert not (tmp_path / "last.ckpt").exists()


def test_a_folder_that_may_not_be_written_to_is_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("a file")
    told = refusal(lambda: train(compose(settings(corpus, tmp_path))), capsys)
    assert told.startswith(f"can't write {tmp_path}/runs/")


# ---------------------------------------------------------------- separate.py


def separated(words: list[str], *files: Path) -> None:
    """``python scripts/separate.py files words``, in this process."""
    before = sys.argv
    sys.argv = ["separate.py", *map(str, files), *words]
    try:
        separate.main()
    finally:
        sys.argv = before


def test_a_file_is_separated_by_the_newest_run(home: Path, mixture: Path) -> None:
    told = run("separate", [mixture.name, f"runs={home}/runs"], mixture.parent)
    assert told.wait() == 0, told.told
    assert told.err == ""
    assert "mix_s1.wav, mix_s2.wav" in told.out
    parts = [soundfile.read(mixture.with_name(f"mix_s{k}.wav"), dtype="float32") for k in (1, 2)]
    whole = soundfile.read(mixture, dtype="float32")[0]
    assert {rate for _, rate in parts} == {RATE}
    assert {soundfile.info(mixture.with_name(f"mix_s{k}.wav")).subtype for k in (1, 2)} == {"FLOAT"}
    np.testing.assert_allclose(parts[0][0] + parts[1][0], whole, atol=1e-5)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (12345, 3)])
def test_any_rate_and_any_number_of_channels(rate: int, channels: int, home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sound = np.stack([voice(0.5, rng, rate) for _ in range(channels)])
    soundfile.write(tmp_path / "mix.wav", sound.T, rate, subtype="FLOAT")
    separated([f"model={only_run(home)}"], tmp_path / "mix.wav")
    parts = [soundfile.read(tmp_path / f"mix_s{k}.wav", dtype="float32") for k in (1, 2)]
    assert all(there == rate for _, there in parts)
    # Stereo in gives stereo out, and the sources sum to it, beyond the network's rate, too.
    np.testing.assert_allclose((parts[0][0] + parts[1][0]).reshape(-1, channels), sound.T, atol=1e-5)


def test_one_channel_can_be_chosen(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    sound = np.stack([voice(0.6, rng), voice(0.6, rng)])
    soundfile.write(tmp_path / "mix.wav", sound.T, RATE, subtype="FLOAT")
    separated([f"model={only_run(home)}", "channels=1"], tmp_path / "mix.wav")
    parts = [soundfile.read(tmp_path / f"mix_s{k}.wav", dtype="float32")[0] for k in (1, 2)]
    np.testing.assert_allclose(parts[0] + parts[1], sound[1], atol=1e-5)
    words = [f"model={only_run(home)}", "channels=2", "overwrite=true"]
    assert "channels=2, but the recording has 2 channels" in refusal(
        lambda: separated(words, tmp_path / "mix.wav"), capsys
    )


def test_results_are_not_written_over(home: Path, mixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"model={only_run(home)}"]
    mixture.with_name("mix_s2.wav").write_text("precious")
    told = refusal(lambda: separated(words, mixture), capsys)
    assert f"{mixture.with_name('mix_s2.wav')} exist already: give overwrite=true" in told
    assert mixture.with_name("mix_s2.wav").read_text() == "precious"
    assert not mixture.with_name("mix_s1.wav").exists()
    separated([*words, f"out={mixture.parent}/elsewhere"], mixture)
    assert (mixture.parent / "elsewhere" / "mix_s2.wav").is_file()
    separated([*words, "overwrite=true"], mixture)
    assert soundfile.info(mixture.with_name("mix_s2.wav")).frames == RATE


@pytest.mark.parametrize(
    "name", ["a b.wav", "a,b.wav", "it's.wav", "a=b.wav", "[1].wav", "${x}.wav", "ü.wav"]
)
def test_files_may_be_called_anything(name: str, home: Path, mixture: Path, tmp_path: Path) -> None:
    shutil.copy(mixture, tmp_path / name)
    told = run("separate", [name, f"model={only_run(home)}", "out=here"], tmp_path)
    assert told.wait() == 0, told.told
    assert (tmp_path / "here" / f"{Path(name).stem}_s2.wav").is_file()


def test_labels_become_names_of_files(mixture: Path, tmp_path: Path) -> None:
    words = ["model=energy_reference", f"query={mixture}", f"out={tmp_path / 'here'}"]
    separated(words, mixture)
    there = {path.name for path in (tmp_path / "here").iterdir()}
    assert there == {"mix_query_1.wav", "mix_residual.wav", "mix_separation.json"}


def bad_files(folder: Path, good: Path) -> Iterator[tuple[Path, str]]:
    """Files that can't be separated, each with words of the reason."""
    yield folder / "missing.wav", "there is no file"
    (folder / "empty.wav").touch()
    yield folder / "empty.wav", "is empty"
    (folder / "text.wav").write_text("once upon a time" * 99)
    yield folder / "text.wav", "can't be read as audio"
    soundfile.write(folder / "no_samples.wav", np.zeros(0, dtype=np.float32), RATE)
    yield folder / "no_samples.wav", "zero length"
    sound = np.zeros(100, dtype=np.float32)
    sound[7] = np.nan
    soundfile.write(folder / "nan.wav", sound, RATE, subtype="FLOAT")
    yield folder / "nan.wav", "1 of 100 samples are NaN or infinite"
    (folder / "nothing").mkdir()
    yield folder / "nothing", "there is no sound file in"


def test_files_that_can_t_be_read_are_told(
    home: Path, mixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, reason in bad_files(tmp_path, mixture):
        told = refusal(lambda path=path: separated([f"model={only_run(home)}"], path), capsys)
        assert reason in told
        assert str(path) in told
    words = [f"model={only_run(home)}"]
    (tmp_path / "cut.wav").write_bytes(mixture.read_bytes()[:-1000])
    assert "cut" in refusal(lambda: separated([*words, "strict=true"], tmp_path / "cut.wav"), capsys)
    assert not list(tmp_path.glob("*_s?.wav"))
    assert "no sound file was given" in refusal(lambda: separated(words), capsys)


@pytest.mark.parametrize(("samples", "told"), [(4000, "silent"), (1, "1 samples|0.00 s")])
def test_silence_and_a_single_sample_are_separated(
    samples: int, told: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = np.zeros(samples, dtype=np.float32)
    if samples == 1:
        sound[0] = 0.5
    soundfile.write(tmp_path / "mix.wav", sound, RATE, subtype="FLOAT")
    separated([f"model={only_run(home)}"], tmp_path / "mix.wav")
    assert re.search(told, capsys.readouterr().out)
    parts = [soundfile.read(tmp_path / f"mix_s{k}.wav", dtype="float32")[0] for k in (1, 2)]
    assert all(part.shape == (samples,) and np.isfinite(part).all() for part in parts)
    np.testing.assert_allclose(parts[0] + parts[1], sound, atol=1e-5)


def test_a_full_disk_leaves_no_half_file(
    home: Path, mixture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fills_up(file: Any, *rest: Any, **keywords: Any) -> None:
        raise FULL

    monkeypatch.setattr(soundfile.SoundFile, "write", fills_up)
    told = refusal(lambda: separated([f"model={only_run(home)}"], mixture), capsys)
    assert "No space left on device" in told
    assert [path.name for path in mixture.parent.glob("[!.]*")] == ["mix.wav"]
    monkeypatch.undo()  # with room again, what was separated is only written
    monkeypatch.delattr("sepnet.inference.separate_file._separate")
    separated([f"model={only_run(home)}"], mixture)
    assert {path.name for path in mixture.parent.iterdir()} == {
        "mix.wav",
        "mix_s1.wav",
        "mix_s2.wav",
        "mix_separation.json",
    }


def test_without_a_run_the_shipped_weights_separate_and_are_named(
    mixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    separated([f"runs={tmp_path}/none"], mixture)
    assert "model=pit-2spk-8k, because none was given" in capsys.readouterr().out
    whole = soundfile.read(mixture, dtype="float32")[0]
    parts = [soundfile.read(mixture.with_name(f"mix_s{k}.wav"), dtype="float32")[0] for k in (1, 2)]
    np.testing.assert_allclose(parts[0] + parts[1], whole, atol=1e-5)


def test_models_that_are_not_there_or_not_trained_are_told(
    home: Path, mixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word, reason in {
        "model=piit": "did you mean 'pit'?",
        "model=pit": "has to be trained before it can separate",
        f"model={tmp_path}": "is no run folder",
        "model=irm": "the method needs references",
    }.items():
        assert reason in refusal(lambda word=word: separated([word], mixture), capsys)
    # A run folder whose settings describe another network than its weights are of.
    other = tmp_path / "other"
    shutil.copytree(only_run(home), other)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("n_hidden: 8", "n_hidden: 9"))
    for place in (other, other / "checkpoints" / "last.ckpt"):
        told = refusal(lambda place=place: separated([f"model={place}"], mixture), capsys)
        assert "holds weights of another architecture than its configuration describes" in told


# ---------------------------------------------------------------- eval.py and benchmark.py


QUICK = ("measures=[si_sdr]", "n_processes=0")


def test_a_run_is_evaluated_beside_the_floor_and_the_ceiling(home: Path, tmp_path: Path) -> None:
    words = [f"runs={home}/runs", *QUICK, f"out={tmp_path}/results", "separators=[identity,run,irm]"]
    told = run("eval", words, tmp_path)
    assert told.wait() == 0, told.told
    results = tmp_path / "results"
    assert {"rows.csv", "report.md", "report.html"} <= {path.name for path in results.iterdir()}
    table = [line for line in told.out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3  # a head, a rule, and a line for each separator
    assert told.out.rstrip().endswith(f"look and listen: {results / 'report.html'}")


def test_runs_are_named_without_their_time_where_that_tells_them_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def names(*folders: str) -> list[str]:
        named = {folder: Contender(folder, load=partial(artifact.load, folder)) for folder in folders}
        monkeypatch.setattr(contenders, "contender", named.__getitem__)
        return [contender.name for contender in contenders.contenders(folders)]

    earlier, later = "2026-01-02_03-04-05-pit", "2026-11-12_13-14-15-pit"
    assert names(earlier, "identity", "2026-a") == ["pit", "identity", "2026-a"]
    assert names(earlier, later, "identity") == [earlier, later, "identity"]
    assert names(earlier, "pit") == [earlier, "pit"]


def test_an_unknown_name_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    words = ["data=toy", *QUICK, f"out={tmp_path}/results", "separators=[identity,fastca]"]
    told = run("eval", words, tmp_path)
    assert told.wait() == 2, told.told
    assert "no run folder and no model is called 'fastca': did you mean 'fastica'?" in told.err
    assert not (tmp_path / "results").exists()


def test_a_run_that_neither_takes_part_nor_gives_the_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ckpt=nowhere", "separators=[identity,irm]", f"out={tmp_path}/results"]
    data = ["data=folder", f"data.corpus.root={tmp_path}/nowhere"]
    assert refusal(lambda: evaluate.run(compose([*words, *data], "eval")), capsys) == (
        "ckpt=nowhere is not used, as data is given and the separators are identity, irm: "
        "name run in separators, or leave ckpt out"
    )
    for used in (words, [*words, *data, "separators=[identity,run]"]):
        told = refusal(lambda used=used: evaluate.run(compose(used, "eval")), capsys)  # type: ignore[misc]
        assert "is called 'nowhere'" in told


def test_ctrl_c_keeps_the_rows_and_the_same_command_goes_on(home: Path, tmp_path: Path) -> None:
    words = [f"ckpt={only_run(home)}", *QUICK, f"out={tmp_path}/results", "separators=[identity]"]
    command = start("eval", words, tmp_path, log=tmp_path / "seen", kill="slow")
    command.wait_for(lambda: (tmp_path / "seen.slow").exists())
    assert command.process.pid is not None
    os.kill(command.process.pid, signal.SIGINT)
    assert command.wait() == 130, command.told
    assert f"stopped; the rows so far are in {tmp_path}/results, and the same command goes on" in command.err
    assert "Traceback" not in command.told
    before = (tmp_path / "results" / "rows.csv").read_text()
    assert len(before.splitlines()) == 1 + 2  # a head, and the first mixture's two sources
    again = run("eval", words, tmp_path)
    assert again.wait() == 0, again.told
    after = (tmp_path / "results" / "rows.csv").read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == 1 + 4


def test_the_speed_of_mixing_is_measured(corpus: Path, tmp_path: Path) -> None:
    words = ["what=mixing", *(word for word in TINY if word.startswith("data")), f"data.corpus.root={corpus}"]
    told = run("benchmark", [*words, "seconds=0.5", "n_mixtures=20", "repetitions=2"], tmp_path)
    assert told.wait() == 0, told.told
    assert len(re.findall(r" [1-9]\d* mixtures/s \(median of 2; ", told.out)) == 2


def test_what_a_worker_process_refuses_is_one_sentence_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A DataLoader's worker sends its error with all that was on its stack."""
    text = "Caught SepnetError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    text += "  File ...\nsepnet.types.SepnetError: no 2 different speakers in 1000 draws\n"

    def fail() -> None:
        raise SepnetError(text)

    assert refusal(fail, capsys) == "no 2 different speakers in 1000 draws"


def test_pesq_is_left_out_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "pesq" in scoring.available_measures()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert scoring.available_measures() == ("si_sdr", "sdr", "snr", "stoi", "estoi")
    assert "pip install 'sepnet[pesq]'" in capsys.readouterr().out
