"""PESQ and STOI: identity is best, noise lowers them, and what is undefined is nan and never a number."""

from __future__ import annotations

import math
import sys

import jaxtyping
import numpy as np
import pytest
import torch
from scipy.signal import iirpeak, lfilter
from torch import Tensor

from sepnet.metrics import estoi, pesq, stoi
from sepnet.types import SepnetError

RATES = (8000, 16000)
BEST_PESQ = {8000: 4.549, 16000: 4.644}


def voice(sample_rate: int, seconds: float = 2.0) -> Tensor:
    """A harmonic tone that comes and goes, with three formants: speech enough for both measures."""
    t = np.arange(int(sample_rate * seconds)) / sample_rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * t)) / sample_rate
    pulses = sum(np.sin(k * phase) / k for k in range(1, 27))
    sound = pulses * np.sqrt(np.clip(np.sin(2 * np.pi * 1.5 * t), 0, None))
    for hertz, width in ((600, 100), (1200, 120), (2500, 150)):
        sound = sound + 0.5 * lfilter(*iirpeak(hertz, hertz / width, fs=sample_rate), sound)
    return torch.from_numpy(0.05 * sound / np.sqrt(np.mean(sound**2))).float()


def noisy(signal: Tensor, snr_db: float) -> Tensor:
    disturbance = torch.randn(signal.shape, generator=torch.Generator().manual_seed(0))
    return signal + disturbance * signal.std() * 10 ** (-snr_db / 20)


