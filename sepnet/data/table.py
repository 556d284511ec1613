"""CSV tables: read with every column there, written whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from sepnet.data import audio
from sepnet.types import SepnetError

NAMED_AT_MOST = 10


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV with a header under a temporary name, then move it to ``path``."""
    with audio.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path: str | Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) for each row. Raises SepnetError if the file, a column or a cell is missing."""
    path = Path(path)
    if not path.is_file():
        raise SepnetError(f"there is no table {path}: check the path")
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        present = list(reader.fieldnames or ())
        if missing := [column for column in columns if column not in present]:
            raise SepnetError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(present)}")
        rows = [(reader.line_num, row) for row in reader]
    for line, row in rows:
        if None in row or None in row.values():
            raise SepnetError(f"{path}, line {line}: the row has not the {len(present)} cells of the header")
    return rows


def named(items: Sequence[str]) -> str:
    """The first ten of a list for a message, and how many more there are."""
    more = len(items) - NAMED_AT_MOST
    return ", ".join(items[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
