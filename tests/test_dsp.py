"""Laws of filterbanks, ideal masks, loudness and mixture consistency."""

from __future__ import annotations

import math
from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest
import torch
from conftest import CHECK_ANNOTATIONS
from scipy.signal import freqz_sos, get_window
from torch import Tensor
from torch.nn import functional as F

import sepnet
from sepnet.dsp import filterbank
from sepnet.dsp.consistency import make_consistent, scale_to_mixture
from sepnet.dsp.fast_stft import FastSTFT
from sepnet.dsp.filterbank import STFT, Filterbank, LearnedFilterbank
from sepnet.dsp.loudness import integrated_loudness, k_weighting
from sepnet.dsp.masks import (
    amplitude_mask,
    complex_ratio_mask,
    ideal_binary_mask,
    ideal_ratio_mask,
    phase_sensitive_mask,
    wiener_mask,
)
from sepnet.dsp.mirrored_stft import MirroredSTFT
from sepnet.types import SepnetError

MASKS = (ideal_binary_mask, ideal_ratio_mask, wiener_mask)
Mask = Callable[[Tensor], Tensor]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spectra(*shape: int, seed: int = 0) -> Tensor:
    return torch.complex(noise(*shape, seed=seed), noise(*shape, seed=seed + 1))


# Filterbanks

WINDOWS = [
    (256, 64, "hann"), (256, 128, "hann"), (256, 64, "sqrt_hann"), (256, 128, "sqrt_hann"),
    (256, 96, "hann"), (100, 30, "hamming"), (64, 64, "boxcar"), (64, 48, "sqrt_hann"), (2, 1, "boxcar"),
]  # fmt: skip


