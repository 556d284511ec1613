"""Tables for pages of Markdown, each made from the rows.csv of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sepnet.commands import command
from sepnet.evaluation import provenance, rows
from sepnet.evaluation.columns import Width, columns, markdown_table
from sepnet.evaluation.shipped import read_shipped
from sepnet.evaluation.table import Line, lines
from sepnet.evaluation.text import cell, number
from sepnet.types import SepnetError

ROWS = "rows.csv"


def results_table(folder: Path, *, width: Width = "summary", methods: Sequence[str] | None = None) -> str:
    """Make the table of an evaluation.

    Args:
        folder: The folder of the evaluation.
        width: Which columns the table has.
        methods: The names of the methods that get a row, in any order; None for all.

    Returns:
        A table in Markdown, in the order of the report, and a line about its origin.

    Raises:
        SepnetError: The folder holds no evaluation, or a method has no rows in it.
    """
    rows_csv = folder / ROWS
    table = select(read_table(folder), methods, folder)
    text = markdown_table(table, columns(width, rows.measures_of(rows_csv)))
    return f"{text}\n\n{cell(provenance.in_a_line(provenance.read(rows_csv)))}"


def terminal_table(folder: Path) -> str:
    """Make the table of an evaluation with all columns of the report, for a terminal.

    Args:
        folder: The folder of the evaluation.

    Returns:
        A table in Markdown, without escapes.

    Raises:
        SepnetError: The folder holds no evaluation.
    """
    measures = rows.measures_of(folder / ROWS)
    return markdown_table(read_table(folder), columns("full", measures), escape=False)


def read_table(folder: Path) -> list[Line]:
    """Read the rows of an evaluation as lines of its table.

    Args:
        folder: The folder of the evaluation.

    Returns:
        A line for each separator, in the order of the report.

    Raises:
        SepnetError: The folder holds no evaluation.
    """
    if not (folder / ROWS).is_file():
        raise SepnetError(f"there is no {folder / ROWS}: evaluate first ({command('eval')})")
    return lines(rows.read(folder / ROWS))


def select(table: Sequence[Line], methods: Sequence[str] | None, folder: Path) -> list[Line]:
    """Select the lines of some methods.

    Args:
        table: All lines.
        methods: The names of the methods; None for all.
        folder: The folder of the evaluation, for the error message.

    Returns:
        Their lines, in the order of ``table``.

    Raises:
        SepnetError: A method has no line.
    """
    known = {line.name for line in table}
    if missing := [name for name in methods or () if name not in known]:
        raise SepnetError(
            f"the table of {folder} has no row {missing[0]}: evaluate it first, or name some of "
            f"{', '.join(sorted(known))}"
        )
    return [line for line in table if methods is None or line.name in methods]


def weights_table() -> str:
    """Make a Markdown table with a row for each shipped separator.

    Returns:
        The table.

    Raises:
        SepnetError: The metrics of some weights have no score on a test set.
    """
    titles = ("Name", "Separates", "Tested on", "SI-SDRi (dB)", "Parameters (M)", "MB")
    table = [titles, (":--", ":--", ":--", "--:", "--:", "--:")]
    for shipped in read_shipped():
        gain: dict[str, Any] = shipped.test["si_sdr_improvement"]
        score = number(gain["mean"], 2)
        if gain["low"] is not None:  # a single mixture has no interval
            score += f" [{number(gain['low'], 2)}, {number(gain['high'], 2)}]"
        card = f"`{shipped.name}`"
        millions = number(shipped.test["parameters"] / 1e6, 2)
        table.append(
            (card, shipped.separates, shipped.tested_on, score, millions, f"{shipped.n_bytes / 1e6:.1f}")
        )
    head, rule, *body = table
    return "\n".join(
        [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(r)} |" for r in body)]
    )
