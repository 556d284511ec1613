"""AuxIVA and ILRMA separate what rooms mix, at the level of channel 0, and leave no trace behind."""

from __future__ import annotations

import builtins
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sepnet.metrics import si_sdr
from sepnet.separators.ica import convolutive, transform
from sepnet.separators.ica.convolutive import ILRMA, AuxIVA
from sepnet.separators.ica.fastica import FastICA
from sepnet.separators.ica.transform import Transform
from sepnet.types import CannotSeparate, Mixture, SeparationWarning, SepnetError

RATE = 8000
SHORT = {"window_seconds": 0.032, "n_iterations": 20}  # for short rooms


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def syllables(n_sources: int, time: int, seed: int = 0) -> Tensor:
    """Noise (source, time) that comes and goes, each source in its own time and with its own spectrum."""
    coarse = torch.rand(n_sources, -(-time // 800), generator=torch.Generator().manual_seed(seed)) ** 3
    envelope = torch.nn.functional.interpolate(coarse[None], size=time, mode="linear")[0]
    coloured = noise(n_sources, time, seed=seed + 1)
    coloured[:, 1:] += torch.linspace(-0.8, 0.8, n_sources)[:, None] * coloured[:, :-1].clone()
    return 0.1 * envelope * coloured


def in_a_room(n_sources: int, n_channels: int, time: int = 24000, taps: int = 60) -> Mixture:
    """Each source to each microphone through a decaying response of its own; references at channel 0."""
    decay = torch.exp(-torch.arange(taps) / 10.0)
    responses = 0.3 * noise(n_sources, n_channels, taps, seed=5) * decay
    responses[..., 0] += 1.0 - 2.0 * torch.rand(
        n_sources, n_channels, generator=torch.Generator().manual_seed(6)
    )
    n = time + taps
    images = torch.fft.irfft(
        torch.fft.rfft(syllables(n_sources, time)[:, None], n) * torch.fft.rfft(responses, n), n
    )
    images = images[..., :time]
    return Mixture(images.sum(dim=0), RATE, n_sources=n_sources, references=images[:, 0].contiguous())


def mean_gain_db(estimates: Tensor, mixture: Mixture) -> float:
    """SI-SDRi in the best order."""
    references = mixture.references
    assert references is not None
    before = si_sdr(mixture.audio[:1].expand_as(references), references)
    return max(
        float((si_sdr(estimates[list(order)], references) - before).mean())
        for order in permutations(range(len(references)))
    )


@pytest.mark.parametrize("method", [AuxIVA, ILRMA])
@pytest.mark.parametrize(("n_sources", "n_channels"), [(2, 2), (2, 4), (3, 3)])
def test_rooms_are_separated_where_instantaneous_ica_fails(
    method: type[AuxIVA] | type[ILRMA], n_sources: int, n_channels: int
) -> None:
    mixture = in_a_room(n_sources, n_channels)
    estimates = method(**SHORT).separate(mixture).sources
    gain_db = mean_gain_db(estimates, mixture)
    assert gain_db > 5
    assert gain_db > mean_gain_db(FastICA().separate(mixture).sources, mixture) + 3
    torch.testing.assert_close(estimates.sum(dim=0), mixture.audio[0], atol=1e-6, rtol=0)


def test_only_the_seed_of_the_method_matters() -> None:
    mixture = in_a_room(2, 2, 8000)
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one = ILRMA(**SHORT).separate(mixture).sources
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(4)  # noqa: NPY002
    assert torch.equal(ILRMA(**SHORT).separate(mixture).sources, one)
    assert not torch.allclose(ILRMA(**SHORT, seed=1).separate(mixture).sources, one, atol=1e-4)


@pytest.mark.parametrize("time", [700, 5000])
@pytest.mark.parametrize("overlap", [2, 4])
def test_filters_are_applied_as_to_the_whole_spectrum(
    monkeypatch: pytest.MonkeyPatch, time: int, overlap: int
) -> None:
    stft = Transform.of_duration(0.032, RATE, overlap)
    assert (stft.window_samples, stft.hop_samples) == (256, 256 // overlap)
    audio = noise(3, time)
    filters = torch.complex(noise(129, 2, 3), noise(129, 2, 3, seed=1)).to(torch.complex128)
    spectra = torch.einsum("fsc,cft->sft", filters, stft(audio))
    expected = torch.istft(
        spectra, 256, 256 // overlap, window=torch.hann_window(256, dtype=torch.float64), length=time
    ).float()
    # Here silence goes on around the signal, and frames with it; torch.istft has none centred out there.
    inner = slice(256, time - 256)
    for block in (1, 1000, 1 << 17):
        monkeypatch.setattr(transform, "BLOCK_SAMPLES", block)
        found = stft.filter(filters, audio)
        assert found.shape == (2, time)
        torch.testing.assert_close(found[:, inner], expected[:, inner], atol=1e-5, rtol=1e-5)
    whole = torch.eye(3, dtype=torch.complex128).expand(129, 3, 3)
    torch.testing.assert_close(stft.filter(whole, audio), audio, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", [AuxIVA, ILRMA])
def test_inseparable_mixtures_are_refused(method: type[AuxIVA] | type[ILRMA]) -> None:
    separator = method()
    with pytest.raises(CannotSeparate, match="needs 2 channels for 2 sources, but the mixture has 1"):
        separator.separate(Mixture(noise(1, 9000), RATE, n_sources=2))
    with pytest.raises(CannotSeparate, match="have rank 1"):
        separator.separate(Mixture(noise(1, 9000).expand(2, -1), RATE, n_sources=2))
    with pytest.raises(CannotSeparate, match=r"needs 0\.51 s or more .* window of 0\.256 s"):
        method(window_seconds=0.256).separate(Mixture(noise(2, 4000), RATE, n_sources=2))
    silent = separator.separate(Mixture(torch.zeros(2, 9000), RATE, n_sources=2)).sources
    assert torch.equal(silent, torch.zeros(2, 9000))


def test_digital_silence_in_time_and_frequency_does_no_harm() -> None:
    mixture = in_a_room(2, 2, 16000)
    spectra = torch.fft.rfft(mixture.audio)
    spectra[:, spectra.shape[1] // 2 :] = 0  # as after an upsampling
    audio = torch.fft.irfft(spectra, 16000)
    audio[:, 6000:9000] = 0
    for method in (AuxIVA, ILRMA):
        estimates = method(**SHORT).separate(Mixture(audio, RATE, n_sources=2)).sources
        assert estimates.isfinite().all()
        assert estimates.abs().max() < 10 * audio.abs().max()


def test_a_missing_package_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pyroomacoustics":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for method in (AuxIVA, ILRMA):
        with pytest.raises(SepnetError, match=r"pip install 'sepnet\[rooms\]'"):
            method()


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(SepnetError, match="window_seconds=0"):
        AuxIVA(window_seconds=0.0)
    with pytest.raises(SepnetError, match="overlap=1"):
        ILRMA(overlap=1)


def breaking_after(n_iterations: int) -> Any:
    """pyroomacoustics, but dividing by zero in one place once it has gone further than that."""
    real = convolutive._pyroomacoustics()

    def auxiva(z: np.ndarray, n_iter: int, **settings: Any) -> np.ndarray:
        y: np.ndarray = real.bss.auxiva(z, n_iter=n_iter, **settings).copy()
        if n_iter > n_iterations:
            y[3, 5, 0] = np.nan
        return y

    return SimpleNamespace(bss=SimpleNamespace(auxiva=auxiva, ilrma=real.bss.ilrma))


def test_iterations_that_divide_by_zero_are_undone_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = in_a_room(2, 2)
    fewer = AuxIVA(**{**SHORT, "n_iterations": 5}).separate(mixture).sources
    breaking, broken = breaking_after(9), breaking_after(0)
    monkeypatch.setattr(convolutive, "_pyroomacoustics", lambda: breaking)
    with pytest.warns(SeparationWarning, match=r"stopped after 25% of the iterations"):
        found = AuxIVA(**SHORT).separate(mixture).sources
    assert torch.equal(found, fewer)
    monkeypatch.setattr(convolutive, "_pyroomacoustics", lambda: broken)
    for method in (AuxIVA(**SHORT), ILRMA(**SHORT)):
        with pytest.raises(CannotSeparate, match="in some frequency"):
            method.separate(mixture)
