"""The cache holds what the files hold, and knows when it no longer does."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, white_noise, write_corpus

from sepnet.data import cache as cache_module
from sepnet.data.cache import Cache, open_cache
from sepnet.data.indexing import index
from sepnet.data.manifest import Manifest
from sepnet.dsp.loudness import integrated_loudness
from sepnet.dsp.resample import resample
from sepnet.types import SepnetError


def integers(samples: int, seed: int = 0) -> np.ndarray:
    """All of int16, both ends included."""
    values = np.random.default_rng(seed).integers(-32768, 32768, samples)
    values[:4] = (-32768, 32767, -1, 0)
    return values.astype(np.int16)


@pytest.fixture
def two_speakers(tmp_path: Path) -> Manifest:
    return write_corpus(
        tmp_path / "corpus",
        {
            "train/a/1.wav": white_noise(1000),
            "train/a/2.wav": white_noise(77, 1),
            "train/b/1.wav": white_noise(500, 2),
        },
    )


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each build of a cache."""
    seen: list[int] = []
    build = cache_module._build

    def counted(manifest: Manifest, folder: Path, sample_rate: int) -> None:
        seen.append(sample_rate)
        build(manifest, folder, sample_rate)

    monkeypatch.setattr(cache_module, "_build", counted)
    return seen


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_sixteen_bits_are_held_exactly(tmp_path: Path, suffix: str) -> None:
    files = {f"train/{who}/1.{suffix}": integers(4000 + who, who) for who in range(3)}
    manifest = write_corpus(tmp_path / "corpus", files, subtype="PCM_16")
    cache = open_cache(manifest, tmp_path / "cache", sample_rate=RATE)
    assert [u.path for u in cache.utterances] == list(files)
    assert cache.lengths.tolist() == [4000, 4001, 4002]
    for number, values in enumerate(files.values()):
        expected = values.astype(np.float32) / 32768
        held = cache.read(number)
        assert held.dtype == np.float32
        np.testing.assert_array_equal(held, expected)
        np.testing.assert_array_equal(cache.read(number, 5, 100), expected[5:105])
        np.testing.assert_array_equal(cache.read(number, 5), expected[5:])
        assert cache.loudness_lufs[number] == pytest.approx(integrated_loudness(expected, RATE), abs=1e-4)


@pytest.mark.parametrize("peak", [1.0, 1.5, -1.5, 7.0])
def test_samples_beyond_full_scale_are_kept(tmp_path: Path, peak: float) -> None:
    loud = white_noise(1000)
    loud[10] = peak
    cache = open_cache(
        write_corpus(tmp_path / "corpus", {"train/a/1.wav": loud}), tmp_path / "cache", sample_rate=RATE
    )
    step = max(abs(peak), 1.0) / 32767
    np.testing.assert_allclose(cache.read(0), loud, atol=0.51 * step)
    assert cache.read(0)[10] == pytest.approx(peak, rel=1e-6)


def test_reading_past_an_utterance_is_refused(two_speakers: Manifest, tmp_path: Path) -> None:
    cache = open_cache(two_speakers, tmp_path / "cache", sample_rate=RATE)
    assert len(cache.read(1, 70, 7)) == 7
    for start, n_samples in ((70, 8), (78, None), (-1, 5), (0, -1)):
        with pytest.raises(SepnetError, match=r"train/a/2.wav has 77 samples"):
            cache.read(1, start, n_samples)


def test_another_rate_is_refused_and_resampled_only_when_asked(tmp_path: Path) -> None:
    signal = white_noise(1601)
    manifest = write_corpus(
        tmp_path / "corpus", {"train/a/1.wav": signal, "train/b/1.wav": signal}, sample_rate=16000
    )
    folder = tmp_path / "cache"
    message = (
        r"2 of 2 files under .* are not at 8000 Hz \(the first is train/a/1.wav, at 16000 Hz\).*data.resample"
    )
    with pytest.raises(SepnetError, match=message):
        open_cache(manifest, folder, sample_rate=8000)
    cache = open_cache(manifest, folder, sample_rate=8000, resampled=True)
    np.testing.assert_allclose(cache.read(1), resample(signal, 16000, 8000), atol=0.51 / 32768)
    with pytest.raises(SepnetError, match=message):  # also where the cache lies there already
        open_cache(manifest, folder, sample_rate=8000)