@pytest.mark.parametrize("sample_rate", RATES)
def test_pesq_of_identity_is_the_maximum_and_noise_lowers_it(sample_rate: int) -> None:
    pytest.importorskip("pesq")
    clean = voice(sample_rate)
    scores = [pesq(clean, clean, sample_rate)]
    assert scores[0] == pytest.approx(BEST_PESQ[sample_rate], abs=1e-3)
    scores += [pesq(noisy(clean, snr_db), clean, sample_rate) for snr_db in (40, 25, 10)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 2
    assert all(type(score) is float for score in scores)


@pytest.mark.parametrize("measure", [stoi, estoi])
@pytest.mark.parametrize("sample_rate", [*RATES, 10000])
def test_intelligibility_of_identity_is_one_and_noise_lowers_it(measure, sample_rate: int) -> None:
    clean = voice(sample_rate)
    scores = [measure(clean, clean, sample_rate)]
    assert scores[0] == pytest.approx(1.0, abs=1e-6)
    scores += [measure(noisy(clean, snr_db), clean, sample_rate) for snr_db in (30, 10, 0, -10)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.6
    assert all(type(score) is float for score in scores)


def test_estimate_comes_before_reference() -> None:
    # Neither measure is symmetric, so the order is seen by calling the packages themselves.
    package = pytest.importorskip("pesq")
    from pystoi import stoi as pystoi_stoi

    clean = voice(8000)
    bad = noisy(clean, 20)
    c, b = clean.numpy(), bad.numpy()
    assert pesq(bad, clean, 8000) == pytest.approx(package.pesq(8000, c, b, "nb"))
    assert abs(package.pesq(8000, c, b, "nb") - package.pesq(8000, b, c, "nb")) > 1e-3
    assert stoi(bad, clean, 8000) == pytest.approx(pystoi_stoi(c, b, 8000), abs=1e-6)
    assert abs(pystoi_stoi(c, b, 8000) - pystoi_stoi(b, c, 8000)) > 1e-3
    assert estoi(bad, clean, 8000) == pytest.approx(pystoi_stoi(c, b, 8000, extended=True), abs=1e-6)
    assert estoi(bad, clean, 8000) == pytest.approx(stoi(bad, clean, 8000, extended=True), abs=1e-6)
    assert estoi(bad, clean, 8000) != pytest.approx(stoi(bad, clean, 8000), abs=1e-2)


@pytest.mark.parametrize("sample_rate", [8000, 10000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("seconds", [1.1, 2.0])
def test_intelligibility_has_the_values_of_pystoi(sample_rate: int, seconds: float) -> None:
    from pystoi import stoi as pystoi_stoi

    clean = voice(sample_rate, seconds)
    clean[: len(clean) // 5] = 0  # some frames to leave out
    for bad in (noisy(clean, 3), clean + 0.5 * clean.roll(1000), noisy(0.01 * clean, -40)):
        for measure, extended in ((stoi, False), (estoi, True)):
            expected = pystoi_stoi(clean.double().numpy(), bad.double().numpy(), sample_rate, extended)
            assert measure(bad, clean, sample_rate) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", [pesq, stoi, estoi])
def test_the_level_of_both_signals_does_not_matter(measure) -> None:
    pytest.importorskip("pesq")
    clean = voice(8000)
    bad = noisy(clean, 10)
    assert measure(0.1 * bad, 0.1 * clean, 8000) == pytest.approx(measure(bad, clean, 8000), abs=1e-3)


@pytest.mark.parametrize("sample_rate", [44100, 10000, 0])
def test_pesq_at_another_rate_is_refused(sample_rate: int) -> None:
    pytest.importorskip("pesq")
    with pytest.raises(SepnetError, match=rf"not at {sample_rate} Hz: resample"):
        pesq(voice(8000), voice(8000), sample_rate)


def test_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(SepnetError, match=r"pip install 'sepnet\[pesq\]'"):
        pesq(voice(8000), voice(8000), 8000)


@pytest.mark.parametrize("measure", [pesq, stoi, estoi])
@pytest.mark.parametrize("sample_rate", RATES)
def test_silence_is_undefined(measure, sample_rate: int) -> None:
    pytest.importorskip("pesq")
    sound = voice(sample_rate)
    silence = torch.zeros_like(sound)
    for estimate, reference in (
        (silence, sound),
        (sound, silence),
        (silence, silence),
        (sound, 1e-4 * sound),
    ):
        assert math.isnan(measure(estimate, reference, sample_rate))


@pytest.mark.parametrize(("measure", "seconds"), [(pesq, 0.2), (stoi, 0.3), (estoi, 0.3)])
@pytest.mark.parametrize("sample_rate", RATES)
def test_too_short_is_undefined(measure, seconds: float, sample_rate: int) -> None:
    pytest.importorskip("pesq")
    sound = voice(sample_rate)[: int(seconds * sample_rate)]
    assert math.isnan(measure(sound, sound, sample_rate))
    assert math.isnan(measure(sound[:1], sound[:1], sample_rate))


def test_stoi_needs_thirty_frames_that_are_not_silent() -> None:
    sound = torch.zeros(16000)
    sound[:2000] = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    assert math.isnan(stoi(sound, sound, 8000))  # 0.25 s are left of 2


def test_pesq_without_an_utterance_is_undefined() -> None:
    package = pytest.importorskip("pesq")
    clean = voice(8000)
    bad = noisy(clean, 0)  # not silent, but nothing stands out of the noise
    with pytest.raises(package.NoUtterancesError):
        package.pesq(8000, bad.numpy(), clean.numpy(), "nb")
    assert math.isnan(pesq(clean, bad, 8000))


@pytest.mark.parametrize("measure", [pesq, stoi, estoi])
def test_wrong_input_is_refused(measure) -> None:
    pytest.importorskip("pesq")
    sound = voice(8000)
    wrong_shape = (SepnetError, jaxtyping.TypeCheckError)
    with pytest.raises(wrong_shape):
        measure(sound[:-1], sound, 8000)
    with pytest.raises(wrong_shape):
        measure(sound[None], sound[None], 8000)
    with pytest.raises(SepnetError, match="the estimate holds samples that are NaN"):
        measure(sound.index_fill(0, torch.tensor([3]), math.nan), sound, 8000)
