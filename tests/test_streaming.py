"""Blocks in, blocks out: equal to the whole recording at once, and late by what is reported."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from test_energy import by_query
from torch import Tensor

import sepnet
from benchmarks import streaming
from sepnet import artifact
from sepnet.cli import app
from sepnet.cli import live as command
from sepnet.cli.separate_settings import SeparateSettings
from sepnet.dsp.filterbank import LearnedFilterbank
from sepnet.inference import live
from sepnet.inference.stages import Consistent
from sepnet.inference.stream import MAX_HOPS_PER_STEP, StreamingSeparator
from sepnet.networks.tcn import TCN, CumulativeNorm
from sepnet.networks.tcn_step import TCNStep
from sepnet.separators.energy.descent import EnergyDescent
from sepnet.separators.mask_estimator.model import MaskEstimator
from sepnet.types import CannotSeparate, Mixture, Query, Separator, SepnetError

RATE = 8000
ROOT = Path(__file__).resolve().parents[1]
TINY = {"network": {"n_channels": 8, "n_hidden": 12, "n_blocks": 3, "n_repeats": 2}}
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "pit_causal": ("pit_causal", TINY),
    "hops that do not divide the window": (
        "pit_causal",
        {**TINY, "filterbank": {"window_samples": 250, "hop_samples": 80}, "features": "compressed"},
    ),
    "no overlap": (
        "pit_causal",
        {**TINY, "filterbank": {"window_samples": 80, "hop_samples": 80, "window": "boxcar"}},
    ),
    "energy_live": ("energy_live", {"descent": {"steps": 5}}),
    "energy with a look-ahead": (
        "energy_live",
        {"descent": {"steps": 3, "frame_seconds": 0.01, "window_frames": 3, "look_ahead_frames": 2}},
    ),
    "energies of frames": (
        "energy_live",
        {"descent": {"steps": 3, "cells": "frames", "look_ahead_frames": 1}},
    ),
    "nmf_online": ("nmf_online", {"n_components": 6, "n_iterations": 5}),
    "nmf_online, one example": ("nmf_online", {"n_components": 6, "n_residual": 4, "n_iterations": 5}),
    "nmf_online, powers": (
        "nmf_online",
        {"n_components": 6, "n_residual": 4, "n_iterations": 5, "divergence": "itakura_saito"},
    ),
}


@cache
def separator(name: str) -> Separator:
    model, overrides = STREAMS[name]
    node = OmegaConf.load(artifact.config_folder() / "model" / f"{model}.yaml")
    torch.manual_seed(0)
    built: Separator = artifact.build(OmegaConf.merge(node, overrides))
    if isinstance(built, MaskEstimator):
        for module in built.modules():  # as after a training, where no affine part is 1 and 0
            if isinstance(module, CumulativeNorm):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.uniform_(module.bias, -0.5, 0.5)
        return built.eval()
    return built


@pytest.fixture(params=STREAMS, name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def signal_of(n_samples: int) -> Tensor:
    return by_query(2.0).audio[0, :n_samples].clone()


def queries_of(name: str) -> tuple[Query, ...]:
    return by_query(0.1).queries[: 1 if "one example" in name or "powers" in name else 2]


def open_stream(name: str) -> StreamingSeparator:
    queries = [(query.audio, query.sample_rate) for query in queries_of(name)]
    return StreamingSeparator(separator(name), sample_rate=RATE, queries=queries)


def offline(name: str, signal: Tensor) -> Tensor:
    mixture = Mixture(signal[None], RATE, 2, queries_of(name))
    return separator(name).separate(mixture.only(separator(name).info.needs)).sources


def pushed(stream: StreamingSeparator, signal: Tensor, sizes: list[int]) -> Tensor:
    """All that comes out, for blocks whose sizes go round."""
    parts, begin = [], 0
    for size in itertools.cycle(sizes):
        if begin >= len(signal):
            break
        block = signal[begin : begin + size]
        parts.append(stream.push(block))
        assert parts[-1].shape == (stream.n_sources, len(block))
        begin += size
    remaining = stream.finish()
    assert remaining.shape == (stream.n_sources, stream.latency_samples)
    return torch.cat([*parts, remaining], dim=1)


def assert_same(stream: StreamingSeparator, found: Tensor, whole: Tensor) -> None:
    assert not found[:, : stream.latency_samples].any()
    torch.testing.assert_close(found[:, stream.latency_samples :], whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", ["1", "7", "hop", "hop + 1", "5000", "random"])
def test_blocks_equal_the_whole_recording(name: str, size: str) -> None:
    stream = open_stream(name)
    rng = np.random.default_rng(0)
    sizes = {
        "hop": [stream.hop_samples],
        "hop + 1": [stream.hop_samples + 1],
        "random": rng.integers(0, 400, 50).tolist(),
    }
    n_samples = {"1": 400, "5000": stream.hop_samples * (MAX_HOPS_PER_STEP + 2) + 5}.get(size, 1300)
    signal = signal_of(n_samples)
    whole = offline(name, signal)
    assert whole.std(dim=0).max() > 0.001  # the sources differ
    assert_same(stream, pushed(stream, signal, sizes.get(size) or [int(size)]), whole)


def test_recordings_shorter_than_a_window_and_a_little_longer(name: str) -> None:
    stream = open_stream(name)
    for n_samples in (1, 79, 80, 129, 300):
        signal = signal_of(n_samples + 50)[50:]
        assert_same(stream, pushed(stream, signal, [1 if n_samples < 80 else 50]), offline(name, signal))


def test_nothing_in_nothing_out(name: str) -> None:
    stream = open_stream(name)
    assert stream.push(torch.zeros(0)).shape == (stream.n_sources, 0)
    assert not stream.finish().any()
    assert not pushed(stream, torch.zeros(1000), [300]).any()


def test_the_sources_add_up_to_the_late_mixture(name: str) -> None:
    stream, signal = open_stream(name), signal_of(3000)
    found = pushed(stream, signal, [500]).sum(dim=0)
    late = torch.nn.functional.pad(signal, (stream.latency_samples, 0))
    torch.testing.assert_close(found, late, atol=1e-6, rtol=0)


def test_latency_is_as_reported_and_at_most_40_ms(name: str) -> None:
    stream = open_stream(name)
    assert stream.latency_ms == 1000 * stream.latency_samples / RATE
    if name in ("pit_causal", "energy_live", "nmf_online"):  # as they are shipped
        assert stream.latency_ms <= 40
    # A click comes out after the latency, at its height in the sum.
    click = torch.zeros(2000)
    click[900] = 0.5
    out = torch.cat([stream.push(block) for block in click.split(33)], dim=1).sum(dim=0)
    assert int(out.abs().argmax()) == 900 + stream.latency_samples


def test_outputs_do_not_depend_on_later_inputs(name: str) -> None:
    signal, stream, cut = signal_of(2500), open_stream(name), 1990  # no end of a hop
    other = signal.clone()
    other[cut:] = torch.randn(2500 - cut, generator=torch.Generator().manual_seed(0))
    first, second = (pushed(stream, each, [cut, 2500 - cut]) for each in (signal, other))
    assert torch.equal(first[:, :cut], second[:, :cut])
    soon = slice(cut, cut + stream.latency_samples)
    assert not torch.equal(
        first[:, soon], second[:, soon]
    )  # and so the latency is no longer than it has to be


def test_reset_forgets_and_copies_are_independent(name: str) -> None:
    signal, stream = signal_of(3000), open_stream(name)
    first = stream.push(signal[:1111])
    twin = stream.copy()
    kept = twin.push(signal[1111:])
    stream.push(10 * signal[:777])  # the other one gets other input
    stream.reset()
    assert torch.equal(stream.push(signal[:1111]), first)
    first.zero_()  # what was given out is the caller's
    assert torch.equal(stream.push(signal[1111:]), kept)
    assert torch.equal(stream.finish(), twin.finish())


def test_a_block_may_be_overwritten_after_it_was_pushed(name: str) -> None:
    signal, stream, buffer = signal_of(1500), open_stream(name), torch.empty(50)
    parts = []
    for block in signal.split(50):
        parts.append(stream.push(buffer.copy_(block)))
        buffer.fill_(9.0)
    assert_same(stream, torch.cat([*parts, stream.finish()], dim=1), offline(name, signal))


def test_the_state_does_not_grow(name: str) -> None:
    stream = open_stream(name)

    def held() -> list[int]:
        state = [*stream._state, stream._pending, stream._ready]
        return [tensor.untyped_storage().nbytes() for tensor in state]

    stream.push(signal_of(16 * stream.hop_samples))
    early = held()
    for _ in range(3):
        stream.push(signal_of(16 * stream.hop_samples))
    assert held() == early
    assert sum(early) < 2**20


# The mask estimator


def test_the_shipped_model_streams_as_it_separates() -> None:
    model = sepnet.load("pit-causal-2spk-8k")
    stream, signal = StreamingSeparator(model), signal_of(6000)
    assert (stream.latency_samples, stream.latency_ms, stream.n_sources) == (256, 32.0, 2)
    assert_same(stream, pushed(stream, signal, [128]), model.separate(Mixture(signal[None], RATE)).sources)


@pytest.mark.parametrize("separable", [True, False])
def test_a_network_of_learnt_filters_with_skips(separable: bool) -> None:
    torch.manual_seed(0)
    node = OmegaConf.load(artifact.config_folder() / "model" / "pit_causal.yaml")
    tiny = {**TINY["network"], "separable": separable, "n_skip": 6}
    model = artifact.build(
        OmegaConf.merge(node, {"network": tiny, "features": "coefficients", "activation": "softmax"})
    )
    bank = LearnedFilterbank(n_filters=32, window_samples=40, hop_samples=20, rectified=True)
    other = MaskEstimator(
        filterbank=bank,
        network=lambda n_in, n_out: TCN(n_in, n_out, causal=True, **tiny),
        objective=model.objective,
        features="coefficients",
        level="running",
    ).eval()
    signal = signal_of(2000)
    for each in (model.eval(), other):
        stream = StreamingSeparator(each)
        whole = each.separate(Mixture(signal[None], RATE)).sources
        assert_same(stream, pushed(stream, signal, [333]), whole)


def test_an_hour_later_the_norms_are_still_exact() -> None:
    """The output after an hour of sound, against the sums of an hour in exact arithmetic."""
    torch.manual_seed(0)
    network = TCN(4, 3, n_channels=4, n_hidden=5, n_blocks=1, n_repeats=1, separable=True, causal=True).eval()
    step, n_frames = TCNStep(network), 225_000
    frames = 3.0 + torch.rand(50, 4)  # far from 0: the variance is a small difference of large sums
    with torch.no_grad():
        state = step.initial_state()
        for first in range(0, n_frames, 5000):
            counts = torch.arange(first + 1, first + 5001, dtype=torch.float64)
            output, *state = step(frames.repeat(100, 1), counts, *state)
        exact = network.double()(frames.repeat(n_frames // 50, 1).double().T[None])[0].T
        network.float()
    torch.testing.assert_close(output[-50:].double(), exact[-50:], atol=1e-4, rtol=0)


def test_minutes_of_sound_agree_with_the_whole() -> None:
    name, minutes = "pit_causal", by_query(10.0).audio[0].repeat(12)
    stream = open_stream(name)
    assert_same(stream, pushed(stream, minutes, [50_000]), offline(name, minutes))


def test_the_step_is_a_function_of_tensors_and_writes_into_none() -> None:
    model = separator("pit_causal")
    assert isinstance(model, MaskEstimator)
    step = model.live_step()
    state = step.initial_state()
    assert len(state) == len(step.state_names)
    block = signal_of(step.hop_samples)[None]
    sources, *after = step(block, *state)
    assert sources.shape == (1, 2, step.hop_samples)
    assert [(each.shape, each.dtype) for each in after] == [(each.shape, each.dtype) for each in state]
    assert all(torch.equal(one, other) for one, other in zip(state, step.initial_state(), strict=True))


# What can't be


@pytest.mark.parametrize("model", ["nmf", "hpss", "identity", "fastica", "repet", "irm"])
def test_methods_that_need_the_whole_recording_name_an_alternative(model: str) -> None:
    with pytest.raises(CannotSeparate, match=f"^{model} looks at the whole recording.*pit-causal-2spk-8k"):
        StreamingSeparator(model)


def test_wrapped_separators_are_refused_too() -> None:
    with pytest.raises(CannotSeparate, match=r"^Consistent looks at the whole recording"):
        StreamingSeparator(Consistent(separator("pit_causal")))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"level": "whole"}, "level=whole.*: take pit-causal-2spk-8k"),
        ({"network": {"causal": False}}, "its network uses future frames"),
        (
            {
                "source_count": "given",
                "objective": {
                    "metric": {"_target_": "sepnet.metrics.thresholded_snr"},
                    "allow_silence": True,
                },
            },
            "source_count=given",
        ),
        ({"activation": "mapping"}, "a mapping is no mask"),
    ],
    ids=["level", "network", "count", "mapping"],
)
def test_mask_estimators_that_need_the_whole_recording_say_why(
    overrides: dict[str, Any], reason: str
) -> None:
    node = OmegaConf.load(artifact.config_folder() / "model" / "pit_causal.yaml")
    model = artifact.build(OmegaConf.merge(node, TINY, overrides))
    with pytest.raises(CannotSeparate, match=reason):
        StreamingSeparator(model)


def test_missing_or_wrong_setups_are_refused() -> None:
    one = [(by_query().queries[0].audio, RATE)]
    with pytest.raises(CannotSeparate, match="8000 Hz: resample"):
        StreamingSeparator(separator("pit_causal"), sample_rate=16000)
    with pytest.raises(CannotSeparate, match="gives 2 sources here, not 3"):
        StreamingSeparator(separator("pit_causal"), n_sources=3)
    with pytest.raises(CannotSeparate, match="give the rate of the input"):
        StreamingSeparator(separator("energy_live"))
    with pytest.raises(CannotSeparate, match="needs queries"):
        StreamingSeparator(separator("nmf_online"), sample_rate=RATE)
    with pytest.raises(CannotSeparate, match="an example of each source"):
        StreamingSeparator(separator("energy_live"), queries=one)
    with pytest.raises(CannotSeparate, match=r"\(enrollment=...\) and n_sources"):
        StreamingSeparator("energy", sample_rate=RATE, n_sources=2)
    with pytest.raises(CannotSeparate, match="query 1 is silent"):
        StreamingSeparator(separator("nmf_online"), queries=[(torch.zeros(100), RATE)])


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (torch.full((10,), torch.nan), "10 samples of 10 that are NaN"),
        (np.array([[0.0, np.inf]]), "1 samples of 2 that are NaN or infinite"),
        (torch.zeros(2, 2, 2), r"\(2, 2, 2\)"),
        (torch.zeros(()), r"\(\)"),
        (torch.zeros(0, 5), r"\(0, 5\)"),
        (np.zeros(4, dtype=np.int16), "int16: divide"),
    ],
    ids=["nan", "infinity", "3 axes", "a number", "no channels", "integers"],
)
def test_an_invalid_block_is_refused_and_changes_nothing(block: Tensor | np.ndarray, sentence: str) -> None:
    signal, stream = signal_of(1000), open_stream("pit_causal")
    first = stream.push(signal[:500])
    with pytest.raises(SepnetError, match=sentence):
        stream.push(block)
    found = torch.cat([first, stream.push(signal[500:]), stream.finish()], dim=1)
    assert_same(stream, found, offline("pit_causal", signal))


def test_blocks_of_channels_and_of_numpy() -> None:
    signal, stream = signal_of(1000), open_stream("pit_causal")
    stereo = np.stack([signal.numpy(), np.zeros(1000)]).astype(np.float64)[:, ::-1][:, ::-1]
    found = torch.cat([stream.push(stereo), stream.finish()], dim=1)
    assert_same(stream, found, offline("pit_causal", signal))


def test_examples_at_another_rate_are_resampled() -> None:
    queries = [(query.audio.repeat_interleave(2), 2 * RATE) for query in by_query().queries]
    stream = StreamingSeparator(separator("nmf_online"), sample_rate=RATE, queries=queries)
    assert stream.sample_rate == RATE
    assert stream.labels == ("query 1", "query 2")


def test_the_blind_energies_learn_from_an_enrollment() -> None:
    node = OmegaConf.load(artifact.config_folder() / "model" / "energy.yaml")
    model = artifact.build(OmegaConf.merge(node, {"descent": {"steps": 3}}))
    earlier, signal = by_query(1.5).audio[0], signal_of(2000)
    stream = StreamingSeparator(model, sample_rate=RATE, n_sources=2, enrollment=earlier)
    descent: EnergyDescent = model.descent
    signatures = stream._frames.signatures  # type: ignore[attr-defined]
    assert signatures.windows is None  # no frame of another recording is left out
    whole = descent.separate(signal, signatures, RATE, signal.expand(2, -1))
    assert_same(stream, pushed(stream, signal, [100]), whole)


# The command line


def test_a_real_pipe(tmp_path: Path) -> None:
    signal = (signal_of(6000) * 20000).round().clamp(-32768, 32767).short()
    command = [sys.executable, str(ROOT / "scripts" / "separate.py"), "live=true", "pcm.channels=2"]
    stereo = torch.stack([signal, torch.zeros_like(signal)], dim=1).numpy().tobytes()
    done = subprocess.run(
        command, input=stereo + b"x", capture_output=True, cwd=tmp_path, env=environment(), check=True
    )
    found = torch.from_numpy(np.frombuffer(done.stdout, "<i2").reshape(-1, 2).T / 32768).float()
    model = sepnet.load("pit-causal-2spk-8k")
    whole = model.separate(Mixture(signal[None] / 32768, RATE)).sources
    assert not found[:, :256].any()
    torch.testing.assert_close(found[:, 256:], whole, atol=2e-5, rtol=0)  # half a step of 16 bits
    message = done.stderr.decode()
    assert "latency 32 ms" in message
    assert "the last 1 bytes are no complete sample" in message
    assert "after 0.75 s of sound" in message
    assert list(tmp_path.iterdir()) == []


def test_it_ends_when_the_reader_goes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (stdin, feed), (reader, stdout) = os.pipe(), os.pipe()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: stdin))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(fileno=lambda: stdout))
    os.write(feed, bytes(4000))
    os.close(reader)
    live.run_pipe(open_stream("pit_causal"), live.Pcm("f32le", 1), slice(None))
    assert "the reader of the output has gone after 0.12 s" in capsys.readouterr().err
    for each in (stdin, feed, stdout):
        os.close(each)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_incomplete_and_clipped_samples(capsys: pytest.CaptureFixture[str]) -> None:
    pcm = live.Pcm("s16le", 2)
    data = np.array([[1, 9], [-32768, 9], [32767, 9]], dtype="<i2").tobytes()
    decoded = np.concatenate([pcm.decode(data[k : k + 1]) for k in range(len(data))])
    np.testing.assert_array_equal(decoded * 32768, [1, -32768, 32767])
    out = live.Pcm("s16le", 1)
    assert np.frombuffer(out.encode(decoded[None]), "<i2").tolist() == [1, -32768, 32767]
    assert capsys.readouterr().err == ""
    loud = np.array([[1.5, 0.5], [-1.5, 1.0]], dtype=np.float32)
    assert np.frombuffer(out.encode(loud), "<i2").tolist() == [32767, -32768, 16384, 32767]
    out.encode(loud)
    assert out.n_clipped == 6
    message = capsys.readouterr()
    assert message.err.count("can't be taken back") == 1
    assert message.out == ""
    exact = live.Pcm("f32le", 1)
    np.testing.assert_array_equal(exact.decode(exact.encode(loud[:1])), loud[0])


def settings(**changed: Any) -> Any:
    config = OmegaConf.load(artifact.config_folder() / "separate.yaml")
    del config["defaults"]
    return app.parse(SeparateSettings, OmegaConf.merge(config, {"live": True}, changed))


def test_nan_and_infinity_become_zeros_and_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    pcm = live.Pcm("f32le", 1)
    sound = np.array([0.1, np.nan, 0.2, -np.inf, 0.3], dtype="<f4")
    decoded = np.concatenate([pcm.decode(sound[:2].tobytes()), pcm.decode(sound[2:].tobytes())])
    np.testing.assert_array_equal(decoded, np.array([0.1, 0.0, 0.2, 0.0, 0.3], np.float32))
    assert pcm.n_bad == 2
    assert capsys.readouterr().err.count("are taken for zeros") == 1


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"live": "radio"}, "live is 'radio': give true or false, device or null"),
        ({"files": ["a.wav"]}, "leave the files out"),
        ({"pcm": {"format": "mp3"}}, "pcm.format is 'mp3': give s16le or f32le"),
        ({"pcm": {"channels": 0}}, "pcm.channels is 0: give a whole number"),
        ({"pcm": {"channels": True}}, "pcm.channels is true: give a whole number"),
        ({"pcm": {"rate": 0}}, "pcm.rate is 0: give a whole number from 1,000 to 768,000 or null"),
        ({"pcm": {"source": "bass"}}, "pcm.source is bass: give one of s1, s2"),
        ({"pcm": {"rate": 44100}}, "44100 Hz.* 8000 Hz"),
        ({"model": "nmf"}, "looks at the whole recording"),
    ],
    ids=str,
)
def test_invalid_live_settings_are_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SepnetError, match=sentence):
        command.live(settings(**changed))


class PortAudioError(Exception):
    """As sounddevice has it."""


class Card:
    """A sound card that plays five blocks in, keeps what comes out, and is then stopped by Ctrl-C."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.played, self.opened = refuses, [], {}

    def __call__(self, **settings: Any) -> Card:
        if self.refuses:
            raise PortAudioError("Invalid sample rate")
        self.opened = settings
        return self

    def __enter__(self) -> Card:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def read(self, n_samples: int) -> tuple[np.ndarray, bool]:
        k = len(self.played)
        if k == 5:
            raise KeyboardInterrupt
        block = signal_of(5 * n_samples)[k * n_samples : (k + 1) * n_samples].numpy()
        return np.stack([block, 0 * block], axis=1), k == 1

    def write(self, block: np.ndarray) -> None:
        assert block.flags.c_contiguous
        assert block.dtype == np.float32
        self.played.append(block)


