"""Render a result as HTML: mixture and sources below each other, to play, solo, mute and download.

static/mixer.html is the template, static/mixer.js the player.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sepnet.figures import spectrogram
from sepnet.inference.opinions import predict_opinion
from sepnet.metrics import Opinion
from sepnet.serving import result_files
from sepnet.serving.separation import SeparationResult
from sepnet.serving.waveform import waveform_svg

STATIC = Path(__file__).with_name("static")
MAX_FRAMES, MAX_ROWS = 900, 160  # of a spectrogram
MAX_EXCERPTS = 2  # that DNSMOS judges of each signal, a third of a second of compute each


@dataclass(frozen=True)
class Track:
    """One signal of the mixer.

    Attributes:
        name: The name that is displayed.
        file: The name of its stored files, without suffix.
        waveform: The waveform as SVG.
        muted: Whether it is muted at first, ``true`` or ``false``.
        opinion: What DNSMOS predicts of it; None where it predicts nothing.
    """

    name: str
    file: str
    waveform: str
    muted: str
    opinion: Opinion | None


def style() -> str:
    """Return the CSS of the page."""
    levels = f":root {{ --levels: linear-gradient(90deg, {spectrogram.css_gradient()}); }}\n"
    return (STATIC / "page.css").read_text("utf-8") + levels


def script() -> str:
    """Return the JavaScript for the head of the page."""
    files = (STATIC / "mixer.js", STATIC / "recorder.js")
    return "".join(f"<script>{file.read_text('utf-8')}</script>" for file in files)


def spectrograms(result: SeparationResult) -> dict[str, bytes]:
    """Draw spectrograms of the mixture and each source, with 0 dB at the loudest point of all.

    Args:
        result: The result.

    Returns:
        {file name: content of the PNG}.
    """
    signals = [result.mixture, *result.sources]
    levels = [
        spectrogram.spectrogram_db(signal, result.sample_rate, max_frames=MAX_FRAMES, max_rows=MAX_ROWS)
        for signal in signals
    ]
    loudest_db = max(float(level.max()) for level in levels)
    return {f"{_file(k)}.png": spectrogram.png(level, loudest_db) for k, level in enumerate(levels)}


def html(result: SeparationResult, token: str) -> str:
    """Render the mixer and the table of scores.

    Args:
        result: The result.
        token: The token under which its files are stored.

    Returns:
        HTML.
    """
    signals = [result.mixture, *result.sources]
    names = ["mixture", *(label.replace("_", " ") for label in result.labels)]
    peak = max(float(np.abs(signal).max()) for signal in signals)
    opinions = [_opinion(signal, result.sample_rate) for signal in signals]
    environment = Environment(loader=FileSystemLoader(STATIC), autoescape=True, undefined=StrictUndefined)
    environment.filters["db"] = _db
    return environment.get_template("mixer.html").render(
        result=result,
        token=token,
        tracks=[
            Track(name, _file(k), waveform_svg(signal, peak), "true" if k == 0 else "false", opinion)
            for k, (name, signal, opinion) in enumerate(zip(names, signals, opinions, strict=True))
        ],
        archive=result_files.ARCHIVE,
        duration=f"{int(result.seconds // 60)}:{result.seconds % 60:04.1f}",
        range_db=spectrogram.DYNAMIC_RANGE_DB,
        has_opinions=any(opinions),
        summary=_summary(result),
    )


def _summary(result: SeparationResult) -> str:
    """A sentence about how the result was made, and about its levels."""
    settings = result.pipeline
    channels = "the average of the channels" if settings["channels"] == "mean" else "all channels"
    chunks = f", in chunks of {settings['chunk_seconds']:g} s" if _is_chunked(result) else ""
    residual = "" if result.residual_db is None else f" with a residual of {_db(result.residual_db)} dB"
    warnings = "".join(f" Note: {warning}." for warning in result.warnings)
    return (
        f"{result.model} on {channels}{chunks}: {result.compute_seconds:.2f} s, "
        f"{result.compute_seconds / result.seconds:.2f} times the duration. "
        f"Levels are those of the mixture; the sources add up to it{residual}.{warnings}"
    )


def _opinion(signal: np.ndarray, sample_rate: int) -> Opinion | None:
    def read(start: int, n_samples: int) -> np.ndarray:
        return signal[start : start + n_samples]

    return predict_opinion(read, len(signal), sample_rate, max_excerpts=MAX_EXCERPTS)


def _is_chunked(result: SeparationResult) -> bool:
    return bool(result.seconds > result.pipeline["chunk_seconds"])


def _file(index: int) -> str:
    return "mixture" if index == 0 else f"s{index}"


def _db(value: float) -> str:
    return f"{value:.1f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "\N{EN DASH}"