@pytest.mark.parametrize(("window_samples", "hop_samples", "window"), WINDOWS)
@pytest.mark.parametrize("time", [1, 2, 63, 64, 65, 777, 1024])
def test_stft_inverts_from_the_first_sample_to_the_last(
    window_samples: int, hop_samples: int, window: str, time: int
) -> None:
    stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window=window)
    signal = noise(2, 3, time)
    spectrogram = stft.spectrogram(signal)
    assert spectrogram.shape == (2, 3, window_samples // 2 + 1, stft.n_frames(time))
    torch.testing.assert_close(stft.invert(spectrogram, time), signal, atol=1e-5, rtol=0)
    torch.testing.assert_close(stft.invert(spectrogram[0, 0], time), signal[0, 0], atol=1e-5, rtol=0)


def test_the_hann_window_is_that_of_scipy_to_the_last_bit() -> None:
    for window_samples in range(2, 2050, 2):
        assert np.array_equal(filterbank._hann(window_samples), get_window("hann", window_samples))


@pytest.mark.parametrize(("window_samples", "hop_samples", "window"), WINDOWS[:6])
def test_stft_is_that_of_torch(window_samples: int, hop_samples: int, window: str) -> None:
    time = 777
    stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window=window)
    signal = noise(2, time)
    shape = torch.from_numpy(get_window(window.removeprefix("sqrt_"), window_samples)).float()
    left = window_samples - hop_samples
    right = (stft.n_frames(time) - 1) * hop_samples + window_samples - left - time
    theirs = torch.stft(
        torch.nn.functional.pad(signal, (left, right)),
        n_fft=window_samples, hop_length=hop_samples, window=shape.sqrt() if "sqrt" in window else shape,
        center=False, return_complex=True,
    )  # fmt: skip
    scale = torch.full((window_samples // 2 + 1, 1), 2 * math.sqrt(hop_samples) / window_samples)
    scale[[0, -1]] *= math.sqrt(0.5)
    torch.testing.assert_close(stft.spectrogram(signal), theirs * scale, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("hop_samples", [64, 128])
def test_power_is_kept(hop_samples: int) -> None:
    # Parseval: the squares of a sqrt_hann window sum to window / (2 hop) at each sample.
    signal = noise(1, 5000)
    energy = STFT(hop_samples=hop_samples).spectrogram(signal).abs().square().sum()
    assert energy.item() == pytest.approx(signal.square().sum().item(), rel=1e-4)


@pytest.mark.parametrize("k", [1, 17, 100])
def test_a_tone_is_in_its_bin(k: int) -> None:
    stft = STFT(window_samples=256, hop_samples=64, window="boxcar")
    tone = torch.sin(2 * math.pi * k / 256 * torch.arange(2048))
    inside = stft.spectrogram(tone[None])[0].abs()[:, 4:-4]  # the frames that it fills
    assert (inside.argmax(dim=0) == k).all()
    others = torch.cat([inside[:k], inside[k + 1 :]])
    assert others.max() < 1e-4 * inside[k].min()


def test_frames_cover_each_sample_alike() -> None:
    # The squares of a hann window at a quarter of its length sum to 3/2 everywhere, also at the ends.
    stft = STFT(window_samples=256, hop_samples=64, window="hann")
    for time in (1, 64, 65, 1000):
        impulses = torch.eye(time)[[0, time // 2, time - 1]]
        energy = stft.spectrogram(impulses).abs().square().sum(dim=(1, 2))
        assert energy.tolist() == pytest.approx([1.5 * 2 * 64 / 256] * 3, rel=1e-5)


def test_a_hop_that_loses_samples_is_refused() -> None:
    with pytest.raises(SepnetError, match="under no window"):
        STFT(window_samples=256, hop_samples=256, window="hann")
    for window_samples, hop_samples in ((255, 64), (256, 0), (256, 257)):
        with pytest.raises(
            SepnetError, match=f"window_samples={window_samples} and hop_samples={hop_samples}"
        ):
            STFT(window_samples=window_samples, hop_samples=hop_samples)
    with pytest.raises(SepnetError, match="hop is 17"):
        LearnedFilterbank(window_samples=16, hop_samples=17)


@pytest.mark.parametrize(("window_samples", "hop_samples"), [(16, 8), (32, 16), (20, 7)])
def test_learned_filters_have_the_shapes_that_they_promise(window_samples: int, hop_samples: int) -> None:
    bank = LearnedFilterbank(
        n_filters=24, window_samples=window_samples, hop_samples=hop_samples, rectified=True
    )
    assert bank.n_channels == 24
    assert sum(p.numel() for p in bank.parameters()) == 2 * 24 * window_samples
    for time in (1, window_samples, 501):
        coefficients = bank.encode(noise(3, time))
        assert coefficients.shape == (3, 24, bank.n_frames(time))
        assert (coefficients >= 0).all()
        assert bank.decode(coefficients, time).shape == (3, time)
        several = coefficients[:, None].expand(3, 2, 24, -1)
        torch.testing.assert_close(bank.decode(several, time)[:, 1], bank.decode(coefficients, time))
        loss = bank.decode(coefficients, time).square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in bank.parameters())


@pytest.mark.parametrize("make", [STFT, LearnedFilterbank])
def test_filterbanks_are_linear_in_time_and_keep_float32_under_autocast(
    make: Callable[[], Filterbank],
) -> None:
    bank = make()
    signal = noise(1, 1000)
    hop = bank.hop_samples
    later = torch.nn.functional.pad(signal, (hop, 0))
    torch.testing.assert_close(bank.encode(later)[..., 1:], bank.encode(signal), atol=1e-6, rtol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coefficients = bank.encode(signal)
        decoded = bank.decode(coefficients, 1000)
    assert coefficients.dtype == decoded.dtype == torch.float32
    assert torch.equal(coefficients, bank.encode(signal))
    assert torch.equal(decoded, bank.decode(coefficients, 1000))


# Masks


def test_masks_of_a_bin_worked_out_by_hand() -> None:
    sources = torch.tensor([3.0, -1.0j])[:, None, None]  # magnitudes 3 and 1, a quarter turn apart
    assert ideal_ratio_mask(sources).flatten().tolist() == pytest.approx([3 / 4, 1 / 4])
    assert wiener_mask(sources).flatten().tolist() == pytest.approx([9 / 10, 1 / 10])
    assert ideal_binary_mask(sources).flatten().tolist() == [1.0, 0.0]
    mixture = sources.sum(dim=0)  # 3 - i, of power 10
    assert phase_sensitive_mask(sources, mixture).flatten().tolist() == pytest.approx([9 / 10, 1 / 10])
    opposed = torch.tensor([3.0 + 0j, -1.0])[:, None, None]
    mixture = opposed.sum(dim=0)
    assert phase_sensitive_mask(opposed, mixture, truncate=False).flatten().tolist() == pytest.approx(
        [1.5, -0.5]
    )
    assert phase_sensitive_mask(opposed, mixture).flatten().tolist() == [1.0, 0.0]


@pytest.mark.parametrize("n_sources", [1, 2, 3, 5])
@pytest.mark.parametrize("level", [1e-30, 1e-15, 1.0, 1e15])
@pytest.mark.parametrize("mask", MASKS)
def test_masks_share_the_mixture_out(mask: Mask, level: float, n_sources: int) -> None:
    sources = spectra(2, n_sources, 9, 7) * level
    sources[0, :, 0] = 0  # silent bins, and a silent source
    sources[1, 0] = 0
    masks = mask(sources)
    assert masks.shape == sources.shape
    assert ((masks >= 0) & (masks <= 1)).all()
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(2, 9, 7))
    assert torch.equal(masks[0, :, 0], torch.full((n_sources, 7), 1 / n_sources))
    if n_sources > 1 and level in (1.0, 1e-15):
        assert torch.equal(masks[1, 0], torch.zeros(9, 7))


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_independent_of_phase_level_and_order(mask: Mask) -> None:
    sources = spectra(3, 9, 7)
    turned = sources * torch.polar(torch.ones(3, 9, 7), 6 * noise(3, 9, 7, seed=9)) * 0.01
    torch.testing.assert_close(mask(turned), mask(sources))
    torch.testing.assert_close(mask(sources[[2, 0, 1]]), mask(sources)[[2, 0, 1]])


def test_binary_masks_choose_the_loudest_and_share_ties() -> None:
    sources = spectra(4, 9, 7)
    masks = ideal_binary_mask(sources)
    assert torch.equal(masks.argmax(dim=0), sources.abs().argmax(dim=0))
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    tied = torch.tensor([2.0 + 0j, -2.0, 1.0])[:, None, None]
    assert ideal_binary_mask(tied).flatten().tolist() == [0.5, 0.5, 0.0]


def test_the_phase_sensitive_mask_is_the_best_real_one() -> None:
    # Erdogan et al. 2015: it minimises |M Y - S| over real M, so any other is worse.
    sources = spectra(2, 9, 7)
    mixture = sources.sum(dim=0)
    masks = phase_sensitive_mask(sources, mixture, truncate=False)
    torch.testing.assert_close(masks.sum(dim=0), torch.ones(9, 7))
    error = (masks * mixture - sources).abs()
    for other in (masks + 0.01, masks - 0.01, ideal_ratio_mask(sources), wiener_mask(sources)):
        assert ((other * mixture - sources).abs() >= error - 1e-6).all()
    assert phase_sensitive_mask(torch.zeros(2, 1, 1) + 0j, torch.zeros(1, 1) + 0j).tolist() == [
        [[0.0]],
        [[0.0]],
    ]


def test_the_amplitude_mask_is_right_in_each_magnitude() -> None:
    sources = spectra(3, 9, 7)
    mixture = sources.sum(dim=0)
    masks = amplitude_mask(sources, mixture, limit=1e6)
    torch.testing.assert_close((masks * mixture).abs(), sources.abs(), rtol=1e-4, atol=1e-5)
    limited = amplitude_mask(sources, mixture, limit=1.5)
    torch.testing.assert_close(limited, masks.clamp_max(1.5))
    assert (masks > 1.5).any()


def test_the_complex_mask_gives_back_the_sources_as_far_as_its_limit_lets_it() -> None:
    sources = spectra(3, 9, 7)
    mixture = sources.sum(dim=0)
    masks = complex_ratio_mask(sources, mixture, limit=1e6)
    torch.testing.assert_close(masks * mixture, sources, rtol=1e-4, atol=1e-5)
    limited = complex_ratio_mask(sources, mixture, limit=1.5)
    torch.testing.assert_close(limited.abs(), masks.abs().clamp_max(1.5))
    torch.testing.assert_close(limited.angle(), masks.angle(), rtol=1e-4, atol=1e-4)
    assert (masks.abs() > 1.5).any()


@pytest.mark.parametrize("mask", [phase_sensitive_mask, amplitude_mask, complex_ratio_mask])
@pytest.mark.parametrize("level", [1e-30, 1e-15, 1.0, 1e15])
def test_masks_are_zero_where_the_mixture_is_silent(mask: Mask, level: float) -> None:
    sources = spectra(2, 9, 7) * level
    sources[:, 0] = 0
    sources[1, 1] = -sources[0, 1]  # sources that cancel out
    masks = mask(sources, sources.sum(dim=0))
    assert masks.abs().isfinite().all()
    assert not masks[:, :2].any()


# Loudness

RATES = (48000, 44100, 16000, 8000)


def tone(seconds: float, sample_rate: int, amplitude: float = 1.0, hertz: float = 997.0) -> np.ndarray:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def test_the_filters_are_those_of_the_table_at_48_khz() -> None:
    # ITU-R BS.1770-4, tables 1 and 2.
    table = [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
    np.testing.assert_allclose(k_weighting(48000), table, atol=1e-8)


@pytest.mark.parametrize("sample_rate", RATES)
def test_a_tone_of_997_hz_at_full_scale_is_at_minus_3_01_lufs(sample_rate: int) -> None:
    assert integrated_loudness(tone(5.0, sample_rate), sample_rate) == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize("sample_rate", RATES[1:])
def test_the_weighting_of_speech_frequencies_is_the_same_at_any_rate(sample_rate: int) -> None:
    hertz = np.array([50.0, 100.0, 300.0, 1000.0, 2000.0])

    def gain_db(rate: int) -> np.ndarray:
        response = freqz_sos(k_weighting(rate), worN=hertz, fs=rate)[1]
        return 20 * np.log10(np.abs(response))

    np.testing.assert_allclose(
        gain_db(sample_rate), gain_db(48000), atol=0.45
    )  # the transform bends the axis
    assert gain_db(sample_rate)[-1] > gain_db(sample_rate)[-2] > gain_db(sample_rate)[0]


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("gain", [0.5, 0.1, 2.0, 8.0])
def test_loudness_follows_the_gain(gain: float, sample_rate: int) -> None:
    signal = 0.1 * noise(2 * sample_rate).numpy()
    expected = integrated_loudness(signal, sample_rate) + 20 * math.log10(gain)
    assert integrated_loudness(gain * signal, sample_rate) == pytest.approx(expected, abs=1e-3)


def test_silence_is_gated_away() -> None:
    rate = 8000
    signal = 0.1 * noise(4 * rate).numpy()
    whole = integrated_loudness(signal, rate)
    halved = np.concatenate([signal[: 2 * rate], np.zeros(2 * rate, np.float32)])
    assert integrated_loudness(halved, rate) == pytest.approx(whole, abs=0.35)  # ungated it is 3 dB less
    # A pause 20 LU down falls under the relative gate, one 5 LU down doesn't.
    quiet, middling = halved.copy(), halved.copy()
    quiet[2 * rate :] = 0.1 * signal[2 * rate :]
    middling[2 * rate :] = 10 ** (-5 / 20) * signal[2 * rate :]
    assert integrated_loudness(quiet, rate) == pytest.approx(whole, abs=0.35)
    mean = whole + 10 * math.log10((1 + 10 ** (-5 / 10)) / 2)
    assert integrated_loudness(middling, rate) == pytest.approx(mean, abs=0.1)


@pytest.mark.parametrize("seconds", [0.001, 0.1, 0.399, 0.4, 0.401])
def test_a_short_signal_is_as_loud_as_it_would_be_if_it_went_on(seconds: float) -> None:
    rate, hertz = 8000, 2000.0  # whole periods
    expected = integrated_loudness(tone(5.0, rate, hertz=hertz), rate)
    assert integrated_loudness(tone(seconds, rate, hertz=hertz), rate) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("samples", [0, 1, 100, 8000])
def test_silence_has_no_loudness(samples: int) -> None:
    assert integrated_loudness(np.zeros(samples, np.float32), 8000) == -math.inf
    assert integrated_loudness(1e-5 * noise(samples).numpy(), 8000) == -math.inf  # under the gate of -70 LUFS


def test_a_rate_under_the_shelf_is_refused() -> None:
    with pytest.raises(SepnetError, match=r"1682 Hz.*3000 Hz"):
        integrated_loudness(np.ones(3000, np.float32), 3000)


# Consistency


@pytest.mark.parametrize("n_sources", [1, 2, 5])
def test_consistent_estimates_sum_to_the_mixture(n_sources: int) -> None:
    estimates, mixture = noise(4, n_sources, 50), noise(4, 50, seed=1)
    consistent = make_consistent(estimates, mixture)
    torch.testing.assert_close(consistent.sum(dim=1), mixture)
    torch.testing.assert_close(make_consistent(consistent, mixture), consistent)  # a projection


def test_consistency_is_the_smallest_change() -> None:
    estimates, mixture = noise(3, 50), noise(50, seed=1)
    change = make_consistent(estimates, mixture) - estimates
    # Orthogonal to every direction that keeps the sum, so any other way there is longer.
    for seed in range(2, 6):
        direction = noise(3, 50, seed=seed)
        direction -= direction.mean(dim=0)
        assert abs((change * direction).sum().item()) < 1e-3
        assert (change + 0.1 * direction).norm() > change.norm()
    # And the solution of the normal equations by another's hand.
    ones = torch.ones(1, 3)
    expected = torch.linalg.pinv(ones) @ (mixture - estimates.sum(dim=0))[None]
    torch.testing.assert_close(change, expected)


@pytest.mark.skipif(not CHECK_ANNOTATIONS, reason="annotations are not checked")
def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        make_consistent(noise(3, 50), noise(49))


@pytest.mark.parametrize(
    ("window_samples", "hop_samples", "window"), [(256, 64, "hann"), (514, 100, "sqrt_hann")]
)
@pytest.mark.parametrize("time", [1, 100, 5000])
def test_the_fast_transform_is_that_of_the_filters(
    window_samples: int, hop_samples: int, window: str, time: int
) -> None:
    settings = {"window_samples": window_samples, "hop_samples": hop_samples, "window": window}
    slow, fast = STFT(**settings), FastSTFT(**settings)
    x = torch.randn(2, time, generator=torch.Generator().manual_seed(0))
    spectra = fast.spectrogram(x)
    torch.testing.assert_close(spectra, slow.spectrogram(x), rtol=0, atol=2e-6 * float(spectra.abs().max()))
    torch.testing.assert_close(fast.invert(spectra, time), x, rtol=0, atol=2e-6)
    masked = spectra * 0.5j
    torch.testing.assert_close(fast.invert(masked, time), slow.invert(masked, time), rtol=0, atol=2e-6)


@pytest.mark.parametrize("time", [321, 503, 640, 1000, 5000])
def test_a_mirrored_stft_is_that_of_torch(time: int) -> None:
    window, stft = torch.hann_window(640), MirroredSTFT()
    signal = torch.randn(2, time, generator=torch.Generator().manual_seed(0))
    expected = torch.stft(signal, 640, 160, window=window, return_complex=True)
    coefficients = stft.encode(signal)
    assert coefficients.shape[-1] == stft.n_frames(time)
    torch.testing.assert_close(
        coefficients, torch.cat([expected.real, expected.imag], dim=1), atol=1e-4, rtol=1e-5
    )
    torch.testing.assert_close(stft.decode(coefficients, time), signal, atol=1e-5, rtol=1e-5)
    changed = coefficients * torch.rand(coefficients.shape, generator=torch.Generator().manual_seed(1))
    spectrum = torch.complex(*changed.chunk(2, dim=1))
    inverse = torch.istft(spectrum, 640, 160, window=window, length=time)
    torch.testing.assert_close(stft.decode(changed, time), inverse, atol=1e-5, rtol=1e-5)


def test_a_mirrored_stft_fills_up_what_is_too_short_to_be_mirrored() -> None:
    stft, signal = MirroredSTFT(), torch.randn(1, 5)
    torch.testing.assert_close(stft.decode(stft.encode(signal), 5), signal, atol=1e-5, rtol=1e-5)
    with pytest.raises(SepnetError, match="longer than half the window"):
        MirroredSTFT(hop_samples=400)


def test_the_tables_of_a_transform_are_no_weights() -> None:
    assert not STFT().state_dict()
    assert LearnedFilterbank().state_dict()


@pytest.mark.parametrize("name", ["pit-2spk-8k", "conv-autoencoder-esc10"])
def test_the_transform_of_shipped_weights_inverts_exactly(name: str) -> None:
    """In half precision it would to 1e-4."""
    filterbank = sepnet.load(name).filterbank  # type: ignore[attr-defined]
    x = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    assert (filterbank.decode(filterbank.encode(x), 4000) - x).abs().max() < 3e-6


# Gains that bring estimates to the level of the mixture


def sources_of(*levels: float) -> Tensor:
    return torch.tensor(levels)[:, None] * noise(len(levels), 8000)


@pytest.mark.parametrize("gains", [(3.0, 0.5), (-2.0, -0.4), (1e-4, 2e-4, 5e-4)])
def test_gains_that_a_network_left_open_are_found(gains: tuple[float, ...]) -> None:
    sources = sources_of(*(1.0, 0.3, 0.1)[: len(gains)])
    scaled = scale_to_mixture(torch.tensor(gains)[:, None] * sources, sources.sum(dim=0))
    torch.testing.assert_close(scaled, sources, atol=1e-4, rtol=1e-4)


def test_gains_stay_near_the_common_one_where_least_squares_would_not() -> None:
    sources = sources_of(1.0, 0.3)
    estimates = torch.stack([sources[0], -1e-3 * sources[1]])  # the second would want a gain of -1000
    scaled = scale_to_mixture(estimates, sources.sum(dim=0))
    torch.testing.assert_close(scaled[0], sources[0], atol=0.02, rtol=0)
    assert 0.09 <= float((scaled[1] @ estimates[1]) / estimates[1].square().sum()) <= 11


def test_gains_of_a_batch_are_those_of_its_mixtures() -> None:
    estimates, mixtures = noise(3, 2, 500), noise(3, 500, seed=1)
    expected = torch.stack([scale_to_mixture(*pair) for pair in zip(estimates, mixtures, strict=True)])
    torch.testing.assert_close(scale_to_mixture(estimates, mixtures), expected)


def test_silence_has_no_gain() -> None:
    assert not scale_to_mixture(torch.zeros(2, 100), noise(100)).any()
    assert torch.equal(scale_to_mixture(noise(2, 100), torch.zeros(100)), noise(2, 100))


# Filters within the signal


@pytest.mark.parametrize("time", [1, 15, 16, 17, 24, 100, 1003])
def test_filters_within_the_signal_have_its_frames_alone(time: int) -> None:
    bank = LearnedFilterbank(n_filters=8, window_samples=16, hop_samples=8, padded=False)
    signal = noise(2, time)
    coefficients = bank.encode(signal)
    assert coefficients.shape == (2, 8, bank.n_frames(time)) == (2, 8, max(time - 16, 0) // 8 + 1)
    first = bank.encoder.filterbank._filters[:, 0] @ F.pad(signal[0], (0, max(0, 16 - time)))[:16]
    torch.testing.assert_close(coefficients[0, :, 0], first)
    decoded = bank.decode(coefficients, time)
    assert decoded.shape == (2, time)
    assert not decoded[:, (bank.n_frames(time) - 1) * 8 + 16 :].any()
