"""STOI and ESTOI on whole arrays: the values of pystoi, several times as fast.

C. H. Taal, R. C. Hendriks, R. Heusdens and J. Jensen, "An algorithm for intelligibility prediction of
time-frequency weighted noisy speech", IEEE TASLP 19(7), 2011; J. Jensen and C. H. Taal, "An algorithm for
predicting the intelligibility of speech masked by modulated noise maskers", IEEE/ACM TASLP 24(11), 2016.
Both signals are brought to 10 kHz with the filter of Octave's ``resample``, as the authors' code does.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SAMPLE_RATE = 10_000
WINDOW_SAMPLES, HOP_SAMPLES, N_FFT = 256, 128, 512  # 25.6 ms, half of it, and padded with zeros
DYNAMIC_RANGE_DB = 40.0  # frames of the clean signal further below its loudest one are left out
N_BANDS, LOWEST_HZ = 15, 150.0  # third octaves
SEGMENT_FRAMES = 30  # 384 ms
MIN_SDR_DB = -15.0  # the least signal-to-distortion ratio of a band in STOI
REJECTION_DB = 60.0  # of the resampling filter
BLOCK_SAMPLES = 64  # input samples that are resampled by one product
EPS = np.finfo(np.float64).eps

Array = NDArray[np.float64]


def intelligibility(
    degraded: Float[np.ndarray, " time"],
    clean: Float[np.ndarray, " time"],
    sample_rate: int,
    *,
    extended: bool,
) -> float:
    """Compute STOI, or ESTOI if ``extended``.

    Args:
        degraded: The signal to judge.
        clean: The reference, of the same length.
        sample_rate: In Hz.
        extended: Whether to compute ESTOI.

    Returns:
        The score, at most 1; nan where fewer than 30 frames remain without the silent ones.
    """
    signals = resample_to_10_khz(np.stack([clean, degraded]), sample_rate)  # (signal, time)
    if signals.shape[-1] <= WINDOW_SAMPLES:
        return math.nan
    frames = _frames(signals)  # (signal, frame, sample)
    level_db = 20 * np.log10(np.linalg.norm(frames[0], axis=-1) + EPS)
    frames = frames[:, level_db > level_db.max() - DYNAMIC_RANGE_DB]
    halves = frames.reshape(2, -1, 2, HOP_SAMPLES)  # (signal, frame, half, sample)
    overlapped = np.zeros((2, halves.shape[1] + 1, HOP_SAMPLES))
    overlapped[:, :-1] += halves[:, :, 0]
    overlapped[:, 1:] += halves[:, :, 1]
    spectra = np.fft.rfft(_frames(overlapped.reshape(2, -1)), N_FFT)  # (signal, frame, bin)
    if spectra.shape[1] < SEGMENT_FRAMES:
        return math.nan
    bands = np.sqrt((spectra.real**2 + spectra.imag**2) @ _third_octaves().T)  # (signal, frame, band)
    # (signal, segment, band, frame)
    segments = sliding_window_view(bands, SEGMENT_FRAMES, axis=1)
    x, y = (_extended if extended else _clipped)(*segments)
    return float((x * y).sum() / (len(x) * (SEGMENT_FRAMES if extended else N_BANDS)))


def _extended(x: Array, y: Array) -> tuple[Array, Array]:
    """Normalise the rows, then the columns of each segment (Jensen and Taal 2016, eq. 3 to 5)."""
    return _normalised(_normalised(x, -1), -2), _normalised(_normalised(y, -1), -2)


def _clipped(x: Array, y: Array) -> tuple[Array, Array]:
    """Scale the degraded rows to the clean ones, clip, and normalise all (Taal et al. 2011, eq. 3 to 5)."""
    norms = np.linalg.norm(x, axis=-1, keepdims=True) / (np.linalg.norm(y, axis=-1, keepdims=True) + EPS)
    y = np.minimum(y * norms, x * (1 + 10 ** (-MIN_SDR_DB / 20)))
    return _normalised(x, -1), _normalised(y, -1)


def _normalised(values: Array, axis: int) -> Array:
    """Bring values to mean zero and norm one along an axis; constant values become zero."""
    centred = values - values.mean(axis=axis, keepdims=True)
    norm = np.sqrt(np.einsum("...i,...i->...", *[np.moveaxis(centred, axis, -1)] * 2))
    normalised: Array = centred / (np.expand_dims(norm, axis) + EPS)
    return normalised


def _frames(signals: Array) -> Array:
    """Window (signal, time) into (signal, frame, sample); without the last frame, as in the authors' code."""
    starts = np.arange(0, signals.shape[-1] - WINDOW_SAMPLES, HOP_SAMPLES)
    frames: Array = (
        sliding_window_view(signals, WINDOW_SAMPLES, axis=-1)[:, starts]
        * np.hanning(WINDOW_SAMPLES + 2)[1:-1]
    )
    return frames


@cache
def _third_octaves() -> Array:
    """Return (band, bin): one in the bins of each band, whose edges are rounded to bins."""
    frequencies = np.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT
    edges = LOWEST_HZ * 2.0 ** (
        np.subtract.outer(2 * np.arange(N_BANDS), [1, -1]) / 6
    )  # (band, low and high)
    bins = np.abs(frequencies - edges[..., None]).argmin(axis=-1)
    index = np.arange(len(frequencies))
    within: Array = ((index >= bins[:, :1]) & (index < bins[:, 1:])).astype(np.float64)
    return within


def resample_to_10_khz(
    signals: Float[np.ndarray, "signal time"], sample_rate: int
) -> Float[np.ndarray, "signal out"]:
    """Resample to 10 kHz by blocks, each the product of an excerpt of the signal and one matrix.

    With h the filter around its middle and up / down the ratio of the rates, y[m] = sum_i x[i]
    h[down m - up i]. For blocks of n up samples from n down, m = n up b + r and i = n down b + j, that is
    sum_j x[n down b + j] h[down r - up j]: the same for every block b.
    """
    if sample_rate == SAMPLE_RATE:
        return signals
    common = math.gcd(SAMPLE_RATE, sample_rate)
    up, down = SAMPLE_RATE // common, sample_rate // common
    n = max(1, BLOCK_SAMPLES // down)
    matrix, before = _block_filter(up, down, n)
    n_out = -(-signals.shape[-1] * up // down)
    n_blocks = -(-n_out // (n * up))
    after = max(0, (n_blocks - 1) * n * down + len(matrix) - before - signals.shape[-1])
    padded = np.pad(signals, ((0, 0), (before, after)))
    excerpts = sliding_window_view(padded, len(matrix), axis=-1)[:, :: n * down][:, :n_blocks]
    out: Array = (np.ascontiguousarray(excerpts) @ matrix).reshape(len(signals), -1)[:, :n_out]
    return out


@cache
def _block_filter(up: int, down: int, n: int) -> tuple[Array, int]:
    """Return the matrix (j, r) of a block, and how many samples before the block it begins."""
    cutoff = 1 / (2 * max(up, down))
    half = math.ceil((REJECTION_DB - 8) / (28.714 * cutoff / 10))
    window = np.kaiser(2 * half + 1, 0.1102 * (REJECTION_DB - 8.7))
    taps = np.sinc(2 * cutoff * np.arange(-half, half + 1)) * window
    taps *= up / taps.sum()
    first, last = -(half // up), (down * (n * up - 1) + half) // up
    positions = half + down * np.arange(n * up) - up * np.arange(first, last + 1)[:, None]
    inside = (positions >= 0) & (positions <= 2 * half)
    matrix: Array = np.where(inside, taps[positions.clip(0, 2 * half)], 0.0)
    return matrix, -first
