"""A training in parts, each from the weights of the one before: what each cost, and what it reached.

The score is fitted by a + b log2(hours of processor), as a doubling of the training has brought about as much
each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sepnet.atomic import replacing
from sepnet.evaluation.text import UNDEFINED, number
from sepnet.ranges import PositiveFloat, Text
from sepnet.types import SepnetError

MIN_FITTED = 3  # parts; two would lie on any line


@dataclass(frozen=True, kw_only=True)
class TrainingPart:
    """One part of a training.

    Attributes:
        settings: Of ``sepnet train``.
        minutes: On one processor core.
        hours_of_audio: Length of the mixtures that it heard.
        dev_db: SI-SDRi on the validation set that it reached, in dB.
        test_db: SI-SDRi on the test set, in dB; None where it was not evaluated.
    """

    settings: Text
    minutes: PositiveFloat
    hours_of_audio: PositiveFloat
    dev_db: float
    test_db: float | None = None


def parts_table(parts: Sequence[TrainingPart]) -> str:
    """Make a Markdown table with a row for each part, and a sentence about the fitted law.

    Args:
        parts: In their order.

    Returns:
        The lines, without a line break at the end.
    """
    lines = [
        "| Settings | Minutes | Core hours so far | Hours of audio so far | Validation SI-SDRi (dB) "
        "| Test SI-SDRi (dB) |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for part, core_hours, audio_hours in zip(parts, *_totals(parts), strict=True):
        test = UNDEFINED if part.test_db is None else number(part.test_db, 2)
        costs = f"{part.minutes:g} | {core_hours:.1f} | {audio_hours:.0f}"
        lines.append(f"| `{part.settings}` | {costs} | {number(part.dev_db, 2)} | {test} |")
    if len(parts) > MIN_FITTED:
        lines += ["", _law(parts)]
    return "\n".join(lines)


def parts_figure(parts: Sequence[TrainingPart], path: Path) -> None:
    """Draw the scores against the hours of processor, and the fitted law.

    Args:
        parts: In their order.
        path: The SVG to write.

    Raises:
        SepnetError: There are too few parts for a law.
    """
    if len(parts) < MIN_FITTED:
        raise SepnetError(
            f"{len(parts)} parts of training are too few for a figure: give {MIN_FITTED} or more"
        )
    hours, _ = _totals(parts)
    offset, slope = fit(parts)
    with mpl.rc_context({"svg.hashsalt": "sepnet", "font.size": 10}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(hours, [part.dev_db for part in parts], "o-", label="validation")
        tested = [(h, part.test_db) for h, part in zip(hours, parts, strict=True) if part.test_db is not None]
        if tested:
            axes.plot(*zip(*tested, strict=True), "s-", label="test")
        grid = np.geomspace(hours[0], 2 * hours[-1], 50)
        axes.plot(grid, offset + slope * np.log2(grid), "--", color="grey", label="fitted to validation")
        axes.set(xscale="log", xlabel="hours of one processor core", ylabel="SI-SDRi (dB)")
        ticks = [1, 2, 4, 8, 16, 32]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def fit(parts: Sequence[TrainingPart]) -> tuple[float, float]:
    """Fit a + b log2(hours of processor) to the validation scores by least squares.

    Args:
        parts: In their order, at least two.

    Returns:
        a in dB, and b in dB for each doubling.
    """
    hours, _ = _totals(parts)
    slope, offset = np.polyfit(np.log2(hours), [part.dev_db for part in parts], 1)
    return float(offset), float(slope)


def _totals(parts: Sequence[TrainingPart]) -> tuple[list[float], list[float]]:
    """The hours of processor and of audio until the end of each part."""
    core = accumulate(part.minutes / 60 for part in parts)
    return list(core), list(accumulate(part.hours_of_audio for part in parts))


def _law(parts: Sequence[TrainingPart]) -> str:
    hours, _ = _totals(parts)
    offset, slope = fit(parts)
    before, rate = fit(parts[:-1])
    predicted = before + rate * math.log2(hours[-1])
    return (
        f"Fit to the validation scores: {offset:.2f} dB after one core hour, and {slope:.2f} dB more with "
        f"each doubling. Fitted without the last part, it predicts {predicted:.2f} dB there; "
        f"{parts[-1].dev_db:.2f} dB were reached."
    )
