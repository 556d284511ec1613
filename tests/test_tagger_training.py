"""`sepnet train model=ast_tagger`: its own score, exact resumption, and a run that is no separator."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import DictConfig, OmegaConf
from training_fixtures import checkpoint, compose, logged, only_run

from sepnet import artifact, paths
from sepnet.cli.parts import fold_score
from sepnet.cli.publish import WeightsSettings, ship
from sepnet.cli.train import train
from sepnet.evaluation.shipping import Bounds
from sepnet.query.tagging.tagger import Tagger
from sepnet.settings import parse
from sepnet.training.task import score_name, validation_score
from sepnet.types import Scored, SepnetError

CLASSES = ("hum", "hiss", "click")

ESC10 = Path(os.environ.get("SEPNET_ESC10", Path(__file__).parents[2] / "shared" / "audio" / "esc10_16k"))


def typed(weights: DictConfig) -> WeightsSettings:
    """The settings of a file of conf/weights."""
    container = OmegaConf.to_container(weights, resolve=True)
    return parse(WeightsSettings, {str(name): value for name, value in dict(container).items()})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, two recordings each in folds 1 and 2, named as ESC's."""
    root, rng = tmp_path_factory.mktemp("tags") / "sounds", np.random.default_rng(0)
    t = np.arange(20000) / 16000
    for fold in (1, 2):
        for take in range(2):
            sounds = {
                "hum": 0.1 * np.sin(2 * np.pi * rng.uniform(100, 200) * t),
                "hiss": 0.05 * rng.standard_normal(len(t)),
                "click": 0.3 * (np.sin(2 * np.pi * rng.uniform(6, 9) * t) > 0.99),
            }
            for number, (name, sound) in enumerate(sounds.items()):
                (root / name).mkdir(parents=True, exist_ok=True)
                path = root / name / f"{fold}-{100 * fold + 10 * take + number}-A.wav"
                soundfile.write(path, sound.astype(np.float32), 16000)
    return root


def words(corpus: Path, home: Path, *more: str) -> list[str]:
    labels = f"[{','.join(CLASSES)}]"
    return [
        "experiment=ast_tagger",
        f"data.corpus.root={corpus}",
        f"+data.corpus.index_dir={corpus.parent}/index",
        f"data.cache_dir={corpus.parent}/cache",
        f"data.mixing.slots={labels}",
        f"model.labels={labels}",
        "data.train_split=fold1",
        "data.valid.split=fold2",
        "data.valid.n_mixtures=6",
        "data.epoch_size=12",
        "model.hidden=16",
        "model.n_heads=2",
        "model.n_layers=1",
        "model.dropout=0.1",
        "loader.batch_size=4",
        "schedule.warmup_steps=2",
        "trainer.precision=32-true",
        "trainer.max_steps=6",
        "logger=csv",
        f"runs={home}/runs",
        *more,
    ]


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("whole")
    train(compose(words(corpus, home)))
    return only_run(home)


