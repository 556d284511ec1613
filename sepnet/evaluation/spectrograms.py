"""A picture of a recording of any length: a spectrogram for each source, and one for their sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sepnet.evaluation.query_figures import DPI, STYLE

N_COLUMNS = 900
WINDOW_SECONDS = 0.032
WINDOWS = 4  # a column is the mean of so many at most, evenly spaced in its time
RANGE_DB = 70.0

Stretch = Callable[[int, int], Float[np.ndarray, " time"]]
"""Of a signal: the samples from a first one on, and how many; what lies past the end is left out."""


def spectrogram(signal: Stretch, n_samples: int, sample_rate: int) -> Float[np.ndarray, "bin column"]:
    """Mean powers, in the memory of a column. A short signal has fewer columns than a long one."""
    window = max(2, round(WINDOW_SECONDS * sample_rate))
    taper = np.hanning(window + 1)[:-1]
    n_columns = int(min(N_COLUMNS, max(1, 2 * n_samples // window)))
    span = n_samples / n_columns
    columns = np.empty((window // 2 + 1, n_columns), dtype=np.float32)
    for column in range(n_columns):
        n_windows = int(min(WINDOWS, max(1, span // window)))
        starts = (column * span + np.arange(n_windows) * span / n_windows).astype(int)
        pieces = [signal(int(start), window) for start in starts]
        padded = np.stack([np.pad(piece, (0, window - len(piece))) for piece in pieces])
        columns[:, column] = np.square(np.abs(np.fft.rfft(padded * taper))).mean(axis=0)
    return columns


def recording_figure(
    path: str | Path,
    spectrograms: Sequence[Float[np.ndarray, "bin column"]],
    names: Sequence[str],
    sample_rate: int,
    seconds: float,
) -> None:
    """The spectrograms below one another on one scale, as a PNG. 0 dB is the loudest point of the first."""
    top = max(float(spectrograms[0].max()), 1e-20)
    minutes = seconds > 180
    extent = (0.0, seconds / 60 if minutes else seconds, 0.0, sample_rate / 2000)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 0.6 + 1.7 * len(names)), layout="constrained")
        every = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, name, powers in zip(every, names, spectrograms, strict=True):
            image = axes.imshow(
                10 * np.log10(powers / top + 1e-12),
                origin="lower",
                aspect="auto",
                extent=extent,
                vmin=-RANGE_DB,
                vmax=0.0,
                cmap="magma",
            )
            axes.set_title(name, loc="left", fontsize=10)
            axes.set_ylabel("kHz")
        every[-1].set_xlabel("minutes" if minutes else "seconds")
        figure.colorbar(image, ax=list(every), label="dB", fraction=0.03)
        figure.savefig(path, dpi=DPI)
