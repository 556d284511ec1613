"""The result as HTML: mixture and sources under one another, to play together, solo, mute and download.

static/mixer.html is the template, static/mixer.js brings it to life.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sepnet.figures import spectrogram
from sepnet.serving import archive, figures
from sepnet.serving.service import Result

STATIC = Path(__file__).with_name("static")
MAX_FRAMES, MAX_ROWS = 900, 160  # of a spectrogram


@dataclass(frozen=True)
class Track:
    """One line of the mixer; file: its name on the shelf, without suffix."""

    name: str
    file: str
    waveform: str
    muted: str


def style() -> str:
    """The style sheet of the page."""
    levels = f":root {{ --levels: linear-gradient(90deg, {spectrogram.css_gradient()}); }}\n"
    return (STATIC / "page.css").read_text("utf-8") + levels


def script() -> str:
    """For the head of the page."""
    files = (STATIC / "mixer.js", STATIC / "recorder.js")
    return "".join(f"<script>{file.read_text('utf-8')}</script>" for file in files)


def pictures(result: Result) -> dict[str, bytes]:
    """A spectrogram for the mixture and each source, all on one scale: 0 dB is the loudest point of any."""
    signals = [result.mixture, *result.sources]
    levels = [
        spectrogram.spectrogram_db(signal, result.sample_rate, max_frames=MAX_FRAMES, max_rows=MAX_ROWS)
        for signal in signals
    ]
    loudest_db = max(float(level.max()) for level in levels)
    return {f"{_file(k)}.png": spectrogram.png(level, loudest_db) for k, level in enumerate(levels)}


def html(result: Result, token: str) -> str:
    """The mixer and the table. token: under which the shelf has the files."""
    signals = [result.mixture, *result.sources]
    names = ["mixture", *(label.replace("_", " ") for label in result.labels)]
    peak = max(float(np.abs(signal).max()) for signal in signals)
    environment = Environment(loader=FileSystemLoader(STATIC), autoescape=True, undefined=StrictUndefined)
    environment.filters["db"] = _db
    return environment.get_template("mixer.html").render(
        result=result,
        token=token,
        tracks=[
            Track(name, _file(k), figures.waveform_svg(signal, peak), "true" if k == 0 else "false")
            for k, (name, signal) in enumerate(zip(names, signals, strict=True))
        ],
        archive=archive.ARCHIVE,
        duration=f"{int(result.seconds // 60)}:{result.seconds % 60:04.1f}",
        range_db=spectrogram.DYNAMIC_RANGE_DB,
        told=_told(result),
    )


def _told(result: Result) -> str:
    """What was done, in two sentences."""
    left = result.left_over_db
    gap = "is the mixture" if left is None else f"is within {left:.0f} dB of the mixture"
    return (
        f"{result.model} took {result.compute_seconds:.2f} s, "
        f"{result.compute_seconds / result.seconds:.2f} times the duration. "
        f"Levels are those of the mixture; the sum of the sources {gap}."
    )


def _file(index: int) -> str:
    return "mixture" if index == 0 else f"s{index}"


def _db(value: float) -> str:
    return f"{value:.1f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "\N{EN DASH}"
