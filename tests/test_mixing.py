"""Laws of mixing: levels, speakers, lengths, overlap, speed, noise, peaks, rooms, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from conftest import RATE, white_noise, write_corpus

from sepnet.data.cache import Cache, open_cache
from sepnet.data.mixer import Example, Mixer
from sepnet.data.mixing import Mixing
from sepnet.data.responses import ResponseBank
from sepnet.dsp.loudness import integrated_loudness
from sepnet.types import SepnetError

QUIET = (-40.0, -40.0)  # so that no peak has to be lowered
LENGTHS = {"a": (9001, 12000), "b": (10000, 11111), "c": (16000, 9500), "d": (12345, 14000)}


def plain_mixing(**settings: object) -> Mixing:
    """A recipe that changes no speed and pads nothing, where a test does not ask for it."""
    return Mixing(**{"speeds": (1.0,), "short_policy": "refuse"} | settings)  # type: ignore[arg-type]


def cache_of(folder: Path, files: dict[str, np.ndarray], **settings: object) -> Cache:
    manifest = write_corpus(folder / "corpus", files, **settings)
    return open_cache(manifest, folder / "cache", sample_rate=RATE)


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Four speakers with two utterances each: white noise, no sample of which is zero."""
    files = {}
    for who, lengths in LENGTHS.items():
        for number, samples in enumerate(lengths):
            noise = white_noise(samples, seed=len(files))
            files[f"train/{who}/{number}.wav"] = np.copysign(np.abs(noise) + 0.01, noise)
    return cache_of(tmp_path_factory.mktemp("voices"), files)


