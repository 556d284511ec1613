"""Spectrograms: computed and coloured in one way, whether for a file, a report, a page or a logger."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps, image
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from torch import Tensor

WINDOW_SECONDS = 0.032
DYNAMIC_RANGE_DB = 80.0
MAX_FRAMES = 1200
MAX_WINDOWS = 4  # whose powers are averaged for a frame, where windows are shorter than frames
POWER_FLOOR = 1e-20
COLOURS = "magma"

ReadSignal = Callable[[int, int], Float[np.ndarray, " time"]]
"""(start, count) in samples -> that part of a signal, shorter where the signal ends."""


def spectrogram_db(
    signal: Float[np.ndarray, " time"] | Float[Tensor, " time"],
    sample_rate: int,
    *,
    max_frames: int = MAX_FRAMES,
    max_rows: int | None = None,
) -> Float[np.ndarray, "row frame"]:
    """Compute the power spectrogram of a signal in memory; see ``read_spectrogram_db``.

    Args:
        signal: (time,).
        sample_rate: In Hz.
        max_frames: How many frames there are at most.
        max_rows: Neighbouring frequencies are averaged to at most this many rows; None: they are kept.

    Returns:
        Levels in dB, from 0 Hz to half the rate.
    """
    samples = signal.detach().cpu().float().numpy() if isinstance(signal, Tensor) else signal
    return read_spectrogram_db(
        lambda start, count: samples[start : start + count],
        len(samples),
        sample_rate,
        max_frames=max_frames,
        max_rows=max_rows,
    )


def read_spectrogram_db(
    read: ReadSignal,
    n_samples: int,
    sample_rate: int,
    *,
    max_frames: int = MAX_FRAMES,
    max_rows: int | None = None,
) -> Float[np.ndarray, "row frame"]:
    """Compute the power spectrogram of a signal of any length, in the memory of a frame.

    Windows have 32 ms (Hann), and frames are a quarter of that apart unless there would be too many. A longer
    frame is the mean power of up to four windows, evenly spaced in it.

    Args:
        read: Gives a part of the signal.
        n_samples: Of the signal.
        sample_rate: In Hz.
        max_frames: How many frames there are at most.
        max_rows: Neighbouring frequencies are averaged to at most this many rows; None: they are kept.

    Returns:
        Levels in dB, from 0 Hz to half the rate.
    """
    window = max(32, round(WINDOW_SECONDS * sample_rate))
    taper = np.hanning(window + 1)[:-1]
    n_frames = int(min(max_frames, max(1, 4 * n_samples // window)))
    span = n_samples / n_frames
    n_windows = int(min(MAX_WINDOWS, max(1, span // window)))
    n_bins = window // 2 + 1
    joined = 1 if max_rows is None else -(-n_bins // max_rows)
    n_rows = n_bins // joined
    powers = np.empty((n_rows, n_frames), dtype=np.float32)
    for frame in range(n_frames):
        starts = (frame * span + np.arange(n_windows) * span / n_windows).astype(int)
        parts = [read(int(start), window) for start in starts]
        padded = np.stack([np.pad(part, (0, window - len(part))) for part in parts])  # (window, sample)
        power = np.square(np.abs(np.fft.rfft(padded * taper))).mean(axis=0)
        powers[:, frame] = power[: n_rows * joined].reshape(n_rows, joined).mean(axis=1)  # (bin,) -> (row,)
    return np.asarray(10 * np.log10(powers + POWER_FLOOR))


def draw_spectrogram(
    axes: Axes,
    levels_db: Float[np.ndarray, "row frame"],
    loudest_db: float,
    *,
    duration: float,
    sample_rate: int,
) -> AxesImage:
    """Draw a spectrogram over time and frequency in kHz.

    Args:
        axes: Where it is drawn.
        levels_db: Of ``spectrogram_db``.
        loudest_db: The level that is shown as 0 dB; several spectrograms with the same one share a scale.
        duration: Of the signal, in the unit of the time axis.
        sample_rate: In Hz.

    Returns:
        The image, for a colour bar.
    """
    return axes.imshow(
        levels_db - loudest_db,
        vmin=-DYNAMIC_RANGE_DB,
        vmax=0.0,
        cmap=COLOURS,
        interpolation="antialiased",
        **extent(duration, sample_rate),
    )


def extent(duration: float, sample_rate: int) -> dict[str, Any]:
    """The arguments of ``imshow`` for an image over time, and frequency in kHz, low frequencies below."""
    return {"origin": "lower", "aspect": "auto", "extent": (0.0, duration, 0.0, sample_rate / 2000)}


def pixels(levels_db: Float[np.ndarray, "row frame"], loudest_db: float) -> UInt8[np.ndarray, "row frame 3"]:
    """A spectrogram as colours, low frequencies below. ``loudest_db`` is as for ``draw_spectrogram``."""
    scaled = np.clip((levels_db - loudest_db) / DYNAMIC_RANGE_DB + 1, 0, 1)
    return np.asarray(colormaps[COLOURS](scaled[::-1], bytes=True)[..., :3])


def png(levels_db: Float[np.ndarray, "row frame"], loudest_db: float) -> bytes:
    """A spectrogram as a PNG without axes. ``loudest_db`` is as for ``draw_spectrogram``."""
    stream = io.BytesIO()
    image.imsave(stream, pixels(levels_db, loudest_db), format="png")
    return stream.getvalue()


def css_gradient() -> str:
    """The colours of a spectrogram from quiet to loud, for CSS."""
    shades = colormaps[COLOURS](np.linspace(0, 1, 9), bytes=True)
    return ", ".join("#{:02x}{:02x}{:02x}".format(*shade[:3]) for shade in shades)
