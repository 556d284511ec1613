"""scripts/separate.py: what it takes, what it writes, and that it goes on where it was stopped."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import sepnet
from sepnet.cli import separate
from sepnet.data import audio
from sepnet.data.audio import largest_gain, open_audio, write_blocks
from sepnet.data.audio.writing import MAX_RIFF_BYTES
from sepnet.data.sound_files import match_pattern
from sepnet.inference import separate_file
from sepnet.inference.checkpoint import SeparationCheckpoint
from sepnet.types import SepnetError

RATE = 8000
WAIT_SECONDS = 300  # for another process, on a busy machine
SHORT_CHUNKS = ("chunk_seconds=2", "overlap_seconds=0.5")


def sound(seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(time, channel): noise that comes and goes."""
    n_samples = round(seconds * RATE)
    swell = 0.6 + 0.4 * np.sin(np.arange(n_samples) / 3000)
    noise = np.random.default_rng(seed).standard_normal((n_samples, channels))
    return (0.1 * swell[:, None] * noise).astype(np.float32)


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "mix.wav", sound(9.3), RATE, subtype="FLOAT")
    return tmp_path / "mix.wav"


def separated(*words: str | Path, model: str = "hpss") -> None:
    before = sys.argv
    sys.argv = ["separate.py", f"model={model}", *map(str, words)]
    try:
        separate.main()
    finally:
        sys.argv = before


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def stop_at_the_third_chunk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Interrupt the program once, when the third chunk is to be kept; the list grows by each that is."""
    add, calls = SeparationCheckpoint.add, []

    def stopping(self: SeparationCheckpoint, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(self, *arguments)

    monkeypatch.setattr(SeparationCheckpoint, "add", stopping)
    return calls


def parts(folder: Path, *files: str) -> list[np.ndarray]:
    return [soundfile.read(folder / file, dtype="float32", always_2d=True)[0] for file in files]


def refusal(
    capsys: pytest.CaptureFixture[str], *words: str | Path, model: str = "hpss", status: int = 2
) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        separated(*words, model=model)
    assert ended.value.code == status
    return capsys.readouterr().err


# What it takes


def test_folders_are_gone_through_and_made_again(tmp_path: Path) -> None:
    for name in ("in/a.wav", "in/below/a.flac", "in/.hidden.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, sound(0.5), RATE)
    (tmp_path / "in" / "notes.txt").write_text("not a sound")
    separated(tmp_path / "in", f"out={tmp_path}/out")
    assert names(tmp_path / "out") == {
        f"{place}a_{what}"
        for place in ("", "below/")
        for what in ("harmonic.wav", "percussive.wav", "separation.json")
    }


def test_a_log_has_lines_of_progress(
    mixture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separate_file, "LINE_SECONDS", 0.0)
    separated(mixture, *SHORT_CHUNKS, f"out={mixture.parent}/out")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(str(mixture))]
    assert len(lines) == 6  # one a chunk
    assert lines[0] == f"{mixture}: 0:00:02 of 0:00:09 separated"
    assert lines[-1] == f"{mixture}: 0:00:09 of 0:00:09 separated"


def test_what_was_written_into_a_folder_is_not_separated_again(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(0.5), RATE)
    separated(tmp_path)
    there = names(tmp_path)
    separated(tmp_path)
    assert names(tmp_path) == there
    assert len(there) == 4


def test_patterns_and_names_that_look_like_patterns(tmp_path: Path) -> None:
    for name in ("a1.wav", "a2.wav", "b1.wav", "x[1].wav"):
        soundfile.write(tmp_path / name, sound(0.2), RATE)
    separated(tmp_path / "a*.wav", tmp_path / "x[1].wav", f"out={tmp_path}/out")
    assert {name.split("_")[0] for name in names(tmp_path / "out")} == {"a1", "a2", "x[1]"}


def test_a_pattern_searches_each_folder_once_however_many_links_lead_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("in/a.wav", "in/deep/er/b.wav", "in/.hidden/c.wav", "in/x[1]/d.wav", "elsewhere/e.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, sound(0.2), RATE)
    for number in range(3):  # a search that follows all of them does not end
        (tmp_path / "in" / f"loop{number}").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")

    def matches(pattern: str) -> set[str]:
        found, _ = match_pattern(tmp_path / pattern)
        return {str(path.relative_to(tmp_path)) for path in found if path.is_file()}

    every = {"in/a.wav", "in/deep/er/b.wav", "in/x[1]/d.wav", "in/linked/e.wav"}
    assert matches("in/**/*.wav") == matches("in/**") == matches("i*/**/**/*") == every
    assert matches("in/**/er/*.wav") == matches("**/deep/**/b*") == {"in/deep/er/b.wav"}
    assert matches("in/**/.hidden/*") == {"in/.hidden/c.wav"}
    assert matches("gone/**/*.wav") == matches("in/a.wav/**") == set()
    separated(tmp_path / "in" / "**" / "[ab].wav", f"out={tmp_path}/out")
    assert {name.split("_")[0] for name in names(tmp_path / "out")} == {"a", "b"}
    assert f"{tmp_path}/in/loop2 leads to the folder" in capsys.readouterr().err  # as where a folder is given


def test_standard_input_is_taken(mixture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe:
        buffer = io.BytesIO(mixture.read_bytes())

    monkeypatch.setattr(sys, "stdin", Pipe())
    separated("-", f"out={mixture.parent}/out")
    harmonic, percussive = parts(mixture.parent / "out", "stdin_harmonic.wav", "stdin_percussive.wav")
    np.testing.assert_allclose(harmonic + percussive, sound(9.3), atol=1e-6)


def test_an_empty_standard_input_is_told_as_such(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pipe:
        buffer = io.BytesIO()

    monkeypatch.setattr(sys, "stdin", Pipe())
    assert refusal(capsys, "-").startswith("error: standard input is empty")


def test_what_is_no_recording_is_told(
    tmp_path: Path, mixture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no sound file in" in refusal(capsys, tmp_path / "empty")
    assert "no file matches" in refusal(capsys, tmp_path / "nothing*.wav")
    (tmp_path / "other").mkdir()
    soundfile.write(tmp_path / "other" / "mix.wav", sound(0.2), RATE)
    told = refusal(capsys, mixture, tmp_path / "other" / "mix.wav", f"out={tmp_path}/out")
    assert "would both become" in told
    assert not (tmp_path / "out").exists()


def test_one_that_can_t_be_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, channels in (("mono", 1), ("stereo", 2), ("two", 2)):
        soundfile.write(tmp_path / f"{name}.wav", sound(1, channels), RATE)
    files = [tmp_path / f"{name}.wav" for name in ("mono", "stereo", "two")]
    told = refusal(capsys, *files, "n_sources=2", f"out={tmp_path}/out", model="fastica", status=1)
    assert "1 of 3 recordings could not be separated" in told
    assert f"{files[0]}: " in told
    assert {name.split("_")[0] for name in names(tmp_path / "out")} == {"stereo", "two"}


# What it writes


@pytest.mark.parametrize(
    ("words", "subtype"),
    [
        ((), "FLOAT"),
        (("format=flac",), "PCM_24"),
        (("subtype=PCM_16",), "PCM_16"),
        (("format=aiff", "subtype=PCM_24"), "PCM_24"),
    ],
)
def test_formats(words: tuple[str, ...], subtype: str, mixture: Path) -> None:
    separated(mixture, *words, f"out={mixture.parent}/out", *SHORT_CHUNKS)
    suffix = next((word[7:] for word in words if word.startswith("format=")), "wav")
    files = [f"mix_{name}.{suffix}" for name in ("harmonic", "percussive")]
    assert {soundfile.info(mixture.parent / "out" / file).subtype for file in files} == {subtype}
    atol = {"FLOAT": 1e-6, "PCM_24": 1e-6, "PCM_16": 1.1 / 32768}[subtype]
    np.testing.assert_allclose(sum(parts(mixture.parent / "out", *files)), sound(9.3), atol=atol)


def test_stereo_in_gives_stereo_out_and_a_channel_can_be_chosen(tmp_path: Path) -> None:
    stereo = sound(5, 2)
    soundfile.write(tmp_path / "mix.wav", stereo, RATE, subtype="FLOAT")
    files = ("mix_harmonic.wav", "mix_percussive.wav")
    for word, expected in {
        "each": stereo,
        "mean": stereo.mean(axis=1, keepdims=True),
        "1": stereo[:, 1:],
        "all": stereo[:, :1],
    }.items():
        out = tmp_path / word
        separated(tmp_path / "mix.wav", f"channels={word}", f"out={out}", *SHORT_CHUNKS)
        np.testing.assert_allclose(sum(parts(out, *files)), expected, atol=1e-6)


def test_clipping_is_refused_with_the_gain_that_fits_and_costs_no_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loud = 12 * sound(5)
    soundfile.write(tmp_path / "mix.wav", loud, RATE, subtype="FLOAT")
    words = (tmp_path / "mix.wav", "subtype=PCM_16", *SHORT_CHUNKS)
    told = refusal(capsys, *words)
    assert "would clip: give gain=" in told
    fitting = float(told.split("gain=")[1].split()[0])
    assert names(tmp_path) - {"mix.wav"} == {
        f".mix.sepnet/{name}" for name in ("0.f32", "1.f32", "3.safetensors", "lock", "state.json")
    }
    # What was separated is not separated again.
    monkeypatch.delattr("sepnet.inference.separate_file._separate")
    separated(*words, f"gain={0.999 * fitting}", f"out={tmp_path}", "overwrite=true")
    monkeypatch.undo()
    separated(*words, "gain=auto", "overwrite=true")


def test_one_gain_is_applied_to_all_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud = 12 * sound(5)
    soundfile.write(tmp_path / "mix.wav", loud, RATE, subtype="FLOAT")
    separated(tmp_path / "mix.wav", "subtype=PCM_16", "gain=auto", *SHORT_CHUNKS)
    record = json.loads((tmp_path / "mix_separation.json").read_text())
    assert 0 < record["gain"] < 1
    assert f"all multiplied by {record['gain']:g}" in capsys.readouterr().out
    both = parts(tmp_path, "mix_harmonic.wav", "mix_percussive.wav")
    np.testing.assert_allclose(sum(both), record["gain"] * loud, atol=1.1 / 32768)
    assert max(float(np.abs(each).max()) for each in both) > 0.99


def test_a_picture_of_the_sources(mixture: Path) -> None:
    separated(mixture, "report=true", *SHORT_CHUNKS)
    assert (mixture.parent / "mix_report.png").read_bytes()[:4] == b"\x89PNG"


def test_number_of_sources(mixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot count sources" in refusal(capsys, mixture, "n_sources=auto", model="nmf")
    separated(mixture, "n_sources=auto", model="deep-clustering-8k")
    told = capsys.readouterr().out
    count = int(told.split(" source")[0].split()[-1])
    assert len([name for name in names(mixture.parent) if "_s" in name and name.endswith(".wav")]) == count


@pytest.mark.parametrize(
    ("model", "settings", "n_sources"),
    [("enhance-8k", (), 1), ("conv-autoencoder-esc10", ("consistent=false",), 5)],
)
def test_what_the_sources_leave_out_is_written_if_asked(
    model: str,
    settings: tuple[str, ...],
    n_sources: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stereo = sound(5.0, channels=2)
    soundfile.write(tmp_path / "mix.wav", stereo, RATE, subtype="FLOAT")
    separated(tmp_path / "mix.wav", *SHORT_CHUNKS, *settings, "residual=true", "report=true", model=model)
    assert "the sources leave out" in capsys.readouterr().out
    written = json.loads((tmp_path / "mix_separation.json").read_text())["files"]
    assert written[-1] == "mix_residual.wav"
    assert len(written) == n_sources + 1
    np.testing.assert_allclose(sum(parts(tmp_path, *written)), stereo, atol=1e-6)
    assert np.square(parts(tmp_path, "mix_residual.wav")).mean() > 1e-4 * np.square(stereo).mean()


def test_the_number_of_sources_is_estimated_beside_a_residual(
    mixture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (mixture, *SHORT_CHUNKS, "n_sources=auto", "consistent=false", "residual=true")
    stop_at_the_third_chunk(monkeypatch)
    with pytest.raises(SystemExit):
        separated(*words, model="deep-clustering-8k")
    separated(*words, model="deep-clustering-8k")
    written = json.loads((mixture.parent / "mix_separation.json").read_text())["files"]
    assert written == [*(f"mix_s{number}.wav" for number in range(1, len(written))), "mix_residual.wav"]
    np.testing.assert_allclose(sum(parts(mixture.parent, *written)), sound(9.3), atol=1e-6)
    whole = mixture.parent / "whole"
    separated(*words, f"out={whole}", model="deep-clustering-8k")
    for one, other in zip(parts(mixture.parent, *written), parts(whole, *written), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_residual_that_is_not_there_is_refused(mixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "sum to the recording, which leaves no residual" in refusal(capsys, mixture, "residual=true")
    assert names(mixture.parent) == {"mix.wav"}
    assert "live=true writes none: leave residual=true out" in refusal(capsys, "live=true", "residual=true")
    query = mixture.parent / "query.wav"
    soundfile.write(query, sound(1.0, seed=1), RATE)
    words = (mixture, "residual=true", "consistent=false", f"query={query}")
    told = refusal(capsys, *words, model="energy_reference")
    assert "the model has a source named residual itself: leave out residual=true" in told
    assert "writes the residual without being asked" in refusal(
        capsys, *words[:2], words[3], model="ast_dgmo"
    )


# Going on


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ((), ("mix_s1.wav", "mix_s2.wav")),
        (("consistent=false", "residual=true"), ("mix_s1.wav", "mix_s2.wav", "mix_residual.wav")),
    ],
)
def test_stopped_it_goes_on_and_the_result_is_the_same(
    settings: tuple[str, ...],
    files: tuple[str, ...],
    mixture: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, out, words = "pit-2spk-8k", mixture.parent / "out", (*SHORT_CHUNKS, *settings)
    separated(mixture, f"out={out}", *words, model=model)
    whole = parts(out, *files)
    calls = stop_at_the_third_chunk(monkeypatch)
    with pytest.raises(SystemExit) as ended:
        separated(mixture, *words, model=model)
    assert ended.value.code == 130
    told = capsys.readouterr()
    assert "stopped at 0:00:03; what is done so far is kept" in told.err
    assert "0 of 1 recordings are separated; the same command continues" in told.out
    assert not list(mixture.parent.glob("mix_*"))
    separated(mixture, *words, model=model)
    assert len(calls) == 3 + 4  # six chunks, two of which stood
    assert "going on at 0:00:03" in capsys.readouterr().err
    for one, other in zip(parts(mixture.parent, *files), whole, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list(mixture.parent.glob(".mix*"))


def test_what_stands_of_another_separation_is_not_gone_on_with(
    mixture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add = SeparationCheckpoint.add

    def stopping(self: SeparationCheckpoint, *arguments: Any) -> None:
        add(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(SeparationCheckpoint, "add", stopping)
    with pytest.raises(SystemExit):
        separated(mixture, *SHORT_CHUNKS)
    monkeypatch.undo()
    soundfile.write(mixture, 0.5 * sound(9.3), RATE, subtype="FLOAT")  # another recording of this name
    separated(mixture, *SHORT_CHUNKS)
    assert "going on" not in capsys.readouterr().err
    both = parts(mixture.parent, "mix_harmonic.wav", "mix_percussive.wav")
    np.testing.assert_allclose(sum(both), 0.5 * sound(9.3), atol=1e-6)


def test_what_is_done_is_not_done_again_but_for_other_settings(
    mixture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    separated(mixture)
    capsys.readouterr()
    separated(mixture)
    assert "separated already" in capsys.readouterr().out
    for other in ("consistent=false", "subtype=PCM_24", "gain=0.5", "report=true"):
        assert "exist already" in refusal(capsys, mixture, other)
    separated(mixture, "overwrite=true")
    assert "the sources sum to the mixture" in capsys.readouterr().out


@pytest.mark.parametrize("state", ['{"meant": 5, "n_chunks": "two"', '{"meant": {}, "n_chunks": 2}', "[]"])
def test_a_damaged_state_is_begun_anew(state: str, mixture: Path) -> None:
    work = mixture.parent / ".mix.sepnet"
    work.mkdir()
    (work / "state.json").write_text(state)
    (work / "2.safetensors").write_bytes(b"cut off")
    separated(mixture, *SHORT_CHUNKS)
    assert not work.exists()


# Block by block


def test_blocks_are_the_stretches_of_the_file(tmp_path: Path) -> None:
    whole = sound(3, 2)
    for name in ("a.wav", "a.flac", "a.ogg"):
        soundfile.write(tmp_path / name, whole, RATE)
        expected = audio.read(tmp_path / name)[0]
        with open_audio(tmp_path / name) as reader:
            for start, stop in ((0, 9000), (8000, 17000), (8000, 17001), (17001, 17001), (20000, 24000)):
                np.testing.assert_array_equal(reader.read(start, stop), expected[:, start:stop])


def test_the_gain_that_is_named_is_the_largest_that_fits(tmp_path: Path) -> None:
    peak = 1.37
    gain = largest_gain(peak, "PCM_16")
    block = np.full((1, 10), peak)

    def write(factor: float) -> None:
        blocks = iter([factor * block])
        write_blocks(tmp_path / "a.wav", blocks, RATE, n_channels=1, n_samples=10, subtype="PCM_16")

    write(gain)
    with pytest.raises(SepnetError, match="would clip"):
        write(1.0001 * gain)
    assert 1e38 < largest_gain(peak, "FLOAT") * peak <= np.finfo(np.float32).max
    assert largest_gain(0.0, "FLOAT") == float("inf")


def test_floats_of_any_size_fit_into_integers_by_their_gain(tmp_path: Path) -> None:
    loud = sound(0.5)
    soundfile.write(tmp_path / "mix.wav", 1e30 * loud, RATE, subtype="FLOAT")
    separated(tmp_path / "mix.wav", "format=flac", "gain=auto")
    total = sum(parts(tmp_path, "mix_harmonic.flac", "mix_percussive.flac"))
    gain = json.loads((tmp_path / "mix_separation.json").read_text())["gain"]
    np.testing.assert_allclose(total, gain * 1e30 * loud, atol=1e-6)
    assert np.abs(total).max() > 0.1


def test_a_gain_beyond_floats_is_refused_with_the_largest(
    mixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refusal(capsys, mixture, "gain=1e40")
    assert "beyond the largest number that floats hold: give gain=" in told
    separated(mixture, "gain=" + told.split("give gain=")[1].split()[0])
    soundfile.write(tmp_path / "silent.wav", np.zeros((4000, 1)), RATE)
    separated(tmp_path / "silent.wav", "gain=1e40")


def test_files_beyond_four_gigabytes_become_rf64(tmp_path: Path) -> None:
    n_samples = MAX_RIFF_BYTES // 4 + 1
    blocks = iter([np.zeros((1, 5), dtype=np.float32)])
    write_blocks(tmp_path / "a.wav", blocks, RATE, n_channels=1, n_samples=n_samples, subtype="FLOAT")
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64"
    assert audio.read(tmp_path / "a.wav")[0].shape == (1, 5)
    with pytest.raises(SepnetError, match="more than an AIFF can"):
        write_blocks(tmp_path / "a.aiff", blocks, RATE, n_channels=1, n_samples=n_samples, subtype="FLOAT")


def test_in_memory_a_long_recording_is_the_same_as_from_files(mixture: Path) -> None:
    separated(mixture, model="pit-2spk-8k")
    found = sepnet.separate(sound(9.3).T, RATE, model="pit-2spk-8k").sources.numpy()
    for number, part in enumerate(parts(mixture.parent, "mix_s1.wav", "mix_s2.wav")):
        np.testing.assert_allclose(part[:, 0], found[number], atol=1e-6)


# What two processes, a full disk and odd words do


def test_a_recording_is_one_process_s_at_a_time(mixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SeparationCheckpoint(mixture.parent / ".mix.sepnet", {}, 1):
        assert "another process works in" in refusal(capsys, mixture)
    assert names(mixture.parent) == {"mix.wav"}
    separated(mixture)
    assert len(parts(mixture.parent, "mix_harmonic.wav")[0]) == len(parts(mixture.parent, "mix.wav")[0])


def test_stopped_between_two_files_it_goes_on(
    mixture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_second(path: Path, *rest: Any, **more: Any) -> None:
        if path.name == "mix_percussive.wav":
            raise SepnetError("the disk is full")
        write_blocks(path, *rest, **more)

    monkeypatch.setattr("sepnet.inference.outputs.audio.write_blocks", no_second)
    assert "the disk is full" in refusal(capsys, mixture)
    assert "mix_harmonic.wav" in names(mixture.parent)
    monkeypatch.undo()
    separated(mixture)
    assert names(mixture.parent) == {
        "mix.wav",
        "mix_harmonic.wav",
        "mix_percussive.wav",
        "mix_separation.json",
    }


def test_a_place_that_can_t_be_written_to_is_named(mixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refusal(capsys, mixture, f"out={mixture}")
    assert f"can't write to {mixture}" in told
    assert "can't read" not in told


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("overwrite=no", "overwrite=true or overwrite=false"),
        ("consistent=null", "consistent=true or consistent=false"),
        ("format=mp3", "give wav, flac, ogg"),
        ("subtype=VORBIS", "go together"),
        ("chunk_seconds=nan", "chunk_seconds is nan: give a number above 0"),
        ("chunk_seconds=abc", "chunk_seconds is 'abc': give a number above 0"),
        ("overlap_seconds=null", "overlap_seconds is null: give a number above 0"),
        ("gain=abc", "gain is 'abc': give a number above 0, auto or null"),
        ("gain=0", "gain is 0: give a number above 0, auto or null"),
        ("gain=inf", "gain is inf: give a number above 0, auto or null"),
        ("n_sources=abc", "n_sources is 'abc': give a whole number from 1 to 64, auto or null"),
        ("query=5", "there is no file 5"),
        ("query={mixture}", "hpss takes no example: leave query= out"),
        ("+set.foo=1", "there is no setting 'set.foo'\n"),
        ("out=", "out is '': give a path or a URL or null"),
        ("reference=[a.wav]", "reference= is for ast_dgmo"),
        ("files=there.wav", "there is no file there.wav"),
        ("", "one of the files has no name"),
    ],
)
def test_settings_are_checked_before_anything_is_done(
    word: str, told: str, mixture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refusal(capsys, mixture, word.replace("{mixture}", str(mixture)))
    assert names(mixture.parent) == {"mix.wav"}


def test_a_refused_recording_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = np.zeros(100, np.float32)
    bad[7] = np.nan
    soundfile.write(tmp_path / "bad.wav", bad, RATE, subtype="FLOAT")
    assert "1 of 100 samples" in refusal(capsys, tmp_path / "bad.wav", f"out={tmp_path}/new/folder")
    assert names(tmp_path) == {"bad.wav"}


def test_flac_holds_eight_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "nine.wav", sound(0.5, 9), RATE)
    assert "a FLAC file holds 8 channels" in refusal(capsys, tmp_path / "nine.wav", "format=flac")
    separated(tmp_path / "nine.wav", "format=flac", "channels=mean")


@pytest.mark.parametrize(
    ("rate", "form", "told"),
    [
        (200_001, "ogg", "an OGG file holds at most 200000 Hz, not 200001 Hz"),
        (768_000, "flac", "a FLAC file holds at most 655350 Hz, not 768000 Hz"),
        (96_001, "flac", "a FLAC file holds rates above 65535 Hz in steps of 10 Hz, not 96001 Hz"),
    ],
)
def test_a_rate_that_the_format_has_not_is_refused_before_anything_is_made(
    rate: int, form: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "fast.wav", sound(0.5), rate)
    assert told in refusal(capsys, tmp_path / "fast.wav", f"format={form}", f"out={tmp_path}/new/folder")
    assert names(tmp_path) == {"fast.wav"}


@pytest.mark.parametrize(("rate", "form"), [(200_000, "ogg"), (655_350, "flac"), (65_535, "flac")])
def test_the_highest_rates_of_a_format_are_written(rate: int, form: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "fast.wav", sound(0.5), rate)
    separated(tmp_path / "fast.wav", f"format={form}")
    assert soundfile.info(tmp_path / f"fast_harmonic.{form}").samplerate == rate


def test_a_folder_may_hold_folders_and_links_to_nothing(mixture: Path) -> None:
    (mixture.parent / "folder.wav").mkdir()
    (mixture.parent / "link.wav").symlink_to("nowhere.wav")
    separated(mixture.parent, f"out={mixture.parent / 'out'}")
    assert "out/mix_harmonic.wav" in names(mixture.parent)


@pytest.mark.parametrize("rate", [7999, 22051])
def test_rates_that_have_hardly_a_divisor_in_common(rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "odd.wav", sound(1), rate, subtype="FLOAT")
    separated(tmp_path / "odd.wav", model="pit-2spk-8k")
    one, other = parts(tmp_path, "odd_s1.wav", "odd_s2.wav")
    np.testing.assert_allclose(one + other, sound(1), atol=1e-5)


# Files that are bad, linked, cut off or hard to name


def test_bad_files_do_not_stop_the_others_and_are_listed_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "m", "z"):
        soundfile.write(tmp_path / f"{name}.wav", sound(0.3), RATE)
    (tmp_path / "b.wav").write_bytes(b"")
    (tmp_path / "c.mp3").write_bytes(b"no sound" * 10)
    message = refusal(capsys, tmp_path, f"out={tmp_path}/out", status=1)
    assert message.splitlines()[-3].startswith("error: 2 of 5 recordings could not be separated:")
    assert f"{tmp_path}/b.wav is empty" in message.splitlines()[-2]
    assert f"{tmp_path}/c.mp3 (80 bytes) can't be read as audio" in message.splitlines()[-1]
    assert {name.split("_")[0] for name in names(tmp_path / "out")} == {"a", "m", "z"}


def test_linked_folders_are_followed_once_and_what_is_left_out_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("in/a.wav", "elsewhere/b.wav"):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, sound(0.3), RATE)
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "itself.wav").symlink_to("itself.wav")
    (tmp_path / "in" / "gone.wav").symlink_to("nowhere.wav")
    separated(tmp_path / "in", f"out={tmp_path}/out")
    message = capsys.readouterr().err
    assert f"left out: {tmp_path}/in/gone.wav is a link to nowhere.wav, which does not exist" in message
    assert f"{tmp_path}/in/loop leads to the folder {tmp_path}/in, which is searched already" in message
    assert f"left out: {tmp_path}/in/itself.wav" in message
    assert {name for name in names(tmp_path / "out") if name.endswith("json")} == {
        "a_separation.json",
        "linked/b_separation.json",
    }
    assert "is a link to nowhere.wav" in refusal(capsys, tmp_path / "in" / "gone.wav")


def test_what_is_there_of_a_cut_recording_is_separated_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, sound(4), RATE, subtype="FLOAT")
    path.write_bytes(path.read_bytes()[:-64_000])  # two of four seconds
    told = "its header promises 32000 samples (4.00 s), but 16000 (2.00 s) can be read"
    assert told in refusal(capsys, path, "strict=true")
    assert names(tmp_path) == {"cut.wav"}
    separated(path)
    assert f"warning: {path} is cut off or damaged: {told}" in capsys.readouterr().err
    record = json.loads((tmp_path / "cut_separation.json").read_text())
    assert told in record["defect"]
    both = parts(tmp_path, "cut_harmonic.wav", "cut_percussive.wav")
    np.testing.assert_allclose(sum(both), sound(4)[:16000], atol=1e-6)


def test_a_name_too_long_for_its_results_is_told_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{'a' * 246}.wav"
    soundfile.write(path, sound(0.3), RATE)
    assert "File name too long; give a name shorter than its 262 bytes" in refusal(capsys, path)
    assert names(tmp_path) == {path.name}


@pytest.mark.parametrize("kind", ["state.json", "1.safetensors"])
def test_a_disk_that_fills_up_while_the_state_is_saved_is_told(
    kind: str, mixture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def failing(self: Path, replaced: Path) -> Path:
        if replaced.name == kind:
            raise OSError(28, "No space left on device")
        return rename(self, replaced)

    monkeypatch.setattr(Path, "replace", failing)
    message = refusal(capsys, mixture, *SHORT_CHUNKS)
    assert "No space left on device" in message
    assert "MB are free there: make room" in message
    assert names(mixture.parent) == {"mix.wav"}


def test_piped_input_is_removed_when_the_program_is_ended(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    program = (
        "from sepnet.inference.files import recordings\n"
        "from sepnet.atomic import exit_on_sigterm\n"
        "with exit_on_sigterm(), recordings(['-'], None): pass"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    process.stdin.write(b"RIFF" * 100_000)
    process.stdin.flush()
    deadline = time.monotonic() + WAIT_SECONDS
    while not list(temporary.rglob("stdin.wav")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(temporary.rglob("stdin.wav"))
    process.terminate()
    assert process.wait(WAIT_SECONDS) == 143
    process.stdin.close()
    assert list(temporary.iterdir()) == []
