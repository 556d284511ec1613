"""Separators around a separator."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sepnet.dsp.masks import ideal_binary_mask, ideal_ratio_mask
from sepnet.inference.stages import Consistent, Resampled
from sepnet.metrics import snr
from sepnet.separators.oracle.masks import OracleMask
from sepnet.types import Mixture, Query, Separation, Separator, SeparatorInfo
from tests.separator_cases import RATE, noise


class Spy:
    """Takes note of what it is given, and returns the mixture and its negative."""

    info = SeparatorInfo(needs=frozenset({"queries", "references", "n_sources"}))

    def separate(self, mixture: Mixture) -> Separation:
        self.seen = mixture
        return Separation(torch.stack([mixture.audio[0], -mixture.audio[0]]), labels=("plus", "minus"))


def tones(sample_rate: int, seconds: float = 0.5) -> Tensor:
    """(source, time): two sources with nothing above 3.2 kHz."""
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    hertz = torch.tensor([[200.0, 900.0, 2500.0], [450.0, 1500.0, 3200.0]])
    return 0.1 * torch.sin(2 * math.pi * hertz[..., None] * time).sum(dim=1)


@pytest.mark.parametrize("sample_rate", [16000, 44100, 48000, 11025, 8000, 6000])
@pytest.mark.parametrize("time", [1, 2, 999, 4001])
def test_resampling_gives_length_rate_and_labels_back(sample_rate: int, time: int) -> None:
    spy = Spy()
    audio = noise(2, time)
    query = Query(noise(500), 16000, "a sound")
    mixture = Mixture(audio, sample_rate, n_sources=2, queries=(query,), references=noise(3, time))
    separation = Resampled(spy, sample_rate=RATE).separate(mixture)
    assert separation.sources.shape == (2, time)
    assert separation.labels == ("plus", "minus")
    inside = -(-time * RATE // sample_rate)
    assert spy.seen.sample_rate == RATE
    assert spy.seen.audio.shape == (2, inside)
    assert spy.seen.references.shape == (3, inside)
    assert spy.seen.n_sources == 2
    if sample_rate != RATE:
        assert [(q.audio.shape[0], q.sample_rate, q.label) for q in spy.seen.queries] == [
            (250, RATE, "a sound")
        ]
    assert Resampled(spy, sample_rate=RATE).info.needs == spy.info.needs


@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_what_lies_below_the_inner_rate_comes_back_unharmed(sample_rate: int) -> None:
    sources = tones(sample_rate)
    mixture = Mixture(sources.sum(dim=0, keepdim=True), sample_rate, references=sources)
    resampled = Resampled(OracleMask(mask=ideal_binary_mask), sample_rate=RATE)
    estimates = resampled.separate(mixture).sources
    inner = slice(sample_rate // 20, -sample_rate // 20)  # a filter has no signal to go on at the ends
    scores = snr(estimates[:, inner], sources[:, inner])
    direct = snr(OracleMask(mask=ideal_binary_mask).separate(mixture).sources[:, inner], sources[:, inner])
    assert scores.min() > 25
    assert (scores > direct - 6).all()
    spied = Resampled(Spy(), sample_rate=RATE)
    mixture = replace(mixture, n_sources=2, queries=())
    through = spied.separate(mixture).sources[0]
    assert snr(through[inner], mixture.audio[0, inner]) > 45


def test_the_same_rate_passes_untouched() -> None:
    mixture = Mixture(noise(1, 100), RATE, n_sources=2, queries=(), references=noise(2, 100))
    spy = Spy()
    Resampled(spy, sample_rate=RATE).separate(mixture)
    assert spy.seen is mixture


def test_consistent_estimates_sum_to_channel_0() -> None:
    mixture = Mixture(noise(3, 500), RATE, n_sources=2, queries=(), references=noise(2, 500))
    separator = Consistent(Spy())
    separation = separator.separate(mixture)
    torch.testing.assert_close(separation.sources.sum(dim=0), mixture.audio[0])
    torch.testing.assert_close(separation.sources, 1.5 * mixture.audio[:1] * torch.tensor([[1.0], [-1 / 3]]))
    assert separation.labels == ("plus", "minus")
    assert separator.info.needs == Spy.info.needs


def test_wrappers_wrap_wrappers() -> None:
    sources = tones(16000) + 0.05 * noise(2, 8000)  # with a high band, which the inner rate loses
    mixture = Mixture(sources.sum(dim=0, keepdim=True), 16000, references=sources)
    separator = Consistent(Resampled(OracleMask(mask=ideal_ratio_mask), sample_rate=RATE))
    assert isinstance(separator, Separator)
    estimates = separator.separate(mixture.only(separator.info.needs)).sources
    torch.testing.assert_close(estimates.sum(dim=0), mixture.audio[0], atol=1e-6, rtol=1e-5)
