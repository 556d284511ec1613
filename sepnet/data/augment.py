"""Augmentations: random filters and bands, and signals of any length from a clip's active part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Float

from sepnet.data.activity import Stretch, fade, loop_stretches
from sepnet.types import SepnetError

MIN_HZ = 62.5  # the lowest of the octaves whose gains are drawn
MAX_RANGE_DB = 60.0
LOW_HZ, HIGH_HZ = (80.0, 400.0), (2500.0, 7500.0)  # of the ends of a drawn band
BAND_ORDERS = (1, 5)  # from, and below: of the Butterworth filter at each end
TAIL_SECONDS = 0.1  # silence behind the signal, for the filter to ring in


def draw_response_db(
    rng: np.random.Generator, range_db: float, frequencies_hz: Float[np.ndarray, " bin"]
) -> Float[np.ndarray, " bin"]:
    """Draw a smooth frequency response: a gain for each octave, interpolated linearly in between.

    Args:
        rng: The generator.
        range_db: The gains are uniform within plus and minus this.
        frequencies_hz: (bin,), ascending.

    Returns:
        The gains in dB at these frequencies.
    """
    top = max(float(frequencies_hz[-1]), 2 * MIN_HZ)
    knots = np.arange(np.log2(MIN_HZ), np.log2(top) + 1)
    gains = rng.uniform(-range_db, range_db, size=len(knots))
    response: np.ndarray = np.interp(np.log2(np.maximum(frequencies_hz, MIN_HZ)), knots, gains)
    return response


def equalise(
    rng: np.random.Generator, samples: Float[np.ndarray, " time"], range_db: float, sample_rate: int
) -> Float[np.ndarray, " time"]:
    """Filter samples by a drawn response without phase, and keep their power.

    Args:
        rng: The generator.
        samples: (time,).
        range_db: See ``draw_response_db``.
        sample_rate: In Hz.
    """
    tail = np.zeros(round(TAIL_SECONDS * sample_rate), dtype=samples.dtype)
    padded = np.concatenate([samples, tail])
    frequencies = np.fft.rfftfreq(len(padded), 1 / sample_rate)
    response = 10 ** (draw_response_db(rng, range_db, frequencies) / 20)
    filtered = np.fft.irfft(np.fft.rfft(padded) * response, len(padded))[: len(samples)]
    before, after = (float(np.square(x, dtype=np.float64).sum()) for x in (samples, filtered))
    gain = np.sqrt(before / after) if after > 0 else 1.0
    return (filtered * gain).astype(np.float32)


def narrow(
    rng: np.random.Generator, signals: Float[np.ndarray, "*axes time"], sample_rate: int
) -> Float[np.ndarray, "*axes time"]:
    """Filter signals by one drawn band, as a telephone or a small microphone does.

    The lower end is drawn from 80 to 400 Hz, the upper one from 2.5 to 7.5 kHz; where the rate does not hold
    that, there is no upper end (at 8 kHz for 78 % of the draws). The slopes are those of Butterworth filters
    of orders 1 to 4.

    Args:
        rng: The generator.
        signals: (..., time).
        sample_rate: In Hz.

    Returns:
        (..., time), float32.
    """
    orders = rng.integers(*BAND_ORDERS, size=2)
    low_hz, high_hz = rng.uniform(*LOW_HZ), rng.uniform(*HIGH_HZ)
    sections = scipy.signal.butter(orders[0], low_hz, "highpass", fs=sample_rate, output="sos")
    if high_hz < 0.45 * sample_rate:
        upper = scipy.signal.butter(orders[1], high_hz, "lowpass", fs=sample_rate, output="sos")
        sections = np.concatenate([sections, upper])
    return np.asarray(scipy.signal.sosfilt(sections, signals, axis=-1), dtype=np.float32)


def draw_loop(
    rng: np.random.Generator,
    samples: Float[np.ndarray, " time"],
    stretches: Sequence[Stretch],
    n_samples: int,
    sample_rate: int,
) -> Float[np.ndarray, " looped"]:
    """Make a signal of the stretches of a clip, from a drawn one on, repeated as often as needed.

    If the first stretch is long enough by itself, the signal is a part of it, at a drawn place.

    Args:
        rng: The generator.
        samples: The clip, (time,).
        stretches: Its active stretches, in seconds.
        n_samples: Length of the signal.
        sample_rate: In Hz.

    Raises:
        SepnetError: No stretch is longer than two fades.
    """
    seconds = n_samples / sample_rate
    first = int(rng.integers(max(len(stretches), 1)))
    rotated = [*stretches[first:], *stretches[:first]]
    shift = float(rng.uniform())
    if rotated and rotated[0][1] - rotated[0][0] > seconds:
        begin, end = rotated[0]
        begin += shift * (end - begin - seconds)
        rotated = [(begin, begin + seconds)]
    signal = np.zeros(n_samples, dtype=np.float32)
    cuts = loop_stretches([("", stretch) for stretch in rotated], seconds + 0.002)  # in whole milliseconds
    for cut in cuts:
        start, place = round(cut.start * sample_rate), round(cut.at * sample_rate)
        piece = fade(samples[start : start + round(cut.seconds * sample_rate)], sample_rate)
        piece = piece[: n_samples - place]
        signal[place : place + len(piece)] += piece
    return signal


def check_equaliser(range_db: float | None) -> None:
    """Raise SepnetError if the range of a random filter is not within 0 and 60 dB."""
    if range_db is not None and not 0 < range_db <= MAX_RANGE_DB:
        raise SepnetError(f"equaliser_db is {range_db}: give a range above 0 and up to 60 dB, or null")
