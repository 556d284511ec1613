"""Two pictures of a query, as PNG: the target that was separated, and the detection over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sepnet.atomic import replacing
from sepnet.figures.spectrogram import draw_spectrogram, extent, spectrogram_db
from sepnet.types import SepnetError

DPI = 130
INK = "#24292f"
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "text.parse_math": False,  # a class may hold dollar signs
}
COLOURS = {
    "probability": "#4688f1",
    "similarity": "#d9822b",
    "score": INK,
    "found": "#4688f1",
    "true": "#2aa876",
}


def comparison_figure(
    path: str | Path,
    *,
    mixture: Float[Tensor, " _"],
    mask: Float[Tensor, "bin frame"] | Float[np.ndarray, "bin frame"],
    target: Float[Tensor, " _"],
    residual: Float[Tensor, " _"],
    sample_rate: int,
    title: str = "",
) -> None:
    """Draw spectrograms of mixture, target and residual on one scale, and the mask.

    Args:
        path: Of the PNG.
        mixture: (time,); its loudest point is 0 dB.
        mask: From 0 Hz to half the rate, and from the beginning to the end of the mixture.
        target: (time,).
        residual: (time,).
        sample_rate: In Hz.
        title: Of the picture.

    Raises:
        SepnetError: The signals have different lengths.
    """
    signals = {"mixture": mixture, "target": target, "residual": residual}
    if len({signal.shape[-1] for signal in signals.values()}) > 1:
        lengths = ", ".join(f"{name} {signal.shape[-1]}" for name, signal in signals.items())
        raise SepnetError(f"the signals of a picture need one length, but have in samples: {lengths}")
    levels = {name: spectrogram_db(signal, sample_rate) for name, signal in signals.items()}
    loudest_db, seconds = float(levels["mixture"].max()), mixture.shape[-1] / sample_rate
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 6.2), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey=True)
        places = {"mixture": axes[0, 0], "mask": axes[0, 1], "target": axes[1, 0], "residual": axes[1, 1]}
        for name, level in levels.items():
            spectrum = draw_spectrogram(
                places[name], level, loudest_db, duration=seconds, sample_rate=sample_rate
            )
        values = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else mask
        gains = places["mask"].imshow(
            values, vmin=0, vmax=1, cmap="viridis", interpolation="nearest", **extent(seconds, sample_rate)
        )
        for name, place in places.items():
            place.set_title(name, loc="left", fontsize=10, fontweight="bold")
            for spine in place.spines.values():
                spine.set_visible(False)
        for place in axes[1]:
            place.set_xlabel("time (s)")
        for place in axes[:, 0]:
            place.set_ylabel("frequency (kHz)")
        for image, where, label in (
            (gains, axes[0], "mask (share kept)"),
            (spectrum, axes[1], "level (dB re the mixture's loudest)"),
        ):
            bar = figure.colorbar(image, ax=list(where), label=label, pad=0.01, aspect=22)
            bar.outline.set_visible(False)
        _save(figure, path, title)


def timeline_figure(
    path: str | Path,
    *,
    times_seconds: Sequence[float],
    probability: Sequence[float] | None,
    similarity: Sequence[float],
    threshold: float | None,
    gate: Sequence[float] | Sequence[bool] | Bool[np.ndarray, " window"],
    segments: Iterable[tuple[float, float]],
    seconds: float,
    score: Sequence[float] | None = None,
    truth: Iterable[tuple[float, float]] | None = None,
    title: str = "",
) -> None:
    """Draw the detection of a target over time: the scores of each window, the gate, and the segments.

    Args:
        path: Of the PNG.
        times_seconds: The centres of the windows.
        probability: Of the query's class in each window; None where the class is unknown.
        similarity: Of each window to the query's embedding.
        threshold: Of the score; None: it is not drawn.
        gate: Which windows pass.
        segments: Detected, (begin, end) in seconds.
        seconds: The length of the mixture.
        score: Of each window, where it is neither probability nor similarity (their product, say).
        truth: The true segments.
        title: Of the picture.

    Raises:
        SepnetError: The numbers of windows differ.
    """
    curves = {
        name: np.asarray(values, dtype=float)
        for name, values in (("probability", probability), ("similarity", similarity), ("score", score))
        if values is not None
    }
    times, passed = np.asarray(times_seconds, dtype=float), np.asarray(gate, dtype=bool)
    if bad := {
        name: len(each) for name, each in {**curves, "gate": passed}.items() if len(each) != len(times)
    }:
        lengths = ", ".join(f"{name} has {length}" for name, length in bad.items())
        raise SepnetError(f"there are {len(times)} windows, but {lengths} values: give one for each window")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1.1))
        for name, values in curves.items():
            thick = {"linewidth": 2.0} if name == "score" else {"linewidth": 1.4}
            above.plot(times, values, "-", color=COLOURS[name], label=name, zorder=2, **thick)
            above.scatter(times[passed], values[passed], s=22, color=COLOURS[name], zorder=3)
            above.scatter(
                times[~passed], values[~passed], s=22, facecolor="white", edgecolor=COLOURS[name], zorder=3
            )
        if threshold is not None:
            above.axhline(threshold, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
            above.annotate(
                f"threshold {threshold:.2f}", (0.002, threshold), xytext=(0, 3), fontsize=9,
                xycoords=("axes fraction", "data"), textcoords="offset points",
            )  # fmt: skip
        lowest = min((float(values.min()) for values in curves.values() if len(values)), default=0.0)
        above.set(ylim=(min(-0.03, lowest - 0.03), 1.05), xlim=(0, seconds), ylabel="of each window (0 to 1)")
        above.grid(color=INK, alpha=0.12)
        above.plot([], [], "o", color=INK, label="passes", markersize=5)
        above.plot([], [], "o", color=INK, markerfacecolor="white", label="does not", markersize=5)
        figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
        _strips(below, list(segments), None if truth is None else list(truth), seconds)
        _save(figure, path, title)


def _strips(
    axes: Axes, found: list[tuple[float, float]], truth: list[tuple[float, float]] | None, seconds: float
) -> None:
    """Draw a bar for each segment, the detected ones above the true ones."""
    rows = {"found": found} | ({} if truth is None else {"true": truth})
    for height, (name, segments) in enumerate(rows.items()):
        axes.barh(height, seconds, height=0.62, color=INK, alpha=0.06)
        axes.broken_barh(
            [(begin, end - begin) for begin, end in segments], (height - 0.31, 0.62), color=COLOURS[name]
        )
        if not segments:
            axes.text(seconds / 2, height, "nothing", ha="center", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="time (s)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _save(figure: Figure, path: str | Path, title: str) -> None:
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
