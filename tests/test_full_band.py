"""The band above a model's: what laws its shares obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sepnet.dsp.resample import resample
from sepnet.inference.full_band import extend_to_full_band
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.types import Mixture, Query, Separation, SeparatorInfo

RATE, MODEL_RATE, EDGE = 16000, 8000, 4000.0


def band(low: float, high: float, *, seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> Tensor:
    """(time,): noise with an RMS of about 0.1 and nothing outside of ``low`` to ``high`` Hz."""
    time = round(seconds * rate)
    spectrum = torch.fft.rfft(torch.randn(time, generator=torch.Generator().manual_seed(seed)))
    hertz = torch.fft.rfftfreq(time, 1 / rate)
    signal = torch.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), n=time)
    return 0.1 * signal / signal.square().mean().sqrt()


def tone(hertz: float, *, seconds: float = 1.0, rate: int = RATE) -> Tensor:
    """(time,)."""
    return 0.1 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def power(signal: Tensor, low: float, high: float, rate: int = RATE) -> Tensor:
    """(*batch): the energy from ``low`` to ``high`` Hz."""
    hertz = torch.fft.rfftfreq(signal.shape[-1], 1 / rate)
    spectrum = torch.fft.rfft(signal.double() * torch.hann_window(signal.shape[-1], dtype=torch.float64))
    return spectrum[..., (hertz >= low) & (hertz < high)].abs().square().sum(dim=-1)


def in_band(signal: Tensor, rate: int = RATE) -> Tensor:
    """What a model at ``MODEL_RATE`` gives back of a signal that it does not change."""
    there = resample(signal, rate, MODEL_RATE)
    return resample(there, MODEL_RATE, rate)[..., : signal.shape[-1]]


def extend(estimates: Tensor, mixture: Tensor, rate: int = RATE) -> Tensor:
    return extend_to_full_band(estimates, mixture, sample_rate=rate, edge_hz=EDGE)


class PerfectAt8k:
    """Gives back sources that it knows, at its own rate."""

    def __init__(self, sources: Tensor, *, n_queries: int = 0) -> None:
        self.sources = sources
        needs = frozenset({"queries"} if n_queries else ())
        self.info = SeparatorInfo(needs=needs, sample_rate=MODEL_RATE)

    def separate(self, mixture: Mixture) -> Separation:
        assert mixture.sample_rate == MODEL_RATE
        return Separation(self.sources[:, : mixture.audio.shape[-1]])


def frame_by_frame(estimates: Tensor, mixture: Tensor, rate: int, window: int) -> Tensor:
    """The same through the recording's STFT: every frame is transformed, shared, and transformed back."""
    kept = in_band(mixture, rate)
    signals = torch.cat([estimates, (kept - estimates.sum(dim=0))[None]]).double().numpy()
    lost, hop = (mixture - kept).double().numpy(), window // 2
    taper = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window))
    hertz = np.fft.rfftfreq(window, 1 / rate)
    extended = np.pad(signals[:-1], ((0, 0), (hop, 2 * window)))
    for start in range(0, signals.shape[-1] + hop, hop):  # in signals with a hop of zeros before them
        frames = np.pad(signals, ((0, 0), (hop, 2 * window)))[:, start : start + window]
        powers = np.abs(np.fft.rfft(frames * taper**2)) ** 2
        octave = powers[:, (hertz >= EDGE / 2) & (hertz <= EDGE)].sum(axis=-1)
        top = powers[:, (hertz >= 3 * EDGE / 4) & (hertz <= EDGE)].sum(axis=-1)
        two_octaves = powers[:, (hertz >= EDGE / 4) & (hertz <= EDGE)].sum(axis=-1)
        active = octave / octave.sum()
        weights = active / (active + 0.01) * (top / two_octaves + 0.03) ** 2
        spectrum = np.fft.rfft(np.pad(lost, (hop, 2 * window))[start : start + window] * taper)
        shares = (weights / weights.sum())[:-1, None] * spectrum
        extended[:, start : start + window] += np.fft.irfft(shares, n=window) * taper
    return torch.from_numpy(extended[:, hop : hop + signals.shape[-1]]).float()