def test_several_channels_are_refused(tmp_path: Path) -> None:
    manifest = write_corpus(
        tmp_path / "corpus", {"train/a/1.wav": np.stack([white_noise(100), white_noise(100)])}
    )
    with pytest.raises(SepnetError, match=r"1.wav has 2 channels.*mono"):
        open_cache(manifest, tmp_path / "cache", sample_rate=RATE)


def test_a_disk_that_is_too_small_is_told_before_work_begins(
    two_speakers: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(two_speakers, utterances=tuple(replace(u, seconds=1e9) for u in two_speakers))
    monkeypatch.setattr(cache_module, "_decode", None)
    with pytest.raises(SepnetError, match=r"needs 48000000 MB, but .* MB free"):
        open_cache(long, tmp_path / "cache", sample_rate=RATE)


def test_pickles_are_small_and_open_the_same_file(two_speakers: Manifest, tmp_path: Path) -> None:
    cache = open_cache(two_speakers, tmp_path / "cache", sample_rate=RATE)
    pickled = pickle.dumps(cache)
    assert len(pickled) < 1000
    again: Cache = pickle.loads(pickled)
    assert again.utterances == cache.utterances
    for number in range(3):
        np.testing.assert_array_equal(again.read(number), cache.read(number))


def test_a_cache_that_fits_is_not_built_again(
    two_speakers: Manifest, tmp_path: Path, builds: list[int]
) -> None:
    for _ in range(3):
        open_cache(two_speakers, tmp_path / "cache", sample_rate=RATE)
    assert builds == [RATE]


def test_a_changed_file_rebuilds_it(two_speakers: Manifest, tmp_path: Path, builds: list[int]) -> None:
    folder = tmp_path / "cache"
    before = open_cache(two_speakers, folder, sample_rate=RATE)
    old = before.read(2).copy()
    soundfile.write(two_speakers.root / "train/b/1.wav", white_noise(600, 9), RATE, subtype="FLOAT")
    after = open_cache(index(two_speakers.root, progress=False)[0], folder, sample_rate=RATE)
    assert builds == [RATE, RATE]
    np.testing.assert_allclose(after.read(2), white_noise(600, 9), atol=1e-4)
    # A process that still has the old one mapped reads on in it.
    np.testing.assert_array_equal(before.read(2), old)


@pytest.mark.parametrize("damage", ["no stamp", "half a stamp", "stamp of another version"])
def test_a_build_that_was_interrupted_begins_anew(
    two_speakers: Manifest, tmp_path: Path, builds: list[int], damage: str
) -> None:
    folder = tmp_path / "cache"
    open_cache(two_speakers, folder, sample_rate=RATE)
    stamp, samples = folder / "stamp.json", folder / "samples.int16"
    samples.write_bytes(samples.read_bytes()[:100])
    if damage == "no stamp":
        stamp.unlink()
    elif damage == "half a stamp":
        stamp.write_text(stamp.read_text()[:20])
    else:
        stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "version": 0}))
    cache = open_cache(two_speakers, folder, sample_rate=RATE)
    assert len(builds) == 2
    np.testing.assert_allclose(cache.read(2), white_noise(500, 2), atol=1e-4)


def test_a_file_that_breaks_the_build_leaves_no_stamp(
    two_speakers: Manifest, tmp_path: Path, builds: list[int]
) -> None:
    folder = tmp_path / "cache"
    path = two_speakers.root / "train/b/1.wav"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    with pytest.raises(SepnetError, match="cut off"):
        open_cache(two_speakers, folder, sample_rate=RATE)
    assert list(folder.iterdir()) == []
    path.write_bytes(whole)
    assert len(open_cache(two_speakers, folder, sample_rate=RATE)) == 3
    assert len(builds) == 2


def test_a_rebuild_that_was_interrupted_spoils_the_old_cache_too(
    two_speakers: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    open_cache(two_speakers, folder, sample_rate=RATE)
    fewer = replace(two_speakers, utterances=two_speakers.utterances[1:])

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", killed)  # after the samples, before the index
    with pytest.raises(KeyboardInterrupt):
        open_cache(fewer, folder, sample_rate=RATE)
    monkeypatch.undo()
    cache = open_cache(two_speakers, folder, sample_rate=RATE)
    np.testing.assert_allclose(cache.read(0), white_noise(1000), atol=1e-4)


def test_silence_has_no_loudness(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", {"train/a/1.wav": np.zeros(9000, np.float32)})
    cache = open_cache(manifest, tmp_path / "cache", sample_rate=RATE)
    assert cache.loudness_lufs.tolist() == [-math.inf]
    assert not cache.read(0).any()
