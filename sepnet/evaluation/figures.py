"""Box plots, panels, scatter plots and spectrograms, as SVG that follow a light or dark colour scheme."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sepnet.atomic import write_text
from sepnet.evaluation.rows import Role
from sepnet.figures.spectrogram import draw_spectrogram, spectrogram_db

INK = "#010203"  # a placeholder for the text colour; the file has currentColor in its place
SCHEME = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d4d8de}}</style>"
COLOURS: Mapping[Role, str] = {"floor": "#8b919a", "method": "#4688f1", "ceiling": "#2aa876"}
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "text.parse_math": False,  # a name may contain dollar signs
    "svg.hashsalt": "sepnet",  # so that equal figures are equal files
}
THIN: dict[str, Any] = {"color": INK, "linewidth": 0.9}
MAX_TALL_BOXES = 8  # more are drawn lower
MARKERS = "osD^vPX"


def box_plot(
    path: Path, values: Mapping[str, Sequence[float]], roles: Mapping[str, Role], xlabel: str
) -> None:
    """Draw a box for each method, the first on top.

    Boxes show quartiles and median, whiskers the 5th and 95th percentile, dots the mean.

    Args:
        path: The SVG to write.
        values: {name of the method: values}.
        roles: {name of the method: role}; the role determines the colour.
        xlabel: The label of the axis of values.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(5.8, 0.75 + (0.42 if len(values) <= MAX_TALL_BOXES else 0.28) * len(values)),
            layout="constrained",
        )
        axes = figure.add_subplot()
        boxes = axes.boxplot(
            list(values.values()),
            orientation="horizontal",
            whis=(5, 95),
            showfliers=False,
            showmeans=True,
            widths=0.55,
            patch_artist=True,
            tick_labels=[_short(name) for name in values],
            medianprops={"color": INK, "linewidth": 1.6},
            meanprops={"marker": "o", "markersize": 4, "markerfacecolor": "white", "markeredgecolor": INK},
            boxprops={"edgecolor": INK, "linewidth": 0.9},
            whiskerprops=THIN,
            capprops=THIN,
        )
        for box, name in zip(boxes["boxes"], values, strict=True):
            box.set_facecolor(COLOURS[roles[name]])
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        axes.grid(axis="x", color=INK, alpha=0.12)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(xlabel)
        _save(figure, path)


def panel(
    path: Path, means: Mapping[str, Sequence[float]], roles: Mapping[str, Role], labels: Sequence[str]
) -> None:
    """Draw the SI-SDRi of each method in each bin, a line of markers for each method, the first on top.

    Args:
        path: The SVG to write.
        means: {name: SI-SDRi in dB for each bin}; nan is left out.
        roles: {name: role}; the role determines the colour of the name.
        labels: The names of the bins.
    """
    colours = matplotlib.colormaps["plasma"](np.linspace(0.3, 0.88, len(labels)))
    with matplotlib.rc_context(STYLE):
        rows_of_legend = -(-len(labels) // 2)
        height = 0.9 + 0.24 * len(means) + 0.24 * rows_of_legend
        figure = Figure(figsize=(4.4, height), layout="constrained")
        axes = figure.add_subplot()
        for position, values in enumerate(means.values()):
            defined = [value for value in values if not np.isnan(value)]
            if defined:
                axes.hlines(
                    position, min(defined), max(defined), color=INK, linewidth=0.8, alpha=0.35, zorder=1
                )
        for number, label in enumerate(labels):
            x = [values[number] for values in means.values()]
            mark = MARKERS[number % len(MARKERS)]
            axes.scatter(x, range(len(x)), s=26, marker=mark, color=colours[number], label=label, zorder=2)
        axes.set_yticks(range(len(means)), [_short(name) for name in means])
        for text, name in zip(axes.get_yticklabels(), means, strict=True):
            text.set_color(INK if roles[name] == "method" else COLOURS[roles[name]])
        axes.set_ylim(len(means) - 0.4, -0.6)
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        axes.grid(axis="x", color=INK, alpha=0.12)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("SI-SDR improvement (dB)")
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9, handletextpad=0.2)
        _save(figure, path)


def scatter(
    path: Path,
    before: Sequence[float],
    gain: Sequence[float],
    *,
    role: Role,
    limits: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    """Draw SI-SDRi against the SI-SDR of the mixture, a dot for each source.

    Args:
        path: The SVG to write.
        before: SI-SDR of the mixture in dB, one value for each source.
        gain: SI-SDRi in dB, one value for each source.
        role: Determines the colour.
        limits: The ends of both axes in dB, x first.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1, 2.75), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.7)
        alpha = float(np.clip(30 / max(len(before), 1) ** 0.7, 0.15, 0.7))
        axes.scatter(before, gain, s=11, color=COLOURS[role], alpha=alpha, linewidths=0, rasterized=True)
        axes.set(xlim=limits[0], ylim=limits[1], xlabel="SI-SDR of the mixture (dB)", ylabel="SI-SDRi (dB)")
        axes.grid(color=INK, alpha=0.12)
        _save(figure, path)


def spectrograms(folder: Path, signals: Mapping[str, Float[Tensor, " time"]], sample_rate: int) -> None:
    """Draw ``folder/NAME.svg`` for each signal, all on one scale: 0 dB is the loudest point of any of them.

    Args:
        folder: The folder of the files.
        signals: {name: signal (time,)}.
        sample_rate: In Hz.
    """
    levels = {name: spectrogram_db(signal, sample_rate) for name, signal in signals.items()}
    loudest_db = max(float(level.max()) for level in levels.values())
    for name, level in levels.items():
        seconds = signals[name].shape[-1] / sample_rate
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(4.2, 2.3), layout="constrained")
            axes = figure.add_subplot()
            image = draw_spectrogram(axes, level, loudest_db, duration=seconds, sample_rate=sample_rate)
            axes.set(xlabel="time (s)", ylabel="frequency (kHz)")
            _frame(axes)
            bar = figure.colorbar(image, ax=axes, label="level (dB)", pad=0.02, aspect=16)
            bar.outline.set_visible(False)
            _save(figure, folder / f"{name}.svg")


def _frame(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _save(figure: Figure, path: Path) -> None:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, dpi=160, metadata={"Date": None})
    begin, opening, rest = text.getvalue().partition("<defs>")
    write_text(path, (begin + SCHEME + opening + rest).replace(INK, "currentColor"))
