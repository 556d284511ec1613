"""The embedded corpus: the same bits always, voices that a measurement tells apart, and no silence."""

from __future__ import annotations

import builtins
import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.signal.windows import hann

from sepnet.data import audio, synthetic, text_to_speech
from sepnet.data.synthetic import make_toy_corpus, write_corpus
from sepnet.data.text_to_speech import SAMPLE_RATE as RATE
from sepnet.data.text_to_speech import speak
from sepnet.data.voices import SENTENCES, SPLITS, VOICES, Reading, Voice, plan_readings, split_of_sentence
from sepnet.types import SepnetError

pytest.importorskip("espeakng_loader")

PER_VOICE = 3
FRAME, HOP = 512, 128  # 64 ms and 16 ms
# The bound on the worst of the 2016 pairs of voices, as the distance of their means in standard deviations
# of one utterance (d', see separations). Over 20 utterances a voice it is 5.6, its median neighbour 7.1;
# the few here scatter around that. At 4, the best linear rule takes one voice for the other on 1
# utterance in 44.
MIN_SEPARATION = 4.0


# What is measured of a voice: its pitch, and the shape of its long-term spectrum.


def frames(speech: np.ndarray) -> np.ndarray:
    """(frame, time) under a window, those within 30 dB of the loudest."""
    cut = np.lib.stride_tricks.sliding_window_view(speech, FRAME)[::HOP] * hann(FRAME)
    energy = np.sum(cut**2, axis=1)
    loud: np.ndarray = cut[energy > 1e-3 * energy.max()]
    return loud


