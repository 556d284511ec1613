"""sepnet.separate: any sound in, sources of its rate, length and level out, or a sentence why not."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from torch import Tensor

import sepnet
from sepnet import artifact
from sepnet.dsp.filterbank import STFT
from sepnet.inference.files import Recording
from sepnet.inference.job import SeparationJob
from sepnet.inference.outputs import OutputSettings
from sepnet.inference.pipeline import Pipeline
from sepnet.inference.stream import StreamingSeparator
from sepnet.separators.identity import Identity
from sepnet.separators.mask_estimator.model import MaskEstimator
from sepnet.types import (
    CannotSeparate,
    Mixture,
    Query,
    Separation,
    SeparationWarning,
    SeparatorInfo,
    SepnetError,
)

RATE = 8000
TINY = {"network": {"n_channels": 8, "n_hidden": 12, "n_blocks": 2, "n_repeats": 1}}


@pytest.fixture(scope="module")
def model() -> MaskEstimator:
    node = OmegaConf.merge(OmegaConf.load(artifact.config_folder() / "model" / "pit.yaml"), TINY)
    torch.manual_seed(0)
    built: MaskEstimator = artifact.build(node).eval()
    return built


def noise(*shape: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


class Spy:
    """Takes note of what it is given."""

    info = SeparatorInfo()

    def separate(self, mixture: Mixture) -> Separation:
        self.seen = mixture
        return Separation(mixture.audio[:1])


def test_arrays_and_tensors_of_any_make_are_the_same_sound(model: MaskEstimator) -> None:
    sound = noise(1001)
    expected = sepnet.separate(sound, RATE, model).sources
    assert expected.shape == (2, 1001)
    read_only = sound.copy()
    read_only.flags.writeable = False
    others: list[np.ndarray | Tensor] = [
        sound[None],
        torch.from_numpy(sound),
        torch.from_numpy(sound)[None].requires_grad_(),
        sound.astype(np.float64),
        torch.from_numpy(sound).double(),
        sound.astype(">f4"),
        sound[::-1].copy()[::-1],
        np.stack([sound, sound], axis=1)[:, 0],
        read_only,
        np.stack([sound, noise(5000)[-1001:]]),  # channel 0 is the one
    ]
    for other in others:
        sources = sepnet.separate(other, RATE, model).sources
        assert torch.equal(sources, expected)
        assert sources.dtype == torch.float32
        assert not sources.requires_grad


@pytest.mark.filterwarnings("error")
def test_the_caller_keeps_his_sound(model: MaskEstimator) -> None:
    sound = noise(2, 4000)
    sound.flags.writeable = False
    before = sound.copy()
    sources = sepnet.separate(sound, RATE, model).sources
    sources += 1
    np.testing.assert_array_equal(sound, before)


@pytest.mark.parametrize("sample_rate", [6000, 8000, 16000, 44100, 48000])
@pytest.mark.parametrize("time", [1, 100, 12345])
def test_any_rate_and_length_comes_back(model: MaskEstimator, sample_rate: int, time: int) -> None:
    sources = sepnet.separate(noise(time), sample_rate, model).sources
    assert sources.shape == (2, time)
    assert sources.isfinite().all()


def test_the_level_is_kept_at_another_rate(model: MaskEstimator) -> None:
    tone = (0.1 * np.sin(2 * np.pi * 440 / 44100 * np.arange(44100))).astype(np.float32)
    sources = sepnet.separate(tone, 44100, model).sources
    inner = slice(2000, -2000)
    torch.testing.assert_close(sources.sum(dim=0)[inner], torch.from_numpy(tone)[inner], atol=1e-3, rtol=0)


def test_silence_gives_silence(model: MaskEstimator) -> None:
    for sample_rate in (8000, 16000):
        assert not sepnet.separate(np.zeros(3000, np.float32), sample_rate, model).sources.any()


def test_hints_are_passed_to_those_who_ask() -> None:
    assert sepnet.separate(noise(100), RATE, "identity", n_sources=3).sources.shape == (3, 100)
    assert sepnet.separate(noise(100), RATE, Identity(), n_sources=1).sources.shape == (1, 100)
    with pytest.raises(CannotSeparate, match="needs n_sources"):
        sepnet.separate(noise(100), RATE, "identity")
    with pytest.raises(CannotSeparate, match="needs references"):
        sepnet.separate(noise(100), RATE, "irm")

    class Asking(Spy):
        info = SeparatorInfo(needs=frozenset({"queries"}))

    spy = Asking()
    with pytest.raises(SepnetError, match="finds its own number of sources: leave n_sources out"):
        sepnet.separate(noise(100), RATE, spy, query=(noise(50), 16000), n_sources=2)
    sepnet.separate(noise(100), RATE, spy, query=(noise(50), 16000))
    assert spy.seen.n_sources is None
    assert spy.seen.queries is not None
    (query,) = spy.seen.queries
    assert query.sample_rate == 16000
    np.testing.assert_array_equal(query.audio, noise(50))
    with pytest.raises(SepnetError, match=r"a query is one channel .* this one is \(2, 50\)"):
        sepnet.separate(noise(100), RATE, spy, query=(noise(2, 50), 16000))
    with pytest.raises(CannotSeparate, match="needs queries"):
        sepnet.separate(noise(100), RATE, spy)


def test_the_number_of_sources_has_to_be_that_of_the_model(model: MaskEstimator) -> None:
    assert len(sepnet.separate(noise(100), RATE, model, n_sources=2).sources) == 2
    with pytest.raises(CannotSeparate, match="made for 2 sources, not 3"):
        sepnet.separate(noise(100), RATE, model, n_sources=3)
    for wrong in (0, -1):
        with pytest.raises(SepnetError, match=f"n_sources is {wrong}: give a whole number from 1"):
            sepnet.separate(noise(100), RATE, "identity", n_sources=wrong)
    for wrong in (0, 65, 10**30, 2.0, True):
        with pytest.raises(SepnetError, match=r"n_sources is .*: give a whole number from 1 to 64"):
            Mixture(torch.zeros(1, 100), RATE, n_sources=wrong)


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros(100, np.int16), r"has to be floats .* is int16: divide by its full scale"),
        (torch.zeros(100, dtype=torch.int32), r"is torch.int32"),
        (np.zeros(100, bool), r"is bool"),
        (np.zeros(100, np.complex64), r"is complex64"),
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((2, 0), np.float32), "no samples"),
        (np.zeros((1, 2, 100), np.float32), r"\(1, 2, 100\)"),
        (np.array(0.5, np.float32), r"this one is \(\)"),
        (np.array([0.0, math.nan, math.inf], np.float32), "2 samples of 3 that are NaN or infinite"),
        (torch.tensor([math.nan]), "1 samples of 1"),
    ],
)
def test_what_is_no_sound_is_refused(model: MaskEstimator, sound: np.ndarray | Tensor, message: str) -> None:
    with pytest.raises(SepnetError, match=message):
        sepnet.separate(sound, RATE, model)


def test_loud_samples_are_sound_though_their_sum_overflows() -> None:
    assert Mixture(torch.full((1, 100), 3e38), RATE).audio.shape == (1, 100)


@pytest.mark.parametrize("sample_rate", [0, -8000])
def test_a_rate_is_positive(model: MaskEstimator, sample_rate: int) -> None:
    with pytest.raises(SepnetError, match=f"sample rate is {sample_rate} Hz"):
        sepnet.separate(noise(100), sample_rate, model)


def test_without_a_name_the_newest_run_separates(
    model: MaskEstimator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = sepnet.separate(noise(100), RATE, artifact.DEFAULT).sources
    assert torch.equal(sepnet.separate(noise(100), RATE).sources, shipped)
    node = OmegaConf.merge(OmegaConf.load(artifact.config_folder() / "model" / "pit.yaml"), TINY)
    config = OmegaConf.create({"model": node})
    artifact.save(model, Path("runs", "a"), config=config, metrics={}, data_fingerprint="")
    expected = sepnet.separate(noise(100), RATE, model).sources
    for by_name in (None, "runs/a", Path("runs/a")):
        assert torch.equal(sepnet.separate(noise(100), RATE, by_name).sources, expected)


@pytest.fixture
def without_annotation_checks() -> Iterator[None]:
    """As a user runs it: the checks of the tests would complain before sepnet does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