def test_it_is_validated_by_its_accuracy(trained: Path, corpus: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    scores = logged(trained, "val/accuracy")
    assert metrics["score"] == "accuracy"
    assert metrics["accuracy"] == pytest.approx(max(scores.values()), abs=1e-6)
    assert len(list((trained / "checkpoints").glob("step*-accuracy*.ckpt"))) == len(scores) == 2
    tagger = Tagger(pretrained=str(trained)).eval()
    assert isinstance(tagger, Scored)
    assert score_name(tagger) == "accuracy"
    config = compose(words(corpus, trained))
    clips = artifact.build(config.data).valid()
    right = [validation_score(tagger, clip) for clip in clips]
    assert sorted(clips.labels(k)[0] for k in range(6)) == sorted(2 * CLASSES)
    assert float(sum(right) / 6) == pytest.approx(metrics["accuracy"], abs=1e-6)


def test_a_resumed_run_ends_as_one_that_was_never_stopped(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    """Dropout and augmentation are drawn on; three steps, then three more."""
    train(compose(words(corpus, tmp_path, "trainer.max_steps=4", "schedule.decay=none")))
    stopped = only_run(tmp_path)
    train(compose(words(corpus, tmp_path, "schedule.decay=none", f"resume={stopped}")))
    home = tmp_path / "whole"
    train(compose(words(corpus, home, "schedule.decay=none")))
    one, other = checkpoint(stopped), checkpoint(only_run(home))
    assert one["global_step"] == other["global_step"] == 6
    for name, tensor in one["state_dict"].items():
        torch.testing.assert_close(tensor, other["state_dict"][name], atol=1e-6, rtol=0)


def test_a_run_of_a_tagger_does_not_stand_in_for_a_separator(trained: Path) -> None:
    assert not artifact.is_separator(trained)
    assert artifact.preferred(trained.parent) == artifact.SHIPPED / artifact.DEFAULT
    with pytest.raises(SepnetError, match="Tagger, which separates nothing by itself"):
        artifact.load(trained)


def test_it_ships_with_its_accuracy_by_fold(
    trained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SHIPPED", tmp_path / "weights")
    asked = ["weights=ast-tagger-esc10", f"weights.run={trained}", f"weights.folds={{fold2: {trained}}}"]
    config = compose(asked, name="publish")
    folder = tmp_path / "weights" / "ast-tagger-esc10"
    ship(folder, typed(config.weights), Bounds())
    card = (folder / "README.md").read_text()
    accuracy = json.loads((trained / "metrics.json").read_text())["accuracy"]
    assert f"| fold2 | {accuracy:.1%} | 6 | {trained.name} |" in card
    for heading in ("## Training data", "## Results", "## Limitations", "## Licence"):
        assert heading in card
    assert artifact.shipped() == []
    sound = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    shipped, whole = (Tagger(pretrained=str(where)).eval().tag_windows(sound) for where in (folder, trained))
    torch.testing.assert_close(shipped.probabilities, whole.probabilities, atol=5e-3, rtol=0)
    trained_on = compose([*asked[:2], f"weights.folds={{fold1: {trained}}}"], name="publish")
    with pytest.raises(SepnetError, match="was trained on fold1"):
        ship(folder, typed(trained_on.weights), Bounds())
    with pytest.raises(
        SepnetError, match="fold3"
    ):  # which this corpus has not: the fold is not the run's own
        fold_score(trained, "fold3")


def test_the_shipped_tagger_opens_by_its_name_and_tells_its_accuracy() -> None:
    folder = artifact.SHIPPED / "ast-tagger-esc10"
    assert (folder / "model.safetensors").stat().st_size < 8e6
    assert set(json.loads((folder / "metrics.json").read_text())["folds"]) == {
        "fold1",
        "fold2",
        "fold3",
        "fold4",
    }
    assert "CC BY 3.0" in (folder / "README.md").read_text()
    assert "ast-tagger-esc10" not in artifact.shipped()
    assert Tagger(pretrained="ast-tagger-esc10").class_index("rooster") is not None
    with pytest.raises(SepnetError, match="ast-tagger-esc10 is a Tagger, which separates nothing"):
        artifact.load("ast-tagger-esc10")


@pytest.mark.skipif(not ESC10.is_dir(), reason="ESC-10 is not at hand (SEPNET_ESC10)")
def test_the_shipped_tagger_knows_real_sounds() -> None:
    """Of one clip of each class that it has learnt from, at least nine; a random one knows one."""
    root, tagger = ESC10, Tagger(pretrained="ast-tagger-esc10").eval()
    right = 0
    for label in tagger.labels:
        samples, rate = soundfile.read(sorted((root / label).glob("1-*"))[0], dtype="float32")
        assert rate == tagger.sample_rate
        right += tagger.tag_clip(torch.from_numpy(samples)).label == label
    assert right >= 9
