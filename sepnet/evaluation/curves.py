"""Learning curves of runs, read from the CSV files in their folders: a table and a figure.

A run that was stopped and resumed has one file for each start; their rows are joined.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from sepnet.atomic import replacing
from sepnet.stored import read_text, unreadable
from sepnet.types import SepnetError

SCORE = "val/si_sdri"
COSTS = {"train/minutes": "minutes", "train/hours_of_audio": "hours_of_audio"}


@dataclass(frozen=True)
class CurvePoint:
    """One validation of a run.

    Attributes:
        step: The number of optimizer steps before it.
        minutes: Wall time of the training until then.
        hours_of_audio: Length of the mixtures that were trained on until then.
        si_sdri_db: The SI-SDRi on the validation set, in dB.
    """

    step: int
    minutes: float
    hours_of_audio: float
    si_sdri_db: float


def read_curve(folder: Path) -> list[CurvePoint]:
    """Read the validations of a run.

    Args:
        folder: The run folder.

    Returns:
        The validations, by step.

    Raises:
        SepnetError: The run has logged no validation.
    """
    scores: dict[int, float] = {}
    costs: dict[int, dict[str, float]] = {}
    for file in sorted(folder.glob("csv/version_*/metrics.csv"), key=lambda path: _number(path.parent.name)):
        try:
            for row in csv.DictReader(read_text(file).splitlines()):
                # Validations are logged under the index of the last step, costs under the number of steps.
                if row.get(SCORE):
                    scores[int(row["step"]) + 1] = float(row[SCORE])
                if all(row.get(key) for key in COSTS):
                    costs[int(row["step"])] = {name: float(row[key]) for key, name in COSTS.items()}
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            if isinstance(error, SepnetError):
                raise
            raise unreadable(file, error) from error
    points = [
        CurvePoint(step=step, si_sdri_db=scores[step], **costs[step])
        for step in sorted(scores)
        if step in costs
    ]
    if not points:
        raise SepnetError(f"{folder}/csv has no validation with its cost: train with a logger (logger=csv)")
    return points


def _number(version: str) -> int:
    """The number of a folder ``version_<number>`` of a log; -1 for another name."""
    number = version.removeprefix("version_")
    return int(number) if number.isdecimal() else -1


def curves_table(folders: Sequence[Path]) -> str:
    """Make a Markdown table of the total cost of each run, and of its best validation.

    Args:
        folders: The run folders.

    Returns:
        The table, with a line break at its end.

    Raises:
        SepnetError: A run has logged no validation.
    """
    lines = [
        "| Run | Minutes | Hours of audio | Steps | Best validation SI-SDRi (dB) |",
        "|:--|--:|--:|--:|--:|",
    ]
    for folder in folders:
        points = read_curve(folder)
        last, best = points[-1], max(p.si_sdri_db for p in points)
        spent = f"{last.minutes:.1f} | {last.hours_of_audio:.1f} | {last.step}"
        lines.append(f"| {folder.name} | {spent} | {best:.2f} |")
    return "\n".join(lines) + "\n"


def curves_figure(folders: Sequence[Path], path: Path) -> None:
    """Draw the validation SI-SDRi of each run against minutes of wall time.

    Args:
        folders: The run folders.
        path: The SVG to write.

    Raises:
        SepnetError: A run has logged no validation.
    """
    with mpl.rc_context({"svg.hashsalt": "sepnet", "font.size": 10}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for folder in folders:
            points = read_curve(folder)
            axes.plot([p.minutes for p in points], [p.si_sdri_db for p in points], "o-", label=folder.name)
        axes.set(xlabel="wall time (minutes)", ylabel="validation SI-SDRi (dB)")
        axes.grid(alpha=0.3)
        axes.legend()
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