SOUND = np.zeros(100, np.float32)


@pytest.mark.usefixtures("without_annotation_checks")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0], 8000), r"audio is a list: give an array or a tensor, \(channel, time\) or \(time,\)"),
        (("mix.wav", 8000), "audio is a str: give an array"),
        ((None, 8000), "audio is a NoneType: give an array"),
        ((SOUND, None), "sample_rate is None: give a whole number"),
        ((SOUND, "8000"), "sample_rate is '8000': give a whole number"),
        ((SOUND, math.nan), "sample_rate is nan: give a whole number"),
        ((SOUND, 44100.5), r"sample_rate is 44100\.5: give a whole number"),
        ((SOUND, 8000, 5), "model is 5: give a name, a run folder, or a separator"),
        ((SOUND, 8000, "hpss", "many"), "n_sources is 'many': give a whole number"),
        ((SOUND, 8000, "hpss", None, SOUND), r"its rate in Hz: query=\(audio, sample_rate\)"),
        ((SOUND, 8000, "energy_reference", None, ("bark.wav", 8000)), "audio is a str: give an array"),
        ((np.zeros((4000, 2), np.float32), 8000, "hpss"), "4000 channels of 2 samples: transpose it"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused_with_the_remedy(
    arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(SepnetError, match=message):
        sepnet.separate(*arguments)


@pytest.mark.usefixtures("without_annotation_checks")
def test_whole_numbers_of_numpy_are_numbers() -> None:
    assert sepnet.separate(SOUND, np.float64(8000.0), "hpss", np.int64(2)).sources.shape == (2, 100)


@pytest.mark.parametrize(("model", "n_samples", "warned"), [
    ("pit-2spk-8k", 3999, True), ("pit-2spk-8k", 4000, False), ("hpss", 2000, False),
])  # fmt: skip
def test_a_recording_that_is_too_short_for_a_network_is_separated_with_a_warning(
    model: str, n_samples: int, warned: bool
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        separation = sepnet.separate(np.full(n_samples, 0.1, np.float32), 8000, model=model)
    assert separation.sources.shape[1] == n_samples
    messages = [str(each.message) for each in caught if issubclass(each.category, SeparationWarning)]
    told = "the recording: it lasts 0.5 s, and in less than 0.5 s a network hears too little to tell"
    assert messages == ([f"{told} sources apart"] if warned else [])


def test_the_command_warns_of_a_recording_that_is_too_short_for_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "mix.wav", np.full(2000, 0.1, np.float32), 8000)
    job = SeparationJob(
        model="pit-2spk-8k", pipeline=Pipeline(sepnet.load("pit-2spk-8k")), output=OutputSettings()
    )
    recording = Recording(tmp_path / "mix.wav", tmp_path, "mix")
    job.warn_if_short(recording, job.examine(recording))
    assert re.fullmatch(r"warning: .*mix\.wav: it lasts 0\.25 s, .*\n", capsys.readouterr().err)


ODD_AUDIO = [
    *(None, 5, [0.0], "x", np.zeros((), np.float32), np.zeros(9, object), np.zeros(9, np.complex64)),
    *(torch.zeros(9).to("meta"), torch.zeros(2, 9).to_sparse(), torch.full((9,), torch.nan)),
    np.ma.masked_array(np.zeros(9, np.float32), True),
]


CALLS: dict[str, Callable[[Any], object]] = {
    "separate": lambda audio: sepnet.separate(audio, RATE, model="hpss"),
    "separate by a query": lambda audio: sepnet.separate(
        np.ones((1, 9), np.float32), RATE, model="energy_reference", query=(audio, RATE)
    ),
    "Query": lambda audio: Query(audio, RATE),
    "Mixture": lambda audio: Mixture(audio, RATE),
    "references": lambda audio: Mixture(torch.zeros(1, 9), RATE, references=0 if audio is None else audio),
    "stream": lambda audio: StreamingSeparator("energy_live", queries=[(audio, RATE)]),
}


@pytest.mark.usefixtures("without_annotation_checks")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("audio", ODD_AUDIO, ids=range(len(ODD_AUDIO)))
def test_what_is_no_signal_is_refused_wherever_it_is_given(audio: Any, call: Callable[[Any], object]) -> None:
    with pytest.raises(SepnetError) as caught:
        call(audio)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("without_annotation_checks")
@pytest.mark.parametrize("rate", [0, -1, True, 8000.5, "8000", math.nan, 10**9, None])
def test_what_is_no_rate_is_refused(rate: Any) -> None:
    for make in (Mixture, Query):
        signal = torch.zeros(1, 9) if make is Mixture else torch.zeros(9)
        with pytest.raises(SepnetError, match="the sample rate is"):
            make(signal, rate)


@pytest.mark.usefixtures("without_annotation_checks")
@pytest.mark.parametrize("name", [None, 5, "", " ", "a\0b", "x" * 5000, "~nobody/x", [], "\udcff"])
def test_what_is_no_name_of_a_model_is_refused(name: Any) -> None:
    with pytest.raises(SepnetError) as caught:
        sepnet.load(name)
    assert len(str(caught.value).encode()) < 3000


@pytest.mark.parametrize("model", ["hpss", "nmf"])
def test_methods_for_any_rate_build_no_filters_as_large_as_the_square_of_the_window(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: STFT, **_: Any) -> None:
        raise AssertionError("at 192 kHz, its filters take gigabytes and minutes")

    monkeypatch.setattr(STFT, "__init__", refuse)
    sound = torch.from_numpy(noise(1, 8000))
    separator = sepnet.load(model)
    mixture = Mixture(sound, 192_000, n_sources=2).only(separator.info.needs)
    assert separator.separate(mixture).sources.shape == (2, 8000)