def pitch_hz(speech: np.ndarray) -> float:
    """The median over voiced frames of the first strong peak of the autocorrelation, 60 to 400 Hz."""

    def correlate(x: np.ndarray) -> np.ndarray:
        spectrum = np.abs(np.fft.rfft(x, 4 * FRAME)) ** 2
        lags: np.ndarray = np.fft.irfft(spectrum)[..., : RATE // 60 + 1]
        return lags / lags[..., :1]

    lags = (correlate(frames(speech)) / correlate(hann(FRAME)))[:, RATE // 400 :]
    found = []
    for lag in lags:
        peaks = np.flatnonzero((lag[1:-1] >= lag[:-2]) & (lag[1:-1] >= lag[2:]) & (lag[1:-1] > 0.5)) + 1
        strong = [p for p in peaks if lag[p] > 0.9 * lag[peaks].max()]
        found += [RATE / (strong[0] + RATE // 400)] if strong else []
    return float(np.median(found))


def shape_db(speech: np.ndarray) -> np.ndarray:
    """The long-term spectrum in 20 bands of equal width in mel, less its mean (the level says nothing)."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([100, 3900]) / 700)), 22)
    edges = 700 * (10 ** (mel / 2595) - 1)
    f = np.fft.rfftfreq(FRAME, 1 / RATE)
    bands = [
        np.clip(np.minimum((f - a) / (b - a), (c - f) / (c - b)), 0, None)
        for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    power = np.mean(np.abs(np.fft.rfft(frames(speech), axis=1)) ** 2, axis=0)
    level: np.ndarray = 10 * np.log10(np.array(bands) @ power)
    return level - level.mean()


def features(speech: np.ndarray) -> np.ndarray:
    """Pitch in semitones, then the bands (the last one follows from the others)."""
    return np.array([12 * np.log2(pitch_hz(speech) / 100), *shape_db(speech)[:-1]])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All voices with a few sentences each."""
    root = tmp_path_factory.mktemp("toy")
    return write_corpus(root, plan_readings(per_voice=PER_VOICE), progress=False, n_workers=2)


@pytest.fixture(scope="module")
def speech(corpus: Path) -> dict[str, list[np.ndarray]]:
    spoken: dict[str, list[np.ndarray]] = {}
    for reading in plan_readings(per_voice=PER_VOICE):
        samples, rate = audio.read(corpus / reading.path)
        assert rate == RATE
        assert samples.shape[0] == 1
        spoken.setdefault(reading.voice.name, []).append(samples[0].astype(np.float64))
    return spoken


@pytest.fixture(scope="module")
def measured(speech: dict[str, list[np.ndarray]]) -> np.ndarray:
    """(voice, utterance, feature)."""
    return np.array([[features(u) for u in speech[voice.name]] for voice in VOICES])


def whitened(measured: np.ndarray) -> np.ndarray:
    """In units of the scatter of the utterances of one voice, at least 1 semitone of pitch."""
    within = (measured - measured.mean(axis=1, keepdims=True)).reshape(-1, measured.shape[-1])
    covariance = within.T @ within / (len(within) - len(measured))
    covariance[0, 0] += 1.0
    white: np.ndarray = measured @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    return white


def separations(measured: np.ndarray) -> np.ndarray:
    """(voice, voice): d', the distance of two voices' means, of which the scatter's own part is taken off."""
    means = whitened(measured).mean(axis=1)
    squared = np.sum((means[:, None] - means[None]) ** 2, axis=-1)
    d: np.ndarray = np.sqrt(np.clip(squared - 2 * measured.shape[2] / measured.shape[1], 0, None))
    return d


# The recipe


def test_sentences_are_many_distinct_and_of_6_to_16_words() -> None:
    assert len(SENTENCES) >= 300
    bare = {re.sub(r"[^a-z ]", "", s.lower()) for s in SENTENCES}
    assert len(bare) == len(SENTENCES)
    openings = {tuple(s.lower().split()[:5]) for s in SENTENCES}
    assert len(openings) == len(SENTENCES)  # no template filled in again and again
    for sentence in SENTENCES:
        assert 6 <= len(sentence.split()) <= 16, sentence
        assert re.fullmatch(r"[A-Z][A-Za-z,' -]+[.?]", sentence), sentence


def test_splits_share_no_voice_no_variant_and_no_sentence() -> None:
    assert len({voice.name for voice in VOICES}) == len(VOICES) >= 60
    readings = plan_readings()
    for split in SPLITS:
        voices = [voice for voice in VOICES if voice.split == split]
        assert len(voices) == {"train": 48, "dev": 8, "test": 8}[split]
        assert sum(voice.gender == "female" for voice in voices) == len(voices) / 2
        others = [voice for voice in VOICES if voice.split != split]
        assert not {v.variant for v in voices} & {v.variant for v in others}
        mine = {r.index for r in readings if r.voice.split == split}
        assert mine == {i for i in range(len(SENTENCES)) if split_of_sentence(i) == split}
    assert len({reading.path for reading in readings}) == len(readings)


def test_readings_are_asked_for_within_what_there_is() -> None:
    assert len(plan_readings(voices=VOICES[:3], per_voice=2)) == 6
    with pytest.raises(SepnetError, match="between 1 and 252"):
        plan_readings(per_voice=253)
    with pytest.raises(SepnetError, match="pitch of the voice"):
        replace(VOICES[0], pitch=101)
    with pytest.raises(SepnetError, match="split 'tests'"):
        replace(VOICES[0], split="tests")


# The sound


def test_speech_is_level_trimmed_and_of_sensible_length(speech: dict[str, list[np.ndarray]]) -> None:
    everything = [u for spoken in speech.values() for u in spoken]
    seconds = np.array([len(u) / RATE for u in everything])
    assert np.mean((seconds > 2) & (seconds < 6)) > 0.9
    assert seconds.min() > 1
    for utterance in everything:
        assert 20 * np.log10(np.sqrt(np.mean(utterance**2))) == pytest.approx(-26, abs=0.01)
        assert 0.1 < np.abs(utterance).max() < 0.9
        assert abs(utterance.mean()) < 1e-4  # no offset
        # Both ends sound within 20 ms, but for the weakest consonants, and no pause lasts a second.
        loud = np.flatnonzero(np.abs(utterance) > 1e-3 * np.abs(utterance).max())
        assert loud[0] < 0.02 * RATE
        assert len(utterance) - loud[-1] < 0.02 * RATE
        assert np.diff(loud).max() < RATE


def test_voices_are_far_apart(measured: np.ndarray) -> None:
    d = separations(measured)
    worst = np.unravel_index(np.argmin(d + 99 * np.eye(len(d))), d.shape)
    names = [VOICES[i].name for i in worst]
    assert d[tuple(worst)] > MIN_SEPARATION, f"{names} are only {d[tuple(worst)]:.2f} apart"


def test_an_utterance_is_nearest_to_its_own_voice(measured: np.ndarray) -> None:
    white = whitened(measured)
    right = 0
    for voice, utterance in np.ndindex(white.shape[:2]):
        means = white.mean(axis=1)
        means[voice] = np.delete(white[voice], utterance, axis=0).mean(axis=0)  # judged by the others
        nearest = np.argmin(np.sum((means - white[voice, utterance]) ** 2, axis=1))
        right += nearest == voice
    assert right / (white.shape[0] * white.shape[1]) > 0.9


def test_the_measure_finds_two_voices_that_are_one(measured: np.ndarray) -> None:
    copied = measured.copy()
    copied[1] = measured[0] + 0.1 * (measured[1] - measured[1].mean(axis=0))
    assert separations(copied)[0, 1] < MIN_SEPARATION / 2


def test_pitch_follows_gender_and_setting(measured: np.ndarray) -> None:
    pitch = 100 * 2 ** (np.median(measured[..., 0], axis=1) / 12)
    assert len(np.unique(pitch.round())) > 40
    for voice, hz in zip(VOICES, pitch, strict=True):
        low, high = (150, 290) if voice.gender == "female" else (70, 165)
        assert low < hz < high, voice.name
    m3 = next(voice for voice in VOICES if voice.variant == "m3")
    high_hz, low_hz = (pitch_hz(speak(SENTENCES[0], replace(m3, pitch=p))) for p in (100, 50))
    assert high_hz / low_hz == pytest.approx(1.64, rel=0.06)


def test_rate_follows_the_setting() -> None:
    slow, fast = (len(speak(SENTENCES[0], replace(VOICES[0], rate=rate))) for rate in (120, 200))
    assert slow / fast == pytest.approx(200 / 120, rel=0.12)


def test_speech_depends_on_text_and_voice_alone() -> None:
    # Breath and flutter are random in these: eSpeak's state would show.
    for voice in (v for v in VOICES if v.variant in ("f1", "f5", "grandma")):
        first = speak(SENTENCES[1], voice)
        speak(SENTENCES[2], VOICES[-1])
        assert np.array_equal(first, speak(SENTENCES[1], voice))


def test_what_lies_above_the_new_band_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    native = 22050
    time = np.arange(2 * native) / native
    tones = np.sin(2 * np.pi * 1000 * time) + np.sin(2 * np.pi * 5000 * time)
    monkeypatch.setattr(text_to_speech, "_run_espeak", lambda text, voice: (tones, native))
    heard = speak("a tone", VOICES[0])[RATE // 2 : RATE // 2 + RATE] * hann(RATE)
    spectrum = 20 * np.log10(np.abs(np.fft.rfft(heard)) + 1e-12)  # one bin a Hz
    assert np.argmax(spectrum) == 1000
    assert spectrum[2990:3010].max() < spectrum[1000] - 70  # 5 kHz would fold to 3 kHz


# The folder


def digest(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


FEW = tuple(
    reading for voice in (VOICES[0], VOICES[3]) for reading in plan_readings(voices=[voice], per_voice=2)
)


def test_corpus_holds_its_files_its_voices_and_its_stamp(corpus: Path) -> None:
    readings = plan_readings(per_voice=PER_VOICE)
    assert {str(p.relative_to(corpus)) for p in corpus.rglob("*.flac")} == {r.path for r in readings}
    assert re.fullmatch(r"(train|dev|test)/[fm]\d\d/\d{3}\.flac", readings[0].path)
    with (corpus / "voices.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["voice"] for row in rows] == [voice.name for voice in VOICES]
    assert rows[5]["variant"] == VOICES[5].variant
    stamp = json.loads((corpus / "complete.json").read_text())
    assert stamp["fingerprint"] == synthetic.fingerprint(readings)
    assert stamp["files"] == len(readings)
    others = {p.name for p in corpus.iterdir()} - set(SPLITS)
    assert others == {"complete.json", "voices.csv"}


def test_same_bits_on_every_run_and_with_any_number_of_workers(tmp_path: Path) -> None:
    one = write_corpus(tmp_path / "one", FEW, progress=False, n_workers=1)
    three = write_corpus(str(tmp_path / "three"), FEW, progress=True, n_workers=3)
    assert len(digest(one)) == len(FEW) + 2
    assert digest(one) == digest(three)


def test_the_corpus_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert write_corpus("~/toy", FEW[:1], progress=False) == tmp_path / "home" / "toy"
    assert not (tmp_path / "~").exists()


def test_a_corpus_that_stands_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path, FEW[:2], progress=False)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # not even eSpeak is needed
    write_corpus(tmp_path, FEW[:2], progress=False)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_an_interrupted_corpus_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = digest(write_corpus(tmp_path / "whole", FEW, progress=False))
    said: list[str] = []

    def break_down(text: str, voice: Voice) -> Any:
        if len(said) == 2:
            raise KeyboardInterrupt
        said.append(text)
        return speak(text, voice)

    root = tmp_path / "broken"
    monkeypatch.setattr(synthetic, "speak", break_down)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(root, FEW, progress=False, n_workers=1)
    assert not (root / "complete.json").exists()
    assert (root / "incomplete.json").exists()
    assert len(list(root.rglob("*.flac"))) == 2
    monkeypatch.setattr(synthetic, "speak", lambda text, voice: said.append(text) or speak(text, voice))
    write_corpus(root, FEW, progress=False)
    assert sorted(said) == sorted(reading.text for reading in FEW)  # none twice
    assert digest(root) == whole
    (root / FEW[1].path).unlink()  # nor is a stamp believed that the files belie
    write_corpus(root, FEW, progress=False)
    assert digest(root) == whole


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", FEW[:1], progress=False)
    with pytest.raises(SepnetError, match="another recipe"):
        write_corpus(tmp_path / "a", FEW[1:2], progress=False)
    (tmp_path / "b" / "train").mkdir(parents=True)
    with pytest.raises(SepnetError, match=r"neither complete\.json nor incomplete\.json"):
        make_toy_corpus(tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "complete.json").write_text("[]")
    with pytest.raises(SepnetError, match="can't be read as a stamp"):
        make_toy_corpus(tmp_path / "c")
    with pytest.raises(SepnetError, match="n_workers is 0"):
        make_toy_corpus(tmp_path / "d", n_workers=0)


def test_recipe_is_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = synthetic.fingerprint(FEW)
    assert synthetic.fingerprint(FEW) == before
    changed = Reading(replace(FEW[0].voice, pitch=3), FEW[0].index, FEW[0].text)
    prints = {before, synthetic.fingerprint((changed, *FEW[1:]))}
    prints.add(synthetic.fingerprint((replace(FEW[0], text="Else."), *FEW[1:])))
    monkeypatch.setattr(synthetic, "LEVEL_DB", -20.0)
    prints.add(synthetic.fingerprint(FEW))
    assert len(prints) == 4


# What may be missing or wrong


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SepnetError, match=r"pip install 'sepnet\[demo\]'"):
        make_toy_corpus(tmp_path, progress=False, n_workers=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": "nobody"}, "no variant 'nobody'"),
        ({"accent": "xx-nowhere"}, "no voice 'xx-nowhere"),
        ({"accent": ""}, "no voice"),
    ],
)
def test_voices_that_do_not_exist_are_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(SepnetError, match=words):
        speak("Good morning.", replace(VOICES[0], **changes))


def test_text_without_words_is_refused() -> None:
    with pytest.raises(SepnetError, match="is silent for"):
        speak("", VOICES[0])


def fake_loader(monkeypatch: pytest.MonkeyPatch, library: str, data: str) -> None:
    loader = SimpleNamespace(get_library_path=lambda: library, get_data_path=lambda: data)
    monkeypatch.setitem(sys.modules, "espeakng_loader", loader)  # type: ignore[arg-type]


def test_broken_installations_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library, data = text_to_speech._find_espeak()
    fake_loader(monkeypatch, str(tmp_path / "gone.so"), str(data))
    with pytest.raises(SepnetError, match=r"gone\.so does not load"):
        speak("Good morning.", VOICES[0])
    (tmp_path / "voices" / "!v").mkdir(parents=True)
    (tmp_path / "voices" / "!v" / VOICES[0].variant).touch()
    fake_loader(monkeypatch, library, str(tmp_path))
    with pytest.raises(SepnetError, match="does not start with the data"):
        speak("Good morning.", VOICES[0])


def test_long_paths_are_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = speak("Good morning.", VOICES[0])
    library, data = text_to_speech._find_espeak()
    far = tmp_path / ("long" * 30) / ("longer" * 20)  # eSpeak holds 160 characters
    far.mkdir(parents=True)
    (far / "data").symlink_to(data)
    fake_loader(monkeypatch, library, str(far / "data"))
    assert np.array_equal(speak("Good morning.", VOICES[0]), expected)
