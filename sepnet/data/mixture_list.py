"""Lists of mixtures as LibriMix publishes them: a CSV of files and gains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sepnet.data.table import check_unique, read_table, write_table
from sepnet.types import SepnetError

SOURCE_PATH = re.compile(r"source_(\d+)_path")


class FileGain(NamedTuple):
    """A file, by its path in the list, and its linear gain."""

    path: str
    gain: float


@dataclass(frozen=True)
class FixedMixture:
    """One row of a list.

    Attributes:
        id: The mixture_ID.
        sources: The file and the gain of each source.
        noise: The file and the gain of the noise; None: no noise.
    """

    id: str
    sources: tuple[FileGain, ...]
    noise: FileGain | None = None


def read_list(csv: str | Path) -> list[FixedMixture]:
    """Read LibriMix metadata: mixture_ID, source_1_path, source_1_gain, ..., and perhaps the noise.

    A row may leave its last sources empty, to hold fewer than another.

    Args:
        csv: The list.

    Raises:
        SepnetError: The file or a column is missing, there are no rows, a gain is not a number, or an id
            occurs twice.
    """
    rows = read_table(csv, ("mixture_ID", "source_1_path", "source_1_gain"))
    mixtures = []
    for line, row in rows:
        numbers = sorted(int(match[1]) for name in row if (match := SOURCE_PATH.fullmatch(name)))
        cells = [_read_file_gain(row, f"source_{number}", csv, line) for number in numbers]
        sources = tuple(cell for cell in cells if cell is not None)
        if not sources:
            raise SepnetError(f"{csv}, line {line}: no source; write one into source_1_path")
        mixtures.append(FixedMixture(row["mixture_ID"], sources, _read_file_gain(row, "noise", csv, line)))
    check_unique(csv, [mixture.id for mixture in mixtures])
    return mixtures


def _read_file_gain(row: dict[str, str], name: str, csv: str | Path, line: int) -> FileGain | None:
    path, gain = row.get(f"{name}_path", ""), row.get(f"{name}_gain", "")
    if not path:
        return None
    try:
        return FileGain(path, float(gain))
    except ValueError as error:
        raise SepnetError(f"{csv}, line {line}: {name}_gain is {gain!r}, not a number") from error


def write_list(csv: str | Path, mixtures: Sequence[FixedMixture]) -> None:
    """Write what ``read_list`` reads, whole or not at all.

    Args:
        csv: The file to write.
        mixtures: Its rows, perhaps of different numbers of sources.
    """
    n_sources = max(len(mixture.sources) for mixture in mixtures)
    names = [f"source_{number + 1}" for number in range(n_sources)]
    names += ["noise"] if any(mixture.noise for mixture in mixtures) else []
    columns = ["mixture_ID", *(f"{name}_{what}" for name in names for what in ("path", "gain"))]
    rows = []
    for mixture in mixtures:
        empty = [("", "")] * (n_sources - len(mixture.sources))
        cells = [*mixture.sources, *empty, *([mixture.noise or ("", "")] if names[-1] == "noise" else [])]
        rows.append([mixture.id, *(cell for pair in cells for cell in pair)])
    write_table(csv, columns, rows)
