"""Harmonic-percussive separation and REPET: what each is made for, it separates."""

from __future__ import annotations

import math

import pytest
import scipy
import torch
from torch import Tensor

from sepnet.dsp import median
from sepnet.dsp.median import running_median
from sepnet.metrics import si_sdr
from sepnet.separators.hpss import HPSS
from sepnet.separators.repet import REPET, beat_spectrum, repeating
from sepnet.types import CannotSeparate, Mixture, SepnetError

RATE = 8000


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tones(seconds: float) -> Tensor:
    time = torch.arange(round(seconds * RATE)) / RATE
    return 0.1 * sum(torch.sin(2 * math.pi * pitch * time) for pitch in (310.0, 620.0, 1270.0))


def strokes(seconds: float, *, every: float = 0.5) -> Tensor:
    signal = torch.zeros(round(seconds * RATE))
    burst = noise(64) * torch.exp(-torch.arange(64) / 12.0)
    for start in range(RATE // 8, len(signal) - 64, round(every * RATE)):
        signal[start : start + 64] = burst
    return signal


def gains_db(separated: Tensor, references: Tensor) -> list[float]:
    mixture = references.sum(dim=0).expand_as(references)
    return (si_sdr(separated, references) - si_sdr(mixture, references)).tolist()


def test_hpss_separates_tones_and_strokes() -> None:
    references = torch.stack([tones(3.0), strokes(3.0)])
    separation = HPSS().separate(Mixture(references.sum(dim=0, keepdim=True), RATE))
    assert separation.labels == ("harmonic", "percussive")
    assert min(gains_db(separation.sources, references)) > 10


@pytest.mark.parametrize(("signal", "source"), [(tones(2.0), 0), (strokes(2.0), 1)])
def test_hpss_keeps_signals_of_one_kind_in_one_part(signal: Tensor, source: int) -> None:
    sources = HPSS().separate(Mixture(signal[None], RATE)).sources
    energy = sources[:, RATE // 4 : -RATE // 4].square().sum(dim=1)
    assert energy[source] > 50 * energy[1 - source]


def test_hpss_refuses_settings_out_of_range() -> None:
    with pytest.raises(SepnetError, match=r"harmonic_seconds=0"):
        HPSS(harmonic_seconds=0.0)


@pytest.mark.parametrize("length", [1, 3, 5, 9, 17, 31, 45])
@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (30, 7), (100, 40)])
def test_the_running_median_is_that_of_scipy(length: int, shape: tuple[int, int]) -> None:
    for values in (noise(*shape, seed=length), noise(*shape, seed=length).round()):  # also with many ties
        expected = scipy.ndimage.median_filter(values.numpy(), size=(length, 1), mode="nearest")
        assert torch.equal(running_median(values, length), torch.from_numpy(expected))


def test_the_running_median_does_not_depend_on_the_size_of_its_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = noise(40, 50)
    expected = running_median(values, 17)
    monkeypatch.setattr(median, "BLOCK_ENTRIES", 130)
    assert torch.equal(running_median(values, 17), expected)
    assert torch.equal(running_median(values.mT.contiguous().mT, 17), expected)


def test_the_beat_spectrum_is_the_mean_of_products() -> None:
    power = noise(5, 40).square()
    found = beat_spectrum(power)
    for lag in (0, 1, 7, 39):
        wanted = (power[:, : 40 - lag] * power[:, lag:]).mean()
        assert float(found[lag]) == pytest.approx(float(wanted), rel=1e-4)


def test_the_repeating_part_is_the_median_of_the_periods_up_to_the_mixture() -> None:
    pattern = noise(4, 10).abs()
    periods = pattern.repeat(1, 4)[:, :37]  # the last one cut off
    with_more = periods.clone()
    with_more[2, 12] += 5.0  # once only
    with_less = periods.clone()
    with_less[1, 3] = 0.0
    assert torch.equal(repeating(with_more, 10), periods)
    assert torch.equal(repeating(with_less, 10), with_less)


def test_repet_separates_a_loop_and_its_foreground() -> None:
    loop = torch.cat([noise(RATE // 2), 0.2 * noise(RATE // 2, seed=1)]).repeat(8) * 0.1
    time = torch.arange(len(loop)) / RATE
    voice = 0.1 * torch.sin(2 * math.pi * (300 * time + 80 * time.square()))  # rises, and never comes back
    references = torch.stack([loop, voice])
    separation = REPET().separate(Mixture(references.sum(dim=0, keepdim=True), RATE))
    assert separation.labels == ("repeating", "foreground")
    assert min(gains_db(separation.sources, references)) > 12


def test_repet_refuses_short_mixtures_and_settings_out_of_range() -> None:
    with pytest.raises(CannotSeparate, match=r"3 repetitions of a period of 0\.8 s, but the mixture has"):
        REPET().separate(Mixture(noise(1, RATE), RATE))
    with pytest.raises(SepnetError, match=r"period_seconds=\[2\.0, 1\.0\]"):
        REPET(period_seconds=(2.0, 1.0))