@pytest.fixture(scope="module")
def hum(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Noise: one clip longer than any mixture, one shorter."""
    files = {"hum/0.wav": white_noise(40000, 100, 0.3), "hiss/0.wav": white_noise(3000, 101, 0.02)}
    return cache_of(tmp_path_factory.mktemp("noise"), files)


def draw(cache: Cache, mixing: Mixing, index: int = 0, noise: Cache | None = None) -> Example:
    return Mixer(cache, mixing, noise)(np.random.default_rng((0, 0, index)))


def draws(cache: Cache, mixing: Mixing, count: int, noise: Cache | None = None) -> list[Example]:
    mixer = Mixer(cache, mixing, noise)
    return [mixer(np.random.default_rng((0, 0, index))) for index in range(count)]


def support(source: np.ndarray) -> tuple[int, int]:
    """The first sample that is not zero, and the one behind the last."""
    there = np.flatnonzero(source)
    return int(there[0]), int(there[-1]) + 1


def speakers(example: Example) -> list[str]:
    return [path.split("/")[1] for path in example.id.split(".wav") if path]


def utterances(cache: Cache, example: Example) -> list[int]:
    numbers = {u.path: number for number, u in enumerate(cache.utterances)}
    return [numbers[f"{path.removeprefix('_')}.wav"] for path in example.id.split(".wav") if path]


def snr_db(signal: np.ndarray, noise: np.ndarray) -> float:
    return float(10 * np.log10(np.square(signal).mean() / np.square(noise).mean()))


# Levels


@pytest.mark.parametrize("lufs", [-33.0, -25.0])
def test_whole_utterances_have_the_drawn_loudness(voices: Cache, lufs: float) -> None:
    mixing = plain_mixing(mode="max", n_sources=(3,), loudness_lufs=(lufs, lufs), overlap=(0.5, 1.0))
    for example in draws(voices, mixing, 10):
        assert np.abs(example.mixture).max() < mixing.max_peak
        for source in example.sources:
            begin, end = support(source)
            assert integrated_loudness(source[begin:end], RATE) == pytest.approx(lufs, abs=0.01)


def test_loudness_is_uniform_and_drawn_for_each_source(voices: Cache) -> None:
    mixing = plain_mixing(mode="max", loudness_lufs=(-45.0, -35.0))
    levels = np.array(
        [
            [integrated_loudness(s[slice(*support(s))], RATE) for s in example.sources]
            for example in draws(voices, mixing, 150)
        ]
    )
    assert levels.min() > -45.01
    assert levels.max() < -34.99
    deciles = np.quantile(levels, np.linspace(0.1, 0.9, 9))
    np.testing.assert_allclose(deciles, np.linspace(-44, -36, 9), atol=0.9)
    assert abs(np.corrcoef(levels.T)[0, 1]) < 0.25


@pytest.mark.parametrize("with_noise", [False, True])
def test_a_peak_lowers_mixture_and_sources_together(voices: Cache, hum: Cache, with_noise: bool) -> None:
    loud = plain_mixing(seconds=1.0, loudness_lufs=(-8.0, -8.0), noise_snr_db=(3.0, 3.0))
    noise = hum if with_noise else None
    for index in range(5):
        limited, free = (
            draw(voices, loud, index, noise),
            draw(voices, replace(loud, max_peak=1e9), index, noise),
        )
        peak = max(np.abs(limited.mixture).max(), np.abs(limited.sources).max())
        assert peak == pytest.approx(0.9, rel=1e-6)
        gain = 0.9 / max(np.abs(free.mixture).max(), np.abs(free.sources).max())
        assert gain < 0.9
        np.testing.assert_allclose(limited.mixture, gain * free.mixture, atol=1e-6)
        np.testing.assert_allclose(limited.sources, gain * free.sources, atol=1e-6)
        residual = limited.mixture[0] - limited.sources.sum(axis=0)
        assert (np.abs(residual).max() > 0.05) == with_noise
        assert with_noise or np.abs(residual).max() < 1e-6


def test_below_the_peak_nothing_is_scaled(voices: Cache) -> None:
    for example in draws(voices, plain_mixing(seconds=1.0, loudness_lufs=(-30.0, -30.0)), 5):
        np.testing.assert_array_equal(example.mixture[0], example.sources.sum(axis=0))
        assert example.mixture.dtype == example.sources.dtype == np.float32


# Who and what


def test_speakers_are_always_different(tmp_path: Path) -> None:
    lopsided = {f"train/a/{k}.wav": white_noise(800, k) for k in range(8)}
    cache = cache_of(tmp_path, lopsided | {f"train/{who}/0.wav": white_noise(800, 9) for who in "bc"})
    seen = [tuple(speakers(e)) for e in draws(cache, plain_mixing(n_sources=(3,), seconds=0.1), 100)]
    assert all(set(three) == {"a", "b", "c"} for three in seen)
    assert len(set(seen)) == 6  # in every order
    first = [three[0] for three in seen]
    assert 60 <= first.count("a") <= 95  # the first is uniform over utterances: 8 of 10


def test_sources_are_stretches_of_their_utterances(voices: Cache) -> None:
    starts = []
    for example in draws(voices, plain_mixing(seconds=1.0, loudness_lufs=QUIET), 60):
        for utterance, source in zip(utterances(voices, example), example.sources, strict=True):
            whole = voices.read(utterance)
            level = 10 ** ((QUIET[0] - voices.loudness_lufs[utterance]) / 20)
            windows = np.lib.stride_tricks.sliding_window_view(whole, 8000)
            start = int(np.argmin(np.square(windows[:, :8] * level - source[:8]).sum(axis=1)))
            np.testing.assert_allclose(source, level * windows[start], rtol=1e-5)
            starts.append(start / (len(windows) - 1))
    np.testing.assert_allclose(np.quantile(starts, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.12)


def test_numbers_of_sources_are_drawn_from_the_list(voices: Cache) -> None:
    counts = [len(e.sources) for e in draws(voices, plain_mixing(n_sources=(1, 3), seconds=0.5), 100)]
    assert set(counts) == {1, 3}
    assert 30 <= counts.count(3) <= 70


def test_a_mixture_depends_on_its_generator_alone(voices: Cache, hum: Cache) -> None:
    mixing = plain_mixing(
        n_sources=(2, 3), seconds=0.7, speeds=(0.9, 1.0, 1.1), overlap=(0.2, 1.0), responses=TwoTaps()
    )
    mixer = Mixer(voices, mixing, hum)
    first = [mixer(np.random.default_rng(k)) for k in range(6)]
    for k in reversed(range(6)):  # in another order, by another mixer
        again = Mixer(voices, mixing, hum)(np.random.default_rng(k))
        np.testing.assert_array_equal(again.mixture, first[k].mixture)
        np.testing.assert_array_equal(again.sources, first[k].sources)
        assert again.id == first[k].id
    assert len({e.mixture.tobytes() for e in first}) == 6


def test_labelled_slots_hold_their_label(tmp_path: Path) -> None:
    hertz = {"vocals": 500.0, "drums": 1500.0, "bass": 100.0}
    stems = {
        f"train/track{t}/{label}.wav": 0.1 * np.sin(2 * np.pi * f / RATE * np.arange(8000)).astype(np.float32)
        for t in range(4)
        for label, f in hertz.items()
    }
    cache = cache_of(tmp_path, stems, layout="stems")
    slots = ("drums", "vocals")
    for example in draws(cache, plain_mixing(slots=slots, seconds=0.5), 10):
        for slot, source in zip(slots, example.sources, strict=True):
            assert np.argmax(np.abs(np.fft.rfft(source))) * 2 == pytest.approx(hertz[slot], abs=4)
    with pytest.raises(
        SepnetError, match=r"no usable utterance of 'flute', but of 'bass', 'drums', 'vocals'"
    ):
        Mixer(cache, plain_mixing(slots=("drums", "flute"), seconds=0.5))


def test_of_the_slots_as_many_sound_as_are_asked_for(tmp_path: Path) -> None:
    hertz = {"dog": 500.0, "rain": 1500.0, "bell": 100.0, "sea": 2500.0}
    clips = {
        f"train/track{t}/{label}.wav": 0.1 * np.sin(2 * np.pi * f / RATE * np.arange(8000)).astype(np.float32)
        for t in range(4)
        for label, f in hertz.items()
    }
    cache = cache_of(
        tmp_path, {**clips, "train/track0/vocals.wav": clips["train/track0/dog.wav"]}, layout="stems"
    )
    seen: set[tuple[int, ...]] = set()
    for example in draws(cache, plain_mixing(slots=tuple(hertz), n_active=(1, 2), seconds=0.5), 80):
        assert example.sources.shape == (4, RATE // 2)
        places = tuple(np.flatnonzero(np.abs(example.sources).max(axis=1)).tolist())
        seen.add(places)
        for place in places:
            loudest = np.argmax(np.abs(np.fft.rfft(example.sources[place]))) * 2
            assert loudest == pytest.approx(list(hertz.values())[place], abs=4)
        np.testing.assert_allclose(example.mixture[0], example.sources.sum(axis=0), atol=1e-6)
    assert len(seen) == 4 + 6  # each alone, and each pair
    for slots, active in ((None, [1]), (["dog"], [2]), (["dog"], [0]), (["dog"], [])):
        with pytest.raises(
            SepnetError, match=r"n_active is .* slots: give numbers from 1 to the number of slots"
        ):
            plain_mixing(slots=slots, n_active=active)


# Lengths


@pytest.mark.parametrize("n_sources", [1, 2, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("seconds", [0.5, 1.0001, 0.001])
def test_crops_fill_their_length_and_overlap_by_the_ratio(
    voices: Cache, seconds: float, overlap: float, n_sources: int
) -> None:
    mixing = plain_mixing(
        n_sources=(n_sources,),
        seconds=seconds,
        overlap=(overlap, overlap),
        loudness_lufs=QUIET,
        short_policy="pad",
    )
    time = round(seconds * RATE)
    for example in draws(voices, mixing, 3):
        assert example.mixture.shape == (1, time)
        assert example.sources.shape == (n_sources, time)
        spans = [support(source) for source in example.sources]
        longest = max(end - begin for begin, end in spans)
        assert longest == pytest.approx(time / (1 + (n_sources - 1) * (1 - overlap)), abs=1)
        assert spans[0][0] == 0
        assert spans[-1][1] >= time - n_sources
        for (begin, end), (later, _) in pairwise(spans):
            assert (end - later) / longest == pytest.approx(overlap, abs=2 / longest)
            assert end - begin >= longest - n_sources


@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_whole_utterances_overlap_by_the_ratio(voices: Cache, overlap: float) -> None:
    lengths = {f"train/{who}/{k}.wav": n for who, both in LENGTHS.items() for k, n in enumerate(both)}
    for mode in ("min", "max"):
        mixing = plain_mixing(mode=mode, n_sources=(3,), overlap=(overlap, overlap), loudness_lufs=QUIET)
        for example in draws(voices, mixing, 5):
            whole = [lengths[voices.utterances[u].path] for u in utterances(voices, example)]
            spans = [support(source) for source in example.sources]
            expected = [min(whole)] * 3 if mode == "min" else whole
            assert [end - begin for begin, end in spans] == expected
            assert spans[0][0] == 0
            assert example.mixture.shape[1] == max(end for _, end in spans)
            for (begin, _), (later, _) in pairwise(spans):
                assert (min(whole) - (later - begin)) / min(whole) == pytest.approx(overlap, abs=1e-3)


def test_the_overlap_is_drawn_from_its_interval(voices: Cache) -> None:
    mixing = plain_mixing(seconds=1.0, overlap=(0.2, 0.8), loudness_lufs=QUIET)
    ratios = []
    for example in draws(voices, mixing, 60):
        (_, end), (begin, _) = (support(source) for source in example.sources)
        ratios.append((end - begin) / end)
    assert min(ratios) == pytest.approx(0.2, abs=0.05)
    assert max(ratios) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("speed", [0.8, 0.95, 1.0, 1.05, 1.25, 1.037])
def test_speed_changes_pitch_and_length(tmp_path: Path, speed: float) -> None:
    hertz = 800.0
    sine = 0.1 * np.sin(2 * np.pi * hertz / RATE * np.arange(12000)).astype(np.float32)
    cache = cache_of(tmp_path, {f"train/{who}/0.wav": sine for who in "ab"})
    crop = plain_mixing(seconds=1.0, speeds=(speed,), loudness_lufs=QUIET)
    level = 10 ** ((QUIET[0] - cache.loudness_lufs[0]) / 20) * 0.1 / math.sqrt(2)
    for source in draw(cache, crop).sources:
        spectrum = np.abs(np.fft.rfft(source * np.hanning(8000), 80000))
        assert np.argmax(spectrum) / 10 == pytest.approx(hertz * speed, abs=0.11)
        assert np.sqrt(np.square(source[200:-200]).mean()) == pytest.approx(level, rel=0.01)
    whole = draw(cache, replace(crop, mode="max"))
    assert whole.sources.shape[1] == int(12000 / speed)


def test_speeds_are_drawn_for_each_source(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, {f"train/{who}/0.wav": white_noise(9000, 1) for who in "ab"})
    mixing = plain_mixing(mode="max", speeds=(0.9, 1.0, 1.2), loudness_lufs=QUIET)
    lengths = [tuple(support(s)[1] for s in e.sources) for e in draws(cache, mixing, 60)]
    assert {n for pair in lengths for n in pair} == {10000, 9000, 7500}
    assert len(set(lengths)) == 9


# Short utterances


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Of each speaker one utterance of 0.5 s and one of 1 s."""
    files = {f"train/{who}/{n}.wav": 0.01 + np.abs(white_noise(n, n)) for who in "ab" for n in (4000, 8000)}
    return cache_of(tmp_path_factory.mktemp("uneven"), files)


def test_short_utterances_are_refused(uneven: Cache) -> None:
    message = r"2 of 4 utterances are shorter than 1.00 s.*shortest has 0.50 s.*short_policy=pad or skip"
    with pytest.raises(SepnetError, match=message):
        Mixer(uneven, plain_mixing(seconds=1.0))
    Mixer(uneven, plain_mixing(seconds=0.5))  # exactly long enough
    with pytest.raises(SepnetError, match=r"2 of 4 utterances are shorter than 0.55 s"):
        Mixer(uneven, plain_mixing(seconds=0.5, speeds=(1.0, 1.1)))
    # Two halves that don't overlap need half as much; but if one source may be alone, it needs all.
    Mixer(uneven, plain_mixing(seconds=1.0, overlap=(0.0, 0.0)))
    with pytest.raises(SepnetError, match=r"shorter than 1.00 s"):
        Mixer(uneven, plain_mixing(seconds=1.0, overlap=(0.0, 0.0), n_sources=(1, 2)))


def test_short_utterances_are_skipped(uneven: Cache) -> None:
    for example in draws(uneven, plain_mixing(seconds=0.6, short_policy="skip"), 20):
        assert "4000" not in example.id
        assert (example.sources != 0).all()
    with pytest.raises(SepnetError, match=r"has 0 speakers with usable utterances, but mixtures of 2"):
        Mixer(uneven, plain_mixing(seconds=1.1, short_policy="skip"))


def test_an_utterance_is_drawn_as_often_as_any_other_or_by_its_duration(uneven: Cache) -> None:
    """Of a speaker's two utterances one is twice as long; a crop of its length holds all of the other."""
    for drawn_by, seconds, share in (
        ("utterance", 0.25, 1 / 2),
        ("duration", 0.25, 2 / 3),
        ("duration", 1.0, 1 / 2),
    ):
        mixing = plain_mixing(seconds=seconds, drawn_by=drawn_by, short_policy="pad")
        chosen = [u for example in draws(uneven, mixing, 400) for u in utterances(uneven, example)]
        long = np.mean(uneven.lengths[chosen] == 8000)
        assert long == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / len(chosen)))


