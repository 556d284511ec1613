"""A training mixture is a pure function of (seed, epoch, index), whoever makes it and whenever."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RATE, white_noise, write_corpus
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from sepnet import artifact
from sepnet.data.cache import open_cache
from sepnet.data.corpus import Corpus
from sepnet.data.dataset import Collate, EpochSampler, MixtureData, TrainingMixtures
from sepnet.data.librimix import DrawnList
from sepnet.data.mixer import Example, Mixer
from sepnet.data.mixing import Mixing
from sepnet.types import Batch, SepnetError

EPOCH = 24
RECIPE = Mixing(
    n_sources=(1, 2), seconds=0.2, speeds=(0.9, 1.0, 1.1), overlap=(0.5, 1.0), noise_snr_db=(0.0, 10.0)
)


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> TrainingMixtures:
    folder = tmp_path_factory.mktemp("mixtures")
    files = {
        f"train/{who}/{k}.wav": white_noise(4000 + 10 * k, 9 * k + ord(who))
        for who in "abc"
        for k in range(2)
    }
    voices = open_cache(write_corpus(folder / "voices", files), folder / "cache", sample_rate=RATE)
    hum = write_corpus(folder / "noise", {"hum/0.wav": white_noise(5000)})
    return TrainingMixtures(Mixer(voices, RECIPE, open_cache(hum, folder / "hum", sample_rate=RATE)), seed=3)


def loader(
    mixtures: TrainingMixtures,
    *,
    batch_size: int = 4,
    n_workers: int = 0,
    context: str | None = None,
    **sampler: int,
) -> DataLoader[Example]:
    return DataLoader(
        mixtures,
        batch_size=batch_size,
        sampler=EpochSampler(EPOCH, **sampler),
        num_workers=n_workers,
        collate_fn=Collate(RATE),
        drop_last=True,
        multiprocessing_context=context if n_workers else None,
    )


def assert_same(batches: Iterator[Batch] | list[Batch], others: Iterator[Batch] | list[Batch]) -> None:
    """Bit by bit, in the same order."""
    for one, other in zip(batches, others, strict=True):
        assert torch.equal(one.mixture, other.mixture)
        assert torch.equal(one.sources, other.sources)
        assert one.ids == other.ids


@pytest.fixture(scope="module")
def epoch(mixtures: TrainingMixtures) -> list[Batch]:
    """Epoch 0, made by the process itself."""
    return list(loader(mixtures))


def test_all_mixtures_of_an_epoch_differ(epoch: list[Batch]) -> None:
    every = torch.cat([batch.mixture for batch in epoch])
    assert every.shape == (EPOCH, 1, 1600)
    assert len(every.unique(dim=0)) == EPOCH


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("n_workers", [1, 4])
def test_workers_change_nothing(mixtures: TrainingMixtures, epoch: list[Batch], n_workers: int) -> None:
    assert_same(loader(mixtures, n_workers=n_workers, context="fork"), epoch)


def test_mixtures_travel_in_a_small_pickle(mixtures: TrainingMixtures, epoch: list[Batch]) -> None:
    pickled = pickle.dumps(mixtures)  # what a worker that is spawned gets
    assert len(pickled) < 10_000
    assert_same(loader(pickle.loads(pickled)), epoch)


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_ranks_share_out_the_very_steps_of_one(
    mixtures: TrainingMixtures, epoch: list[Batch], n_ranks: int
) -> None:
    parts = [loader(mixtures, batch_size=4 // n_ranks, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    for whole, *shares in zip(epoch, *parts, strict=True):
        together = torch.cat([share.mixture for share in shares])
        assert torch.equal(together.flatten(1).unique(dim=0), whole.mixture.flatten(1).unique(dim=0))
        assert sorted(name for share in shares for name in share.ids) == sorted(whole.ids)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("done", [1, 5])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_resumed_epoch_goes_on_where_it_stopped(
    mixtures: TrainingMixtures, epoch: list[Batch], done: int, n_workers: int
) -> None:
    rest = loader(mixtures, n_workers=n_workers, context="fork", skip=done * 4)
    assert_same(list(rest), epoch[done:])
    assert len(rest) == len(epoch)  # what Lightning counts against


def test_other_seeds_epochs_and_indices_are_other_mixtures(mixtures: TrainingMixtures) -> None:
    reseeded = TrainingMixtures(mixtures.mixer, seed=4)
    assert np.array_equal(mixtures[1, 2].mixture, mixtures[1, 2].mixture)
    examples = [
        mixtures[1, 2],
        mixtures[2, 1],
        mixtures[1, 3],
        mixtures[0, 2],
        reseeded[1, 2],
        reseeded[1, 3],
    ]
    assert len({example.mixture.tobytes() for example in examples}) == len(examples)


def test_an_epoch_is_set_as_a_trainer_sets_it(mixtures: TrainingMixtures) -> None:
    sampler = EpochSampler(10, rank=1, n_ranks=2, epoch=3, skip=2)
    assert list(sampler) == [(3, 5), (3, 7), (3, 9)]
    sampler.set_epoch(3)  # a trainer says so at the start of the resumed epoch, too
    assert list(sampler) == [(3, 5), (3, 7), (3, 9)]
    sampler.set_epoch(4)
    assert list(sampler) == [(4, index) for index in (1, 3, 5, 7, 9)]
    assert len(sampler) == 5
    assert list(EpochSampler(3, n_ranks=2)) == [(0, 0)]  # what does not fill a round is left out
    both = [key for rank in range(3) for key in EpochSampler(10, rank=rank, n_ranks=3)]
    assert sorted(both) == [(0, index) for index in range(9)]


def test_collate_fills_up_with_silence() -> None:
    def example(n_sources: int, time: int) -> Example:
        sources = np.stack([white_noise(time, k) for k in range(n_sources)])
        return Example(sources.sum(axis=0, keepdims=True), sources, f"{n_sources} of {time}")

    examples = [example(2, 50), example(1, 70), example(3, 10)]
    batch = Collate(RATE)(examples)
    assert batch.mixture.shape == (3, 1, 70)
    assert batch.sources.shape == (3, 3, 70)
    assert batch.ids == ("2 of 50", "1 of 70", "3 of 10")
    for item, e in enumerate(examples):
        n_sources, time = e.sources.shape
        np.testing.assert_array_equal(batch.sources[item, :n_sources, :time], e.sources)
        np.testing.assert_array_equal(batch.mixture[item, :, :time], e.mixture)
        assert not batch.sources[item, n_sources:].any()
        assert not batch.mixture[item, :, time:].any()
        assert not batch.sources[item, :, time:].any()
    assert batch.sample_rate == RATE
    assert len(batch) == 3
    assert batch.seconds == pytest.approx(3 * 70 / RATE)


# End to end


@pytest.fixture
def data(tmp_path: Path) -> MixtureData:
    root = tmp_path / "corpus"
    splits = {"train": "abc", "dev": "de", "test": "fg"}
    files = {
        f"{split}/{who}/{who}{k}.wav": white_noise(5000 + 100 * k, ord(who) + 50 * k)
        for split, people in splits.items()
        for who in people
        for k in range(3)
    }
    write_corpus(root, files, subtype="PCM_16")
    return MixtureData(
        corpus=Corpus(root=root, index_dir=tmp_path / "index", progress=False),
        mixing=Mixing(seconds=0.5),
        valid=DrawnList(split="dev", n_mixtures=4),
        test=DrawnList(split="test", n_mixtures=3),
        sample_rate=RATE,
        epoch_size=EPOCH,
        cache_dir=tmp_path / "cache",
    )


def test_a_corpus_serves_training_validation_and_test(data: MixtureData) -> None:
    for batch in loader(data.train()):
        assert batch.mixture.shape == (4, 1, 4000)
        assert batch.sources.shape == (4, 2, 4000)
        torch.testing.assert_close(batch.sources.sum(dim=1, keepdim=True), batch.mixture, atol=1e-6, rtol=0)
        assert all("train/" in name and "dev/" not in name for name in batch.ids)
    for fixed, count, people in ((data.valid(), 4, "de"), (data.test(), 3, "fg")):
        assert len(fixed) == count
        for number, mixture in enumerate(fixed):
            assert {part[0] for part in fixed.id(number).split("_")} == set(people)
            assert mixture.sample_rate == RATE
            assert mixture.n_sources == 2
            assert mixture.references is not None
            torch.testing.assert_close(mixture.references.sum(dim=0), mixture.audio[0], atol=1e-6, rtol=0)


def test_decoded_audio_may_lie_in_the_home_folder(
    data: MixtureData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    MixtureData(**{**settings(data), "cache_dir": "~/cache"}).train()
    assert any((tmp_path / "home" / "cache").iterdir())
    assert not (tmp_path / "~").exists()


def test_the_same_settings_make_the_same_data_anywhere(data: MixtureData, tmp_path: Path) -> None:
    again = MixtureData(**{**settings(data), "cache_dir": tmp_path / "elsewhere"})
    assert again.fingerprint == data.fingerprint
    assert_same(list(loader(again.train())), list(loader(data.train())))


def settings(data: MixtureData) -> dict[str, object]:
    return {
        "corpus": data.corpus, "mixing": data.mixing, "valid": data.valid_list, "test": data.test_list,
        "sample_rate": data.sample_rate, "epoch_size": data.epoch_size, "seed": data.seed,
        "noise": data.noise, "cache_dir": data.cache_dir,
    }  # fmt: skip


def test_the_fingerprint_changes_with_whatever_changes_the_mixtures(
    data: MixtureData, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "hum", {"hum/0.wav": white_noise(6000)})
    others: list[dict[str, object]] = [
        {"seed": 1},
        {"epoch_size": EPOCH + 1},
        {"mixing": replace(data.mixing, seconds=0.4)},
        {"mixing": replace(data.mixing, loudness_lufs=(-33.0, -26.0))},
        {"noise": Corpus(root=tmp_path / "hum", index_dir=tmp_path / "index of hum", progress=False)},
        {"train_split": "dev"},
    ]
    prints = {MixtureData(**{**settings(data), **other}).fingerprint for other in others}
    assert len(prints | {data.fingerprint}) == len(others) + 1
    more_dev = {**settings(data), "valid": DrawnList(split="dev", n_mixtures=9)}
    assert MixtureData(**more_dev).fingerprint == data.fingerprint


def test_a_new_file_is_noticed(data: MixtureData) -> None:
    before, train = data.fingerprint, list(islice(loader(data.train()), 3))
    write_corpus(data.corpus.root, {"train/a/new.wav": white_noise(5000)})
    assert data.fingerprint != before
    assert any(
        not torch.equal(a.mixture, b.mixture) for a, b in zip(train, loader(data.train()), strict=False)
    )


def test_noise_is_mixed_in(data: MixtureData, tmp_path: Path) -> None:
    write_corpus(tmp_path / "hum", {"hum/0.wav": white_noise(6000)})
    data.noise = Corpus(root=tmp_path / "hum", index_dir=tmp_path / "index of hum", progress=False)
    data.mixing = replace(data.mixing, noise_snr_db=(10.0, 10.0))
    for batch in loader(data.train()):
        noise = batch.mixture[:, 0] - batch.sources.sum(dim=1)
        ratio = batch.sources.sum(dim=1).square().mean(dim=1) / noise.square().mean(dim=1)
        torch.testing.assert_close(10 * ratio.log10(), torch.full((4,), 10.0), atol=0.05, rtol=0)


def test_another_rate_is_refused_unless_resampled(data: MixtureData) -> None:
    data.sample_rate = 4000
    with pytest.raises(SepnetError, match=r"9 of 9 files .* are not at 4000 Hz .*data.resample=true"):
        data.train()
    data.resample = True
    assert data.train()[0, 0].mixture.shape == (1, 2000)


def test_the_yaml_is_the_constructor_call(data: MixtureData, tmp_path: Path) -> None:
    node = OmegaConf.load(artifact.config_folder() / "data" / "librimix.yaml")
    node.merge_with(
        {
            "corpus": {"root": str(data.corpus.root), "layout": "speakers"},
            "mixing": {"seconds": 0.5},
            "valid": {"n_mixtures": 4},
            "epoch_size": EPOCH,
            "cache_dir": str(tmp_path / "yaml"),
            "test": {"csv": "unused"},
        }
    )
    OmegaConf.update(node, "corpus.index_dir", str(tmp_path / "index of yaml"), force_add=True)
    built = artifact.build(node)
    assert isinstance(built, MixtureData)
    assert built.mixing == data.mixing
    assert_same(list(loader(built.train())), list(loader(data.train())))