@pytest.mark.parametrize(("rate", "window"), [(16000, 1024), (44100, 2822)])
def test_it_is_a_share_of_each_frame_of_the_recordings_stft(rate: int, window: int) -> None:
    sources = torch.stack([band(50, rate / 2, rate=rate, seed=1), 2 * band(300, 3000, rate=rate, seed=2)])
    sources *= 1 + torch.sin(2 * math.pi * torch.tensor([[3.0], [5.0]]) * torch.arange(rate) / rate)
    estimates, mixture = 0.9 * in_band(sources, rate), sources.sum(dim=0)
    expected = frame_by_frame(estimates, mixture, rate, window)
    torch.testing.assert_close(extend(estimates, mixture, rate), expected, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("rate", [11025, 16000, 22050, 44100, 48000, 192000])
def test_the_estimates_sum_to_the_mixture_at_any_rate(rate: int) -> None:
    sources = torch.stack([band(100, rate / 2, seconds=0.5, rate=rate, seed=seed) for seed in (1, 2, 3)])
    mixture = sources.sum(dim=0)
    extended = extend(in_band(sources, rate), mixture, rate)
    assert (extended.sum(dim=0) - mixture).abs().max() < 1e-5 * mixture.abs().max()
    above = power(in_band(sources, rate), 1.25 * EDGE, rate / 2, rate)
    assert (power(extended, 1.25 * EDGE, rate / 2, rate) > 100 * above).all()


def test_below_the_edge_nothing_changes() -> None:
    sources = torch.stack([band(100, 8000, seed=1), band(100, 8000, seed=2)])
    estimates = in_band(sources)
    changes = extend(estimates, sources.sum(dim=0)) - estimates
    # The resampler keeps the level to within 0.02 dB up to 0.8 of the edge: 53 dB below.
    assert (power(changes, 0, 0.8 * EDGE) < 1e-5 * power(estimates, 0, 0.8 * EDGE)).all()
    assert (power(changes, EDGE, 8000) > 100 * power(changes, 0, 0.8 * EDGE)).all()


def test_nothing_is_doubled_or_lost_around_the_edge() -> None:
    source = band(3000, 5000)
    extended = extend(torch.stack([in_band(source), torch.zeros(RATE)]), source)
    torch.testing.assert_close(extended[0], source, atol=1e-6, rtol=0)


def test_a_source_alone_gets_the_whole_band() -> None:
    source = band(100, 8000)
    extended = extend(torch.stack([torch.zeros(RATE), in_band(source)]), source)
    torch.testing.assert_close(extended[1], source, atol=1e-6, rtol=0)
    assert (extended[0].abs() < 1e-6).all()


def test_leakage_gets_next_to_nothing() -> None:
    source = band(100, 8000)
    estimates = torch.stack([0.99 * in_band(source), 0.01 * in_band(source)])  # 40 dB below
    energies = power(extend(estimates, source), 5000, 8000)
    assert energies[1] < 2e-4 * energies[0]


def test_a_tone_above_the_edge_follows_the_source_that_is_active_below_it() -> None:
    half = RATE // 2
    sources = torch.stack([tone(2500), tone(2700)])
    sources[0, half:], sources[1, :half] = 0, 0
    high = tone(6000)
    extended = extend(in_band(sources), sources.sum(dim=0) + high)
    margin = RATE // 10  # windows that hear both
    first, second = slice(margin, half - margin), slice(half + margin, RATE - margin)
    for active, silent, part in ((0, 1, first), (1, 0, second)):
        wanted = power(high[part], 5800, 6200)
        assert power(extended[active, part], 5800, 6200) > 0.98 * wanted
        assert power(extended[silent, part], 5800, 6200) < 1e-4 * wanted


def test_the_brighter_source_gets_more() -> None:
    """A fricative beside a vowel that is louder in the top octave, as speech has them."""
    vowel = 3 * band(100, 2500, seed=1) + 0.2 * band(2500, 4000, seed=2)
    fricative = 0.3 * band(3000, 8000, seed=3)
    sources = torch.stack([vowel, fricative])
    estimates = in_band(sources)
    energies = power(estimates, 2000, 4000)
    assert energies[0] > 4 * energies[1]
    extended = power(extend(estimates, sources.sum(dim=0)), 5000, 8000)
    assert extended[1] > 100 * extended[0]


def test_equal_sources_share_equally() -> None:
    source = band(100, 8000)
    extended = extend(in_band(source).expand(4, -1) / 4, source)
    torch.testing.assert_close(extended, source.expand(4, -1) / 4, atol=1e-6, rtol=0)


def test_the_order_of_the_sources_does_not_matter() -> None:
    sources = torch.stack([band(100, 8000, seed=1), 0.5 * band(50, 3000, seed=2), band(2000, 6000, seed=3)])
    estimates, mixture, order = in_band(sources), sources.sum(dim=0), torch.tensor([2, 0, 1])
    torch.testing.assert_close(extend(estimates[order], mixture), extend(estimates, mixture)[order])


@pytest.mark.parametrize("gain", [1e-12, 1e-3, 7.0, 1e6])
def test_the_scale_is_kept(gain: float) -> None:
    sources = torch.stack([band(100, 8000, seed=1), 0.5 * band(50, 3000, seed=2)])
    estimates, mixture = in_band(sources), sources.sum(dim=0)
    scaled = extend(gain * estimates, gain * mixture) / gain
    torch.testing.assert_close(scaled, extend(estimates, mixture), atol=1e-5, rtol=1e-4)


def test_silence_stays_silent() -> None:
    assert not extend(torch.zeros(3, 5000), torch.zeros(5000)).any()


@pytest.mark.parametrize("time", [1, 2, 31, 511, 512, 513, 1024, 1025])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_recordings_shorter_than_a_window(time: int, rate: int) -> None:
    sources = torch.randn(2, time, generator=torch.Generator().manual_seed(time))
    mixture = sources.sum(dim=0)
    before = mixture.clone()
    extended = extend(in_band(sources, rate), mixture, rate)
    assert extended.shape == (2, time)
    assert extended.dtype == torch.float32
    torch.testing.assert_close(extended.sum(dim=0), mixture, atol=1e-5, rtol=0)
    assert torch.equal(mixture, before)


@pytest.mark.parametrize("rate", [4000, 8000])
def test_no_more_than_the_band_of_the_model_is_left_alone(rate: int) -> None:
    estimates = torch.randn(2, 500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(extend(estimates, torch.ones(500), rate), estimates)


def test_what_no_estimate_holds_keeps_its_share() -> None:
    """Of two equal halves one is an estimate: it gets half of the band, and not all of it."""
    half = 0.5 * band(100, 8000)
    extended = extend(in_band(half)[None], 2 * half)
    torch.testing.assert_close(extended[0], half, atol=1e-6, rtol=0)


def test_shares_are_between_0_and_1() -> None:
    sources = torch.stack([band(100, 8000, seed=1), -0.7 * band(2000, 6000, seed=2), band(50, 900, seed=3)])
    estimates = in_band(1.5 * sources)  # more than the mixture holds
    high = band(5500, 8000, seed=4)
    gains = extend(estimates, high) - estimates
    inner = slice(2000, -2000)
    shares = (gains[:, inner] * high[inner]).sum(dim=-1) / high[inner].square().sum()
    assert (shares >= 0).all()
    assert shares.sum() < 1


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.3, 2.5])
def test_a_pipeline_returns_the_whole_spectrum(rate: int, seconds: float) -> None:
    sources = torch.stack([band(100, rate / 2, seconds=seconds, rate=rate, seed=seed) for seed in (1, 2)])
    sources[1] = band(100, 1500, seconds=seconds, rate=rate)
    mixture = Mixture(sources.sum(dim=0, keepdim=True), rate)
    separator = PerfectAt8k(resample(sources, rate, MODEL_RATE))
    extended = Pipeline(separator).separate(mixture).sources
    level = mixture.audio.abs().max()
    assert (extended.sum(dim=0) - mixture.audio[0]).abs().max() < 1e-5 * level
    whole = power(sources[0], 1.25 * EDGE, rate / 2, rate)
    assert power(extended[0], 1.25 * EDGE, rate / 2, rate) > 0.95 * whole
    assert power(extended[1], 1.25 * EDGE, rate / 2, rate) < 1e-3 * whole
    settings = PipelineSettings(full_band=False, consistent=False)
    dropped = Pipeline(separator, settings).separate(mixture).sources
    assert (power(dropped, 1.25 * EDGE, rate / 2, rate) < 1e-4 * whole).all()


def test_targets_of_several_queries_get_no_more_than_there_is() -> None:
    sources = torch.stack([band(100, 8000, seed=seed) for seed in (1, 2, 3)])
    targets = resample(sources[:2], RATE, MODEL_RATE)
    mixture = Mixture(
        sources.sum(dim=0, keepdim=True), RATE, queries=(Query(sources[0], RATE), Query(sources[1], RATE))
    )
    extended = Pipeline(PerfectAt8k(targets, n_queries=2)).separate(mixture).sources
    shares = power(extended, 5000, 8000).sqrt() / power(mixture.audio[0], 5000, 8000).sqrt()
    torch.testing.assert_close(shares, torch.full((2,), 1 / 3, dtype=shares.dtype), atol=0.05, rtol=0)
