"""Augmentations for small corpora: random filters, and sounds as long as one likes from what a clip has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sepnet.data.activity import Stretch, faded, looped
from sepnet.types import SepnetError

LOWEST_HZ = 62.5  # of the octaves whose gains are drawn
TAIL_SECONDS = 0.1  # silence behind the signal, for the filter to ring in


def draw_response_db(
    rng: np.random.Generator, range_db: float, frequencies_hz: Float[np.ndarray, " bin"]
) -> Float[np.ndarray, " bin"]:
    """Gains in dB at these frequencies: one for each octave, uniform within +-``range_db``, lines between."""
    top = max(float(frequencies_hz[-1]), 2 * LOWEST_HZ)
    knots = np.arange(np.log2(LOWEST_HZ), np.log2(top) + 1)
    gains = rng.uniform(-range_db, range_db, size=len(knots))
    response: np.ndarray = np.interp(np.log2(np.maximum(frequencies_hz, LOWEST_HZ)), knots, gains)
    return response


def equalised(
    rng: np.random.Generator, samples: Float[np.ndarray, " time"], range_db: float, sample_rate: int
) -> Float[np.ndarray, " time"]:
    """The samples through a drawn filter without phase, at the power that they had."""
    tail = np.zeros(round(TAIL_SECONDS * sample_rate), dtype=samples.dtype)
    padded = np.concatenate([samples, tail])
    frequencies = np.fft.rfftfreq(len(padded), 1 / sample_rate)
    response = 10 ** (draw_response_db(rng, range_db, frequencies) / 20)
    filtered = np.fft.irfft(np.fft.rfft(padded) * response, len(padded))[: len(samples)]
    before, after = (float(np.square(x, dtype=np.float64).sum()) for x in (samples, filtered))
    gain = np.sqrt(before / after) if after > 0 else 1.0
    return (filtered * gain).astype(np.float32)


def drawn_loop(
    rng: np.random.Generator,
    samples: Float[np.ndarray, " time"],
    stretches: Sequence[Stretch],
    n_samples: int,
    sample_rate: int,
) -> Float[np.ndarray, " wanted"]:
    """``n_samples`` of the stretches of a clip, one after the other, from a drawn one on and around.

    Of a first stretch that is long enough by itself, a part at a drawn place. Raises SepnetError where none
    is longer than two fades.
    """
    seconds = n_samples / sample_rate
    first = int(rng.integers(max(len(stretches), 1)))
    turned = [*stretches[first:], *stretches[:first]]
    shift = float(rng.uniform())
    if turned and turned[0][1] - turned[0][0] > seconds:
        begin, end = turned[0]
        begin += shift * (end - begin - seconds)
        turned = [(begin, begin + seconds)]
    signal = np.zeros(n_samples, dtype=np.float32)
    for cut in looped([("", stretch) for stretch in turned], seconds + 0.002):  # its milliseconds are whole
        start, place = round(cut.start * sample_rate), round(cut.at * sample_rate)
        piece = faded(samples[start : start + round(cut.seconds * sample_rate)], sample_rate)
        piece = piece[: n_samples - place]
        signal[place : place + len(piece)] += piece
    return signal


def check_equaliser(range_db: float | None) -> None:
    """Raises SepnetError for a range that is none."""
    if range_db is not None and not 0 < range_db <= 60:
        raise SepnetError(f"equaliser_db is {range_db}: give a range above 0 and up to 60 dB, or null")
