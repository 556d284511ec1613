"""One voice in noise: lists with noise, oracles that leave it out, a model from training to separation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import white_noise
from training_fixtures import RATE, make_corpus, only_run, run, voice

import sepnet
from sepnet import artifact
from sepnet.artifact import build
from sepnet.data import audio
from sepnet.data.corpus import Corpus
from sepnet.data.librimix import DrawnList, LibriMixList
from sepnet.data.mixture_list import read_list, write_list
from sepnet.inference.pipeline import Pipeline
from sepnet.metrics import si_sdr
from sepnet.types import Mixture, SepnetError


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = make_corpus(tmp_path_factory.mktemp("enhance") / "voices")
    return Corpus(root=root, index_dir=root.parent / "index")


def make_noise(root: Path, rate: int = 2 * RATE) -> Path:
    """Three recordings of noise at another rate, two of them shorter than an utterance."""
    for number, seconds in enumerate((0.9, 1.0, 3.0)):
        folder = root / ("train", "dev", "test")[number] / f"kind{number}"
        folder.mkdir(parents=True)
        for take in range(2):
            noise = white_noise(round(seconds * rate), seed=10 * number + take, rms=0.1 * (number + 1))
            soundfile.write(folder / f"{number}{take}.wav", noise, rate, subtype="FLOAT")
    return root


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = make_noise(tmp_path_factory.mktemp("noise") / "noise")
    return Corpus(root=root, index_dir=root.parent / "index")


SPEECH = Path(__file__).parents[2] / "shared" / "audio" / "speech8k" / "dev"


def drawn(noises: Corpus, **changed: Any) -> DrawnList:
    settings = {"n_mixtures": 12, "n_sources": 1, "noise": noises, "noise_snr_db": (-5.0, 15.0)} | changed
    return DrawnList(split="test", **settings)


def ratio_db(mixture: Mixture) -> float:
    assert mixture.references is not None
    signal = mixture.references.sum(dim=0)
    noise = mixture.audio[0] - signal
    return float(10 * torch.log10(signal.square().mean() / noise.square().mean()))


@pytest.mark.parametrize("n_sources", [1, 2])
def test_the_noise_of_a_drawn_list_lies_at_the_drawn_ratio(
    voices: Corpus, noises: Corpus, n_sources: int
) -> None:
    fixed = drawn(noises, n_sources=n_sources, noise_snr_db=(3.0, 3.0)).fixed_set(voices.manifest(), RATE)
    assert [ratio_db(mixture) for mixture in fixed] == pytest.approx([3.0] * 12, abs=0.05)
    varied = [ratio_db(mixture) for mixture in drawn(noises).fixed_set(voices.manifest(), RATE)]
    assert min(varied) > -5.1
    assert max(varied) < 15.1
    assert np.std(varied) > 2


def test_each_recording_of_noise_is_used_as_often_as_any_other(voices: Corpus, noises: Corpus) -> None:
    rows = drawn(noises).mixtures(voices.manifest())
    assert set(Counter(row.noise.path for row in rows if row.noise).values()) == {2}
    assert rows == drawn(noises).mixtures(voices.manifest())
    assert rows != drawn(noises, seed=1).mixtures(voices.manifest())


def test_a_corpus_may_be_limited_to_splits(voices: Corpus, noises: Corpus) -> None:
    limited = Corpus(root=noises.root, index_dir=noises.index_dir, splits=["dev"])
    assert limited.manifest().splits == ("dev",)
    rows = drawn(limited).mixtures(voices.manifest())
    assert {row.noise.path.split("/")[0] for row in rows if row.noise} == {"dev"}
    with pytest.raises(SepnetError, match="has no split fold9"):
        Corpus(root=noises.root, index_dir=noises.index_dir, splits=["fold9"]).manifest()


def test_a_published_list_takes_drawn_noise(voices: Corpus, noises: Corpus, tmp_path: Path) -> None:
    manifest = voices.manifest()
    clean = DrawnList(split="test", n_mixtures=4, csv=tmp_path / "list.csv").fixed_set(manifest, RATE)
    published = LibriMixList(csv=tmp_path / "list.csv", noise=noises, noise_snr_db=(5.0, 5.0))
    noisy = published.fixed_set(manifest, RATE)
    assert [ratio_db(mixture) for mixture in noisy] == pytest.approx([5.0] * 4, abs=0.05)
    for one, other in zip(noisy, clean, strict=True):
        assert one.references is not None
        assert other.references is not None
        assert torch.equal(one.references, other.references)
    varied = LibriMixList(csv=tmp_path / "list.csv", noise=noises, noise_snr_db=(-5.0, 15.0))
    first = replace(varied, limit=2).fixed_set(manifest, RATE)
    assert torch.equal(first[1].audio, varied.fixed_set(manifest, RATE)[1].audio)  # whatever the limit
    assert noisy.name is None  # no one else's mixtures
    assert LibriMixList(csv=tmp_path / "list.csv").fixed_set(manifest, RATE).name is not None
    with pytest.raises(SepnetError, match="with_noise=true takes the noise of the list"):
        LibriMixList(csv=tmp_path / "list.csv", noise=noises, with_noise=True, noise_root=tmp_path)


@pytest.mark.parametrize("published", [True, False])
def test_a_limit_takes_the_beginning_of_a_list_and_draws_no_other_noise(
    voices: Corpus, noises: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    files_read: list[Path] = []
    read = audio.read

    def watch(path: Path) -> tuple[np.ndarray, int]:
        files_read.append(path)
        return read(path)

    monkeypatch.setattr(audio, "read", watch)
    manifest = voices.manifest()
    whole: DrawnList | LibriMixList = drawn(noises, n_sources=2)
    if published:
        write_list(tmp_path / "list.csv", drawn(noises, n_sources=2, noise=None).mixtures(manifest))
        whole = LibriMixList(csv=tmp_path / "list.csv", noise=noises, noise_snr_db=(-5.0, 15.0))
    mixtures = whole.fixed_set(manifest, RATE).mixtures
    for limit in (1, 5, 12, 20):
        files_read.clear()
        assert replace(whole, limit=limit).fixed_set(manifest, RATE).mixtures == mixtures[:limit]
        n_drawn = 0 if published else 12 * 2  # whose loudness the draw of a list measures
        assert len(files_read) == n_drawn + min(limit, 12) * 3


def test_a_list_is_kept_as_a_whole_whatever_the_limit(voices: Corpus, noises: Corpus, tmp_path: Path) -> None:
    kept = drawn(noises, csv=tmp_path / "list.csv", limit=5)
    whole = drawn(noises).mixtures(voices.manifest())
    for _ in ("drawn", "read"):
        assert kept.mixtures(voices.manifest()) == whole[:5]
        assert read_list(tmp_path / "list.csv") == whole


def test_a_kept_list_holds_its_noise(voices: Corpus, noises: Corpus, tmp_path: Path) -> None:
    first = drawn(noises, csv=tmp_path / "list.csv").fixed_set(voices.manifest(), RATE)
    second = drawn(noises, csv=tmp_path / "list.csv", seed=5).fixed_set(voices.manifest(), RATE)
    assert first.fingerprint == second.fingerprint
    torch.testing.assert_close(first[3].audio, second[3].audio)


def test_a_kept_list_of_other_noise_is_refused(voices: Corpus, noises: Corpus, tmp_path: Path) -> None:
    manifest, csv = voices.manifest(), tmp_path / "list.csv"
    noisy, clean = drawn(noises, csv=csv), drawn(noises, csv=csv, noise=None)
    clean.mixtures(manifest)
    asked = (noisy, drawn(noises, csv=csv, noise=None, with_noise=True, noise_root=noises.root))
    for each in asked:
        with pytest.raises(
            SepnetError, match=r"none of them with noise, but .* 12 of them with noise are .* anew"
        ):
            each.mixtures(manifest)
    csv.unlink()
    first = noisy.mixtures(manifest)
    with pytest.raises(
        SepnetError, match=r"12 of them with noise, but .* none of them with noise are .* anew"
    ):
        clean.mixtures(manifest)
    assert asked[1].mixtures(manifest) == first
    limited = Corpus(root=noises.root, index_dir=noises.index_dir, splits=["dev", "train"])
    with pytest.raises(
        SepnetError, match=r"holds 2 noises that are not among the 4 of .*test/kind2/20\.wav, .* delete it"
    ):
        drawn(limited, csv=csv).mixtures(manifest)


def test_silent_noise_is_refused(voices: Corpus, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "noise" / "test" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "noise" / "test" / name / "x.wav", np.zeros(RATE), RATE)
    silent = Corpus(root=tmp_path / "noise", index_dir=tmp_path / "index")
    with pytest.raises(SepnetError, match=r"x\.wav is silent: leave it out"):
        drawn(silent).mixtures(voices.manifest())


@pytest.mark.parametrize("name", ["ibm", "irm", "wiener"])
def test_oracles_leave_the_noise_out(name: str, voices: Corpus, noises: Corpus) -> None:
    """They are the ceiling of enhancement, too: through the pipeline, as in an evaluation."""
    mixture = drawn(noises, noise_snr_db=(0.0, 0.0)).fixed_set(voices.manifest(), RATE)[0]
    assert mixture.references is not None
    estimate = Pipeline(artifact.load(name)).separate(mixture).sources
    assert estimate.shape == mixture.references.shape
    assert float(si_sdr(estimate[0], mixture.references[0])) > 6


def test_a_model_whose_only_source_sums_to_the_mixture_is_refused() -> None:
    node = artifact.describe("enhance")
    with pytest.raises(SepnetError, match="n_sources=1 with consistent=true would return the mixture"):
        build({**node, "consistent": True, "covers_mixture": True}, key="model")


def test_from_training_to_the_separated_file(voices: Corpus, tmp_path: Path) -> None:
    noise = make_noise(tmp_path / "noise")
    data = [
        "data=noisy_folder", f"data.corpus.root={voices.root}", f"data.noise.root={noise}",
        "data.noise.split_fractions=null", f"data.cache_dir={tmp_path}/cache",
        "data.valid.n_mixtures=2", "data.test.n_mixtures=3",
    ]  # fmt: skip
    small = [
        "model=enhance", "model.network.n_channels=8", "model.network.n_hidden=8", "model.network.n_blocks=2",
        "model.network.n_repeats=1", "data.epoch_size=20", "data.mixing.seconds=0.25", "loader.batch_size=4",
        "trainer=debug", "logger=csv",
    ]  # fmt: skip
    trained = run("train", [*small, *data], tmp_path)
    assert trained.wait() == 0, trained.told
    assert "SI-SDRi" in trained.out
    scored = run(
        "eval", ["separators=[identity,run,irm]", *data, "n_processes=0", "measures=[si_sdr]"], tmp_path
    )
    assert scored.wait() == 0, scored.told
    rng = np.random.default_rng(3)
    soundfile.write(tmp_path / "noisy.wav", voice(1.0, rng) + 0.05 * rng.standard_normal(RATE), RATE)
    done = run("separate", ["noisy.wav", f"model={only_run(tmp_path)}"], tmp_path)
    assert done.wait() == 0, done.told
    assert "the sources leave out" in done.out
    assert [path.name for path in tmp_path.glob("noisy_*.wav")] == ["noisy_s1.wav"]


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"the real speech is not at {SPEECH}")
@pytest.mark.parametrize(("snr_db", "least"), [(0.0, 0.85), (10.0, 0.65), (25.0, 0.2)])
def test_the_shipped_weights_remove_faint_noise_too_of_a_kind_they_never_heard(
    snr_db: float, least: float
) -> None:
    # The share of the noise that is in what was removed: the recordings have faint noise of their own, so
    # that SI-SDR does not tell.
    for number, path in enumerate(sorted(SPEECH.rglob("*.flac"))[::80]):
        speech = torch.from_numpy(audio.read(path)[0][:, : 4 * RATE])
        noise = torch.from_numpy(white_noise(speech.shape[-1], seed=number))
        noise *= speech.std() / noise.std() * 10 ** (-snr_db / 20)
        removed = speech + noise - sepnet.separate(speech + noise, RATE, model="enhance-8k").sources
        assert (removed * noise).sum() / noise.square().sum() > least