def test_short_utterances_lie_whole_in_silence_at_any_place(uneven: Cache) -> None:
    begins = []
    for example in draws(uneven, plain_mixing(seconds=0.8, short_policy="pad", loudness_lufs=QUIET), 60):
        for utterance, source in zip(utterances(uneven, example), example.sources, strict=True):
            begin, end = support(source)
            if uneven.lengths[utterance] == 8000:
                assert end - begin == 6400
            else:
                assert end - begin == 4000
                gain = source[begin:end] / uneven.read(utterance)
                np.testing.assert_allclose(gain, gain[0], rtol=1e-5)
                begins.append(begin)
    assert min(begins) < 300
    assert max(begins) > 2100


@pytest.mark.parametrize("speed", [0.95, 1.0, 1.05])
def test_an_utterance_that_just_suffices_is_never_padded(tmp_path: Path, speed: float) -> None:
    mixing = plain_mixing(seconds=0.25, speeds=(speed,), loudness_lufs=QUIET)
    samples = mixing.longest_crop(RATE)
    cache = cache_of(tmp_path, {f"train/{who}/0.wav": 0.1 + np.abs(white_noise(samples)) for who in "ab"})
    assert (draw(cache, mixing).sources != 0).all()
    with pytest.raises(SepnetError, match="2 of 2 utterances are shorter"):
        Mixer(cache, replace(mixing, seconds=0.2502))


