"""Tables of results in Markdown: the report's with every column, a summary, and a short one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sepnet.evaluation.statistics import Summary
from sepnet.evaluation.table import QUANTITIES, SI_SDRI, Line, Quantity
from sepnet.evaluation.text import cell, factor, number

Width = Literal["full", "summary", "short"]
"""``full``: all columns of the report; ``summary``: for a page of several tables; ``short``: for a README."""
SHORT_SCORES = ("si_sdr_improvement", "sdr_improvement")


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        title: The title.
        cell: Writes the text of the cell for a method.
    """

    title: str
    cell: Callable[[Line], str]


def columns(width: Width, measures: Sequence[str]) -> list[Column]:
    """Choose the columns of a table.

    Args:
        width: Which columns there are.
        measures: The measures that were computed; others have no column.

    Returns:
        The columns from left to right, without the column of the methods' names.
    """
    scored = [quantity for quantity in QUANTITIES if quantity.measure in measures]
    if width == "full":
        spread = _SPREAD if SI_SDRI in scored else []
        return [*(_score(quantity, interval=True) for quantity in scored), *spread, *_FULL_COST, *_STATUS]
    scored = [quantity for quantity in scored if quantity.key != "sdr"]
    if width == "short":
        scored = [quantity for quantity in scored if quantity.key in SHORT_SCORES]
    scores = [_score(quantity, interval=position == 0) for position, quantity in enumerate(scored)]
    return [*scores, *(_SHORT_COST if width == "short" else [*_SHORT_COST, *_SUMMARY_END])]


def markdown_table(table: Sequence[Line], columns: Sequence[Column], *, escape: bool = True) -> str:
    """Write a Markdown table with a row for each method.

    Args:
        table: The methods, from top to bottom.
        columns: The columns after the methods' names.
        escape: Whether characters with a meaning in Markdown are escaped; a terminal does not need it.

    Returns:
        The lines of the table, without a line break at the end.
    """
    titles = ["Method", *(column.title for column in columns)]
    rows = [titles, *([_name(line, escape), *(column.cell(line) for column in columns)] for line in table)]
    written = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([written[0], f"|:--|{'--:|' * len(columns)}", *written[1:]])


def _name(line: Line, escape: bool) -> str:
    text = cell if escape else str
    role = "" if line.role == "method" else f" ({line.role})"
    refusal = f": {text(line.refusal)}" if line.refusal else ""
    return f"{text(line.name)}{role}{refusal}"


def _score(quantity: Quantity, *, interval: bool) -> Column:
    def text(line: Line) -> str:
        summary = line.scores[quantity.key]
        return score_text(summary, quantity.digits) if interval else number(summary.mean, quantity.digits)

    return Column(f"{quantity.label} ({quantity.unit})", text)


def score_text(summary: Summary, digits: int) -> str:
    """Write a mean, and in brackets its interval if it has one.

    Args:
        summary: The mean and its interval.
        digits: The number of digits after the decimal point.
    """
    if summary.n <= 1:
        return number(summary.mean, digits)
    return f"{number(summary.mean, digits)} {_bounds(summary.low, summary.high, digits)}"


def _bounds(low: float, high: float, digits: int) -> str:
    return f"[{number(low, digits)}, {number(high, digits)}]"


def _median(line: Line) -> str:
    low, high = line.median_interval
    median = number(line.scores[SI_SDRI.key].median, 2)
    return f"{median} {_bounds(low, high, 2)}" if not math.isnan(low) else median


def _above_zero(line: Line) -> str:
    above = line.above_zero
    share = number(100 * above.share, 0)
    return f"{share} {_bounds(100 * above.low, 100 * above.high, 0)}" if above.n > 1 else share


def _scored(line: Line) -> str:
    parts = [f"{line.counts['ok']} of {len(line.rows)}"]
    if excluded := line.counts["excluded"]:
        parts.append(f"{excluded} excluded")
    if refused := line.counts["cannot_separate"]:
        parts.append(f"{refused} refused")
    if failed := line.counts["failed"]:
        parts.append(f"{failed} failed")
    return ", ".join(parts)


_SPREAD = [Column("Median SI-SDRi (dB)", _median), Column("Above 0 dB (%)", _above_zero)]
_SIZE = [
    Column("Parameters (M)", lambda line: number(line.parameters / 1e6, 2)),
    Column("GMAC per s", lambda line: factor(line.macs_per_second / 1e9)),
]
_SHORT_COST = [*_SIZE, Column("Real-time factor", lambda line: factor(line.real_time_factor))]
_SUMMARY_END = [
    Column("Memory (MiB)", lambda line: number(line.peak_memory_mb, 0)),
    Column("Scored", _scored),
]
_FULL_COST = [
    *_SIZE,
    Column(
        "Real-time factor (one, two threads)",
        lambda line: f"{factor(line.real_time_factor)}, {factor(line.two_thread_factor)}",
    ),
    Column("Peak memory (MiB)", lambda line: number(line.peak_memory_mb, 0)),
]
_STATUS = [
    Column("OK", lambda line: str(line.counts["ok"])),
    Column("Excluded", lambda line: str(line.counts["excluded"])),
    Column("Refused", lambda line: str(line.counts["cannot_separate"])),
    Column("Failed", lambda line: str(line.counts["failed"])),
]
