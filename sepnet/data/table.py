"""CSV tables: read with all required columns, written whole or not at all."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sepnet.atomic import replacing
from sepnet.stored import unreadable
from sepnet.types import SepnetError

MAX_NAMES_IN_MESSAGE = 10


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV with a header under a temporary name, then move it to ``path``.

    Args:
        path: The file to write.
        columns: The header.
        rows: The cells of each row, in the order of the columns.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path: str | Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV with a header.

    Args:
        path: The file.
        columns: Columns that it has to have.

    Returns:
        For each row its line number in the file and its cells by column.

    Raises:
        SepnetError: The file or a column is missing, or a row has another number of cells than the header.
    """
    return list(iterate_table(path, columns))


def iterate_table(path: str | Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a CSV with a header, a row at a time.

    Args:
        path: The file.
        columns: Columns that it has to have.

    Yields:
        For each row its line number in the file and its cells by column.

    Raises:
        SepnetError: As ``read_table``.
    """
    path = Path(path)
    if not path.is_file():
        raise SepnetError(f"there is no table {path}: check the path")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            if not header:
                raise SepnetError(f"{path} is empty: give a header, such as {','.join(columns)}, and rows")
            if missing := [column for column in columns if column not in header]:
                raise SepnetError(
                    f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(header)}"
                )
            for row in reader:
                if not row:
                    continue  # an empty line
                if len(row) != len(header):
                    raise SepnetError(
                        f"{path}, line {reader.line_num}: the row does not have the {len(header)} cells of "
                        "the header"
                    )
                yield reader.line_num, dict(zip(header, row, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error) from error


def join_names(items: Sequence[str]) -> str:
    """Join the first ten items for a message, and say how many more there are."""
    n_more = len(items) - MAX_NAMES_IN_MESSAGE
    return ", ".join(items[:MAX_NAMES_IN_MESSAGE]) + (f" and {n_more} more" if n_more > 0 else "")


def check_unique(csv: str | Path, ids: Sequence[str]) -> None:
    """Check the mixture_IDs of a list.

    Args:
        csv: The list, for the message.
        ids: Its mixture_IDs.

    Raises:
        SepnetError: There are none, or one occurs twice.
    """
    if not ids:
        raise SepnetError(f"{csv} has a header but no rows: make the list again")
    if repeated := [name for name, count in Counter(ids).items() if count > 1]:
        raise SepnetError(
            f"{csv} has {len(repeated)} mixture_IDs more than once: {join_names(repeated)}; rename them"
        )
