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

from sepnet.types import SepnetError

SCORE = "val/si_sdri"
COSTS = {"train/minutes": "minutes", "train/hours_of_audio": "hours_of_audio"}


@dataclass(frozen=True)
class Point:
    """One validation: the cost of training until then, and the SI-SDRi in dB."""

    step: int
    minutes: float
    hours_of_audio: float
    si_sdri_db: float


def read_curve(folder: Path) -> list[Point]:
    """Read the validations of a run.

    Args:
        folder: The run folder.

    Returns:
        The validations, by step.

    Raises:
        SepnetError: The run has logged none.
    """
    scores: dict[int, float] = {}
    costs: dict[int, dict[str, float]] = {}
    for version in sorted(folder.glob("csv/version_*"), key=lambda path: int(path.name.split("_")[1])):
        with (version / "metrics.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                # Validation is logged under the step just taken, its cost under the count of steps.
                if row.get(SCORE):
                    scores[int(row["step"]) + 1] = float(row[SCORE])
                if all(row.get(key) for key in COSTS):
                    costs[int(row["step"])] = {name: float(row[key]) for key, name in COSTS.items()}
    points = [
        Point(step=step, si_sdri_db=scores[step], **costs[step]) for step in sorted(scores) if step in costs
    ]
    if not points:
        raise SepnetError(f"{folder}/csv holds no validation with its cost: train it with a logger")
    return points


def curves_table(folders: Sequence[Path]) -> str:
    """Make a Markdown table of the total cost of each run, and of its best validation.

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
    """Draw the validation SI-SDRi of each run against minutes of wall time, as an SVG.

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
        figure.savefig(path, metadata={"Date": None})
