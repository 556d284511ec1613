"""A picture of a separated recording: a spectrogram for each source, and one for their sum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from sepnet.atomic import replacing
from sepnet.figures.query import DPI, STYLE
from sepnet.figures.spectrogram import ReadSignal, draw_spectrogram, read_spectrogram_db

MAX_FRAMES = 900
MINUTES_FROM_SECONDS = 180  # a longer time axis is in minutes


def recording_figure(
    path: str | Path, signals: Sequence[ReadSignal], names: Sequence[str], *, n_samples: int, sample_rate: int
) -> None:
    """Draw signals of any length below one another, on one scale.

    Args:
        path: Of the PNG.
        signals: Each gives parts of itself; the loudest point of the first is 0 dB.
        names: Their titles.
        n_samples: Of each signal.
        sample_rate: In Hz.
    """
    levels = [read_spectrogram_db(read, n_samples, sample_rate, max_frames=MAX_FRAMES) for read in signals]
    loudest_db = float(levels[0].max())
    seconds = n_samples / sample_rate
    in_minutes = seconds > MINUTES_FROM_SECONDS
    duration = seconds / 60 if in_minutes else seconds
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 0.6 + 1.7 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, name, level in zip(panels, names, levels, strict=True):
            image = draw_spectrogram(axes, level, loudest_db, duration=duration, sample_rate=sample_rate)
            axes.set_title(name, loc="left", fontsize=10)
            axes.set_ylabel("kHz")
        panels[-1].set_xlabel("minutes" if in_minutes else "seconds")
        figure.colorbar(image, ax=list(panels), label="dB", fraction=0.03)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)