def test_a_crop_may_begin_at_the_first_sample_and_end_at_the_last(tmp_path: Path) -> None:
    ramp = np.linspace(0.1, 0.2, 802, dtype=np.float32)
    cache = cache_of(tmp_path, {f"train/{who}/0.wav": ramp for who in "ab"})
    ratios = ramp[:3] / ramp[799:]  # of the first sample to the last, for each start
    starts = {
        int(np.argmin(np.abs(ratios - source[0] / source[-1])))
        for example in draws(cache, plain_mixing(seconds=0.1), 20)
        for source in example.sources
    }
    assert starts == {0, 1, 2}


# Noise and rooms


@pytest.mark.parametrize("snr", [-5.0, 0.0, 7.0, 20.0])
def test_noise_lies_at_the_drawn_level(voices: Cache, hum: Cache, snr: float) -> None:
    mixing = plain_mixing(seconds=1.0, loudness_lufs=QUIET, noise_snr_db=(snr, snr))
    seen = set()
    for example in draws(voices, mixing, 8, hum):
        noise = example.mixture[0] - example.sources.sum(axis=0)
        assert snr_db(example.sources.sum(axis=0), noise) == pytest.approx(snr, abs=0.02)
        seen.add(bool(np.corrcoef(noise[:3000], noise[3000:6000])[0, 1] > 0.9))
    assert seen == {True, False}  # the short clip repeats, the long one doesn't


