"""What a model gains by the kind of recording: a table for its card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepnet.evaluation.text import UNDEFINED, number
from sepnet.stored import read_json
from sepnet.types import SepnetError


@dataclass(frozen=True)
class Condition:
    """The mean over mixtures under one condition.

    Attributes:
        name: The condition, in a few words.
        n: The number of mixtures.
        mean: Of the SI-SDRi, or of a level; in dB.
        low: The lower bound of its 95 % interval.
        high: Its upper bound.
        below_percent: How many mixtures are worse than before, in percent; None where the mean is a level.
    """

    name: str
    n: int
    mean: float
    low: float
    high: float
    below_percent: float | None


def read_conditions(path: Path, weights_sha1: str | None) -> list[Condition]:
    """Read what ``benchmarks/run.py what=conditions`` has written of a model.

    Args:
        path: The file.
        weights_sha1: Of the model.

    Returns:
        The conditions, in their order.

    Raises:
        SepnetError: It is not there, holds something else, or was measured with other weights.
    """
    remedy = f"python benchmarks/run.py what=conditions data=... model=<the run> out={path}"
    if not path.is_file():
        raise SepnetError(f"there is no {path}: make it with `{remedy}`")
    try:
        content = read_json(path)
        conditions, measured = [Condition(**row) for row in content["conditions"]], content["weights_sha1"]
    except (KeyError, TypeError) as error:
        raise SepnetError(f"{path} holds no conditions ({error}): make it again with `{remedy}`") from error
    if measured != weights_sha1:
        raise SepnetError(f"{path} was measured with other weights: make it again with `{remedy}`")
    return conditions


def compared_table(models: Mapping[str, Sequence[Condition]]) -> str:
    """Write a Markdown table with a row for each condition and a column for each model.

    Args:
        models: The conditions of each model; the rows are those of the first, in its order.

    Returns:
        The lines of the table, without a line break at the end.
    """
    means = {name: {row.name: row.mean for row in conditions} for name, conditions in models.items()}
    lines = [
        f"| Two voices: SI-SDRi, or level (dB) | {' | '.join(f'`{name}`' for name in models)} |",
        f"|:--|{'--:|' * len(models)}",
    ]
    for title in next(iter(means.values())):
        cells = (number(rows.get(title, math.nan), 1) for rows in means.values())
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def conditions_table(conditions: Sequence[Condition]) -> str:
    """Write a Markdown table with a row for each condition.

    Args:
        conditions: From top to bottom.

    Returns:
        The lines of the table, without a line break at the end.
    """
    lines = ["| Two voices | SI-SDRi, or level (dB) | Mixtures made worse (%) |", "|:--|--:|--:|"]
    for row in conditions:
        below = UNDEFINED if row.below_percent is None else number(row.below_percent, 1)
        interval = f" [{number(row.low, 1)}, {number(row.high, 1)}]" if row.n > 1 else ""
        lines.append(f"| {row.name} | {number(row.mean, 1)}{interval} | {below} |")
    return "\n".join(lines)
