"""Box plots, panels, scatter plots and spectrograms, as SVG in the light or dark scheme of its reader."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sepnet.evaluation.rows import Role

INK = "#010203"  # stands for the text colour, and becomes currentColor in the file
SCHEME = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d4d8de}}</style>"
COLOURS: Mapping[Role, str] = {"floor": "#8b919a", "method": "#4688f1", "ceiling": "#2aa876"}
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "text.parse_math": False,  # a name may hold dollar signs
    "svg.hashsalt": "sepnet",  # the same figure is the same file
}
THIN: dict[str, Any] = {"color": INK, "linewidth": 0.9}
FEW = 9  # boxes that have room
MARKS = "osD^vPX"
WINDOW_SECONDS = 0.032
MOST_FRAMES = 1200
DYNAMIC_RANGE_DB = 80.0


def box_plot(
    path: Path, values: Mapping[str, Sequence[float]], roles: Mapping[str, Role], xlabel: str
) -> None:
    """A box for each name, the first on top: quartiles, median, 5th to 95th percentile, mean as a dot."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(5.8, 0.75 + (0.42 if len(values) < FEW else 0.28) * len(values)), layout="constrained"
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
    """SI-SDRi in dB of each name in each bin: a line of marks for each name, the first on top; nan: none."""
    colours = matplotlib.colormaps["plasma"](np.linspace(0.3, 0.88, len(labels)))
    with matplotlib.rc_context(STYLE):
        rows_of_legend = -(-len(labels) // 2)
        height = 0.9 + 0.24 * len(means) + 0.24 * rows_of_legend
        figure = Figure(figsize=(4.4, height), layout="constrained")
        axes = figure.add_subplot()
        for position, values in enumerate(means.values()):
            known = [value for value in values if not np.isnan(value)]
            if known:
                axes.hlines(position, min(known), max(known), color=INK, linewidth=0.8, alpha=0.35, zorder=1)
        for number, label in enumerate(labels):
            x = [values[number] for values in means.values()]
            mark = MARKS[number % len(MARKS)]
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
    """SI-SDRi against input SI-SDR in dB, a dot for each source; on the dashed line nothing was gained."""
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
    """``folder/NAME.svg`` for each signal, all on one scale: 0 dB is the loudest point of any of them."""
    levels = {name: levels_db(signal, sample_rate) for name, signal in signals.items()}
    loudest = max(float(level.max()) for level in levels.values())
    for name, level in levels.items():
        seconds = signals[name].shape[-1] / sample_rate
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(4.2, 2.3), layout="constrained")
            axes = figure.add_subplot()
            image = axes.imshow(
                level.numpy() - loudest,
                origin="lower",
                aspect="auto",
                extent=(0, seconds, 0, sample_rate / 2000),
                vmin=-DYNAMIC_RANGE_DB,
                vmax=0,
                cmap="magma",
                interpolation="antialiased",
            )
            axes.set(xlabel="time (s)", ylabel="frequency (kHz)")
            _frame(axes)
            bar = figure.colorbar(image, ax=axes, label="level (dB)", pad=0.02, aspect=16)
            bar.outline.set_visible(False)
            _save(figure, folder / f"{name}.svg")


def levels_db(signal: Float[Tensor, " time"], sample_rate: int) -> Float[Tensor, "freq frame"]:
    """The magnitude spectrogram in dB, in windows of 32 ms, of 1200 frames or so at the most."""
    n_fft = max(32, round(WINDOW_SECONDS * sample_rate))
    hop = max(n_fft // 4, signal.shape[-1] // MOST_FRAMES)
    padded = torch.nn.functional.pad(signal.float(), (n_fft // 2, n_fft // 2))
    spectrum = torch.stft(
        padded, n_fft, hop, window=torch.hann_window(n_fft), center=False, return_complex=True
    )
    return 20 * torch.log10(spectrum.abs() + 1e-10)


def _frame(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _save(figure: Figure, path: Path) -> None:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, dpi=160, metadata={"Date": None})
    begin, opening, rest = text.getvalue().partition("<defs>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((begin + SCHEME + opening + rest).replace(INK, "currentColor"))