def test_noise_keeps_to_its_interval_and_leaves_the_sources_alone(voices: Cache, hum: Cache) -> None:
    mixing = plain_mixing(seconds=0.5, loudness_lufs=QUIET, noise_snr_db=(0.0, 20.0))
    levels = []
    for index in range(60):
        noisy, clean = draw(voices, mixing, index, hum), draw(voices, mixing, index)
        np.testing.assert_array_equal(noisy.sources, clean.sources)
        levels.append(snr_db(clean.mixture, noisy.mixture - clean.mixture))
    np.testing.assert_allclose(np.quantile(levels, [0.0, 0.5, 1.0]), [0, 10, 20], atol=3)
    assert min(levels) > -0.1
    assert max(levels) < 20.1


def test_silent_noise_adds_nothing(voices: Cache, tmp_path: Path) -> None:
    silence = cache_of(tmp_path, {"hum/0.wav": np.zeros(20000, np.float32)})
    mixing = plain_mixing(seconds=0.5)
    np.testing.assert_array_equal(draw(voices, mixing, 0, silence).mixture, draw(voices, mixing).mixture)


def test_noise_at_another_rate_is_refused(voices: Cache, tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", {"hum/0.wav": white_noise(100)}, sample_rate=16000)
    with pytest.raises(SepnetError, match=r"noise is at 16000 Hz and the sources at 8000 Hz"):
        Mixer(voices, plain_mixing(), open_cache(manifest, tmp_path / "cache", sample_rate=16000))


@dataclass(frozen=True)
class TwoTaps:
    """A stand-in for a room: random responses to two microphones."""

    taps: int = 40

    def draw_responses(self, rng: np.random.Generator, n_sources: int, sample_rate: int) -> np.ndarray:
        assert sample_rate == RATE
        return rng.standard_normal((n_sources, 2, self.taps))


class Recorded(TwoTaps):
    """One that gives out the same responses each time."""

    responses = np.random.default_rng(0).standard_normal((2, 2, 40))

    def draw_responses(self, rng: np.random.Generator, n_sources: int, sample_rate: int) -> np.ndarray:
        return self.responses


def test_a_room_convolves_each_source_for_each_channel(voices: Cache) -> None:
    mixing = plain_mixing(seconds=0.5, loudness_lufs=QUIET)
    dry, wet = draw(voices, mixing), draw(voices, replace(mixing, responses=Recorded()))
    for channel in range(2):
        images = [
            np.convolve(source.astype(np.float64), Recorded.responses[k, channel])[:4000]
            for k, source in enumerate(dry.sources)
        ]
        np.testing.assert_allclose(wet.mixture[channel], np.sum(images, axis=0), atol=1e-6)
        if channel == 0:
            np.testing.assert_allclose(wet.sources, images, atol=1e-6)
    assert wet.mixture.dtype == wet.sources.dtype == np.float32


def test_noise_has_the_same_power_at_each_microphone(voices: Cache, hum: Cache) -> None:
    mixing = plain_mixing(seconds=0.5, loudness_lufs=QUIET, responses=TwoTaps(), noise_snr_db=(5.0, 5.0))
    for index in range(4):
        noisy, clean = draw(voices, mixing, index, hum), draw(voices, mixing, index)
        noise = noisy.mixture - clean.mixture
        assert snr_db(clean.mixture[0], noise[0]) == pytest.approx(5.0, abs=0.02)
        assert snr_db(noise[0], noise[1]) == pytest.approx(0.0, abs=0.02)
        assert abs(np.corrcoef(noise)[0, 1]) < 0.2


@dataclass(frozen=True)
class DirectAndEcho:
    """One microphone: the direct path after 3 samples, echoes 100 and 900 samples later."""

    def draw_responses(self, rng: np.random.Generator, n_sources: int, sample_rate: int) -> np.ndarray:
        responses = np.zeros((n_sources, 1, 1000))
        responses[..., [3, 103, 903]] = (1.0, -0.4, 0.3)
        return responses


def test_late_reflections_are_in_the_mixture_and_in_no_source(voices: Cache) -> None:
    mixing = plain_mixing(seconds=0.5, loudness_lufs=QUIET, responses=DirectAndEcho(), early_seconds=0.1)
    dry, wet = draw(voices, replace(mixing, responses=None)), draw(voices, mixing)
    whole = draw(voices, replace(mixing, early_seconds=None))
    delayed = [np.pad(dry.sources, ((0, 0), (n, 0)))[:, :4000] for n in (3, 103, 903)]
    np.testing.assert_allclose(wet.sources, delayed[0] - 0.4 * delayed[1], atol=1e-6)
    np.testing.assert_allclose(whole.sources, wet.sources + 0.3 * delayed[2], atol=1e-6)
    np.testing.assert_array_equal(wet.mixture, whole.mixture)


def test_a_bank_of_rooms_serves_training_mixtures(voices: Cache) -> None:
    rooms = ResponseBank(responses=DirectAndEcho(), n_rooms=2, n_places=3)
    mixing = plain_mixing(seconds=0.5, loudness_lufs=QUIET, responses=rooms)
    alone = draw(voices, replace(mixing, responses=DirectAndEcho()))
    np.testing.assert_allclose(draw(voices, mixing).sources, alone.sources, atol=1e-6)
    slots = plain_mixing(seconds=0.5, n_sources=(2, 3), responses=rooms, n_active=None)
    assert {len(example.sources) for example in draws(voices, slots, 10)} == {2, 3}
    with pytest.raises(SepnetError, match="mixtures have up to 4 sources, but the rooms n_places=3"):
        plain_mixing(n_sources=(2, 4), responses=rooms)


def test_rooms_and_noise_come_as_often_as_asked(voices: Cache, hum: Cache) -> None:
    mixing = plain_mixing(
        seconds=0.5, loudness_lufs=QUIET, responses=DirectAndEcho(), early_seconds=0.0,
        p_responses=0.3, p_noise=0.7, noise_snr_db=(0.0, 0.0),
    )  # fmt: skip
    quiet = draws(voices, replace(mixing, p_noise=0.0), 100, hum)
    echoes = [not np.allclose(x.mixture[0], x.sources.sum(axis=0), atol=1e-6) for x in quiet]
    assert 20 <= sum(echoes) <= 40
    dry = draws(voices, replace(mixing, p_responses=0.0), 100, hum)
    noisy = [not np.allclose(x.mixture[0], x.sources.sum(axis=0), atol=1e-6) for x in dry]
    assert 60 <= sum(noisy) <= 80


def test_a_narrow_band_is_that_of_mixture_and_sources_alike(voices: Cache) -> None:
    mixing = plain_mixing(seconds=1.0, loudness_lufs=QUIET)
    narrowed, kept = replace(mixing, p_narrow=1.0), []
    for index in range(30):
        wide, heard = draw(voices, mixing, index), draw(voices, narrowed, index)
        np.testing.assert_allclose(heard.mixture[0], heard.sources.sum(axis=0), atol=1e-6)
        power = [np.square(np.abs(np.fft.rfft(example.mixture[0]))) for example in (wide, heard)]
        bands = (slice(1, 60), slice(700, 2000), slice(3900, 4000))
        kept.append([10 * np.log10(power[1][band].mean() / power[0][band].mean()) for band in bands])
    low, middle, high = np.array(kept).T
    assert middle.min() > -3
    assert low.max() < -1.5
    assert low.min() < -30
    assert high.min() < -10 < high.max()  # the upper end may lie above the rate
    sometimes = draws(voices, replace(mixing, p_narrow=0.3), 100)
    spectra = [np.square(np.abs(np.fft.rfft(example.mixture[0]))) for example in sometimes]
    assert 20 <= sum(power[1:60].mean() < 0.6 * power[100:700].mean() for power in spectra) <= 45


# Kinds of noise


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Twelve speakers, each a tone of its own."""
    times = np.arange(12000) / RATE
    files = {
        f"train/s{k:02d}/{take}.wav": (0.1 * np.sin(2 * np.pi * (200 + 100 * k) * times)).astype(np.float32)
        for k in range(12)
        for take in range(2)
    }
    return cache_of(tmp_path_factory.mktemp("crowd"), files)


def residual(cache: Cache, kind: str, index: int, noise: Cache | None = None) -> np.ndarray:
    mixing = plain_mixing(seconds=1.0, noise_kinds=(kind,), noise_snr_db=(0.0, 0.0))
    example = draw(cache, mixing, index, noise)
    return example.mixture[0] - example.sources.sum(axis=0)


def test_coloured_noise_falls_by_zero_to_six_db_per_octave(crowd: Cache) -> None:
    slopes = []
    for index in range(60):
        power = np.square(np.abs(np.fft.rfft(residual(crowd, "coloured", index))))
        low, high = power[200:400].mean(), power[1600:3200].mean()  # three octaves apart
        slopes.append(10 * np.log10(low / high) / 3)
    assert min(slopes) > -0.7
    assert max(slopes) < 6.7
    assert np.mean(slopes) == pytest.approx(3.0, abs=0.8)


def test_hum_is_harmonics_of_the_mains(crowd: Cache) -> None:
    found = set()
    for index in range(12):
        hum = residual(crowd, "hum", index)
        spectrum = np.abs(np.fft.rfft(hum * np.hanning(len(hum))))
        spacing = {mains: sum(spectrum[k * mains] for k in (1, 2, 3)) for mains in (50, 60)}
        mains = max(spacing, key=lambda hz: spacing[hz])
        near = np.zeros(len(spectrum), dtype=bool)
        for k in range(1, 80):
            at = k * mains
            near[max(0, at - 3 - k // 4) : at + 4 + k // 4] = True
        assert np.square(spectrum[near]).sum() > 0.99 * np.square(spectrum).sum()
        found.add(mains)
    assert found == {50, 60}


def test_babble_is_of_four_to_eight_speakers_who_are_not_in_the_mixture(crowd: Cache) -> None:
    counts = set()
    mixing = plain_mixing(seconds=1.0, noise_kinds=("babble",), noise_snr_db=(0.0, 0.0))
    for index, example in enumerate(draws(crowd, mixing, 20)):
        spectrum = np.abs(np.fft.rfft(residual(crowd, "babble", index)))
        loud = {k for k in range(12) if spectrum[200 + 100 * k] > 0.2 * spectrum.max()}
        assert not loud & {int(name[1:]) for name in speakers(example)}
        counts.add(len(loud))
    assert counts == {4, 5, 6, 7, 8}


def test_kinds_are_drawn_as_often_as_they_are_named(crowd: Cache, hum: Cache) -> None:
    mixing = plain_mixing(seconds=1.0, noise_kinds=("recorded", "recorded", "recorded", "hum"))
    tonal = 0
    for example in draws(crowd, mixing, 80, hum):
        noise = example.mixture[0] - example.sources.sum(axis=0)
        power = np.sort(np.square(np.abs(np.fft.rfft(noise * np.hanning(len(noise))))))
        tonal += power[-400:].sum() > 0.95 * power.sum()
    assert 10 <= tonal <= 32


def test_noise_that_cannot_be_made_is_refused(voices: Cache) -> None:
    with pytest.raises(SepnetError, match="no recordings of noise"):
        Mixer(voices, plain_mixing(seconds=0.5, noise_kinds=("recorded", "hum")))
    with pytest.raises(SepnetError, match="has 4 speakers, and babble takes 9 or more"):
        Mixer(voices, plain_mixing(seconds=0.5, noise_kinds=("babble",)))
    with pytest.raises(SepnetError, match=r"noise_kinds is \[\]: choose from recorded, coloured"):
        plain_mixing(noise_kinds=())


# What can't be mixed


def test_one_speaker_is_refused_with_counts(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, {f"train/a/{k}.wav": white_noise(800, k) for k in range(3)})
    message = r"has 1 speakers with usable utterances, but mixtures of 2 need as many"
    with pytest.raises(SepnetError, match=message):
        Mixer(cache, plain_mixing(seconds=0.1))
    Mixer(cache, plain_mixing(seconds=0.1, n_sources=(1,)))


def test_silent_utterances_are_never_drawn(tmp_path: Path) -> None:
    files = {f"train/{who}/0.wav": white_noise(8000, seed) for seed, who in enumerate("ab")}
    files |= {f"train/{who}/1.wav": np.zeros(8000, np.float32) for who in "abc"}
    cache = cache_of(tmp_path, files)
    for example in draws(cache, plain_mixing(seconds=0.1), 30):
        assert np.isfinite(example.mixture).all()
        assert (np.abs(example.sources).max(axis=1) > 0).all()
    with pytest.raises(SepnetError, match=r"has 2 speakers .* mixtures of 3"):
        Mixer(cache, plain_mixing(seconds=0.1, n_sources=(2, 3)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_sources": ()}, "n_sources is"),
        ({"n_sources": (2, 0)}, r"n_sources is \[2, 0\]"),
        ({"overlap": (0.5, 1.1)}, r"overlap is \[0.5, 1.1\]"),
        ({"overlap": (0.9, 0.5)}, "overlap .* in order"),
        ({"loudness_lufs": (-25.0, -33.0)}, "loudness_lufs .* in order"),
        ({"noise_snr_db": (0.0,)}, r"noise_snr_db is \[0.0\]: give two"),
        ({"noise_kinds": ("rain",)}, r"noise_kinds is \['rain'\]: choose from"),
        ({"seconds": 0.0}, "seconds=0.0"),
        ({"speeds": (1.0, -1.0)}, "positive"),
        ({"speeds": ()}, "positive"),
        ({"max_peak": 0.0}, "max_peak=0.0"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings: dict[str, Sequence[float]], message: str) -> None:
    with pytest.raises(SepnetError, match=message):
        plain_mixing(**settings)


@pytest.mark.parametrize("name", ["mode", "drawn_by", "short_policy"])
def test_a_misspelt_word_is_refused(name: str) -> None:
    with pytest.raises((SepnetError, jaxtyping.TypeCheckError)):
        plain_mixing(**{name: "trim"})
    recipe = Mixing()
    object.__setattr__(recipe, name, "trim")  # past the check of the annotations, which users run without
    with pytest.raises(SepnetError, match=r"is 'trim': choose from"):
        recipe.__post_init__()


def test_a_recipe_from_yaml_is_the_recipe() -> None:
    lists = plain_mixing(n_sources=[2, 3], speeds=[1.0], overlap=[0.5, 1.0], loudness_lufs=[-33, -25])
    assert lists == plain_mixing(
        n_sources=(2, 3), speeds=(1.0,), overlap=(0.5, 1.0), loudness_lufs=(-33, -25)
    )
    assert hash(lists) == hash(replace(lists))
    assert plain_mixing(slots=["vocals", "drums", "bass"]).n_sources == (3,)