def test_the_sound_card(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    card = Card()
    fake = SimpleNamespace(Stream=card, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    command.live(settings(live="device", pcm={"channels": 2, "source": "s2"}))
    assert card.opened == {"samplerate": 8000, "blocksize": 128, "channels": (2, 1), "dtype": "float32"}
    whole = sepnet.load("pit-causal-2spk-8k").separate(Mixture(signal_of(640)[None], RATE)).sources
    played = torch.from_numpy(np.concatenate(card.played)[:, 0])
    torch.testing.assert_close(
        played[256:], whole[1, : 640 - 256], atol=1e-2, rtol=0
    )  # more is still to come
    assert "1 times the input overflowed" in capsys.readouterr().err
    fake.Stream = Card(refuses=True)
    with pytest.raises(SepnetError, match=r"can't be used at 8000 Hz \(Invalid sample rate"):
        command.live(settings(live="device"))


def test_without_sounddevice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SepnetError, match=r"pip install 'sepnet\[live\]'"):
        command.live(settings(live="device"))


def test_examples_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for k, query in enumerate(by_query().queries):
        files.append(str(tmp_path / f"{k}.wav"))
        soundfile.write(files[-1], query.audio.numpy(), RATE)
    monkeypatch.setattr(command, "run_pipe", lambda stream, pcm, chosen: None)
    command.live(settings(model="nmf_online", query=files))
    assert "output query 1, query 2" in capsys.readouterr().err
    command.live(settings(model="nmf_online", query=files[0], pcm={"source": "residual"}))
    assert "output residual" in capsys.readouterr().err


def test_the_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (
        ("COMPARED_SECONDS", 1),
        ("TIMED_SECONDS", 0.5),
        ("MINUTE", 1),
        ("HOUR", 2),
        ("WARM_UP_HOPS", 1),
    ):
        monkeypatch.setattr(streaming, name, value)
    streaming.run(OmegaConf.create({"model": "nmf_online", "repetitions": 1, "hour": True}))
    message = capsys.readouterr().out
    assert "latency 256 samples, 32 ms" in message
    assert message.count("real-time factor") == 4
    assert message.count("MiB resident") == 2
