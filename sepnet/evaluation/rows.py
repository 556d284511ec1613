"""rows.csv: one row per (separator, mixture, source), the one file that every table is made from.

Columns, for each measure M of the run (``si_sdr, sdr, snr, pesq, stoi, estoi`` by default):

``separator``         the contender's name
``mixture_id``        name of the mixture in the test set
``source, n_sources`` number of the reference, from 1 as in the names of the examples, and how many there are
``seconds, sample_rate``  length of the mixture in s, its rate in Hz
``sexes``             of all speakers of the mixture, such as f+m; empty: unknown for one of them
``overlap``           share of the mixture's time in which two sources or more are active (see ``facts``)
``level_difference_db``  power of this reference over that of the sum of the others; empty: undefined
``condition``         of the mixture, where the test set was made under several, such as levels
``status``            ok | cannot_separate | failed | excluded (silent, the only source, or not queried)
``reason``            for all but ok; for ok: the estimate is silent, or the message of a SeparationWarning
``permutation``       which of the separator's outputs was taken for this source, counted from 1
``n_estimated``       the number of sources that the separator estimates; empty: it does not count
``M, M_mixture``      the measure of the estimate and of the mixture; empty: undefined
``compute_seconds``   processor time of ``separate`` for the mixture on one thread, or wall time with a GPU;
                      in each source's row
``two_thread_seconds``  wall time of the same on two threads; for the first few mixtures of a set
``peak_memory_mb``    peak of the resident memory (MiB) while loading and separating, above that before
``parameters``        of the separator's networks
``macs_per_second``   multiply-accumulates for a second of audio (see ``cost``); for the first few mixtures
``role``              floor (the mixture itself) | method | ceiling (a method that is given the references)

A mixture's rows are appended in one write. A process that is killed can leave a part of the last
mixture's rows behind: ``read`` ignores it, and ``repair`` removes it.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from sepnet.atomic import replacing
from sepnet.stored import unreadable
from sepnet.types import SepnetError

Status = Literal["ok", "cannot_separate", "failed", "excluded"]
Role = Literal["floor", "method", "ceiling"]
BEFORE_MEASURES = (
    "separator",
    "mixture_id",
    "source",
    "n_sources",
    "seconds",
    "sample_rate",
    "sexes",
    "overlap",
    "level_difference_db",
    "condition",
    "status",
    "reason",
    "permutation",
    "n_estimated",
)
AFTER_MEASURES = (
    "compute_seconds",
    "two_thread_seconds",
    "peak_memory_mb",
    "parameters",
    "macs_per_second",
    "role",
)
# Any other reason of an ok row is the message of a SeparationWarning.
SILENT_ESTIMATE = "the estimate is silent"


@dataclass(frozen=True)
class Row:
    """One source of one mixture, separated by one method; see the module's docstring for the columns.

    ``scores`` and ``mixture_scores`` map a measure to its value, nan where it is undefined.
    """

    separator: str
    mixture_id: str
    source: int
    n_sources: int
    seconds: float
    sample_rate: int
    status: Status
    reason: str
    permutation: int | None
    scores: Mapping[str, float]
    mixture_scores: Mapping[str, float]
    compute_seconds: float | None
    peak_memory_mb: float | None
    parameters: int
    role: Role
    sexes: str = ""
    overlap: float | None = None
    level_difference_db: float | None = None
    two_thread_seconds: float | None = None
    macs_per_second: float | None = None
    n_estimated: int | None = None
    condition: str = ""

    def improvement(self, measure: str) -> float:
        """The estimate's score minus the mixture's; nan where either is undefined."""
        return self.scores.get(measure, math.nan) - self.mixture_scores.get(measure, math.nan)


def columns(measures: Sequence[str]) -> list[str]:
    """Return the header of a file with these measures."""
    return [
        *BEFORE_MEASURES,
        *(name for measure in measures for name in (measure, f"{measure}_mixture")),
        *AFTER_MEASURES,
    ]


def append(path: Path, rows: Iterable[Row], measures: Sequence[str]) -> None:
    """Append the rows of one mixture in a single write, after a header if the file is new or empty.

    Args:
        path: The rows.csv.
        rows: All rows of a mixture.
        measures: The measures of the file.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(measures), lineterminator="\n")
    if not path.exists() or path.stat().st_size == 0:
        writer.writeheader()
    writer.writerows(_cells(row, measures) for row in rows)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.getvalue().encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Row]:
    """Read the rows of all complete mixtures.

    Args:
        path: The rows.csv.

    Returns:
        The rows, in the order of the file.

    Raises:
        SepnetError: The file is broken; the message gives the line.
    """
    return _parse(path)[0]


def measures_of(path: Path) -> tuple[str, ...]:
    """Read the measures in the header; an empty file has none."""
    header = _complete_lines(path).partition("\n")[0].split(",")
    return tuple(name for name in header if f"{name}_mixture" in header)


def repair(path: Path) -> list[Row]:
    """Read the rows of all complete mixtures, and remove from the file what a killed process left after them.

    Args:
        path: The rows.csv.

    Returns:
        The rows.

    Raises:
        SepnetError: The file is broken; the message gives the line.
    """
    rows, dropped = _parse(path)
    if dropped:
        replace(path, rows, measures_of(path))
    return rows


def replace(path: Path, rows: Sequence[Row], measures: Sequence[str]) -> None:
    """Replace a file; if this is interrupted, the old file stays.

    Args:
        path: The rows.csv.
        rows: All rows of the new file.
        measures: The measures of the new file.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(b"")
        if rows:
            append(temporary, rows, measures)


def _parse(path: Path) -> tuple[list[Row], bool]:
    """The rows of complete mixtures, and whether the file ends with anything else."""
    text = _complete_lines(path)
    dropped = len(text.encode()) < path.stat().st_size
    measures = measures_of(path)
    reader = csv.DictReader(io.StringIO(text))
    header = list(reader.fieldnames or ())
    if text and header != columns(measures):
        raise SepnetError(
            f"{path} does not begin with the columns of rows.csv: it was made by another program or another "
            "version of sepnet, so evaluate again"
        )
    rows = []
    while True:
        try:
            if (cells := next(reader, None)) is None:
                break
            rows.append(_row(cells, measures))
        except (TypeError, ValueError, KeyError, csv.Error) as error:
            raise SepnetError(
                f"{path}, line {reader.line_num}: not a row of an evaluation ({error})"
            ) from error
    if rows:
        # Only the last mixture can be incomplete: each is one write, and a run repairs the file first.
        last = (rows[-1].separator, rows[-1].mixture_id)
        tail = [row for row in rows if (row.separator, row.mixture_id) == last]
        if len(tail) < tail[0].n_sources:
            return rows[: -len(tail)], True
    return rows, dropped


def _complete_lines(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content[: content.rfind(b"\n") + 1].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error


def _cells(row: Row, measures: Sequence[str]) -> dict[str, str]:
    values = asdict(row)
    cells = {name: _text(values[name]) for name in (*BEFORE_MEASURES, *AFTER_MEASURES)}
    for measure in measures:
        cells[measure] = _text(row.scores.get(measure))
        cells[f"{measure}_mixture"] = _text(row.mixture_scores.get(measure))
    return cells


def _text(value: str | int | float | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # Six digits are far finer than any table, also for 120 dB.
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())


def _row(cells: Mapping[str, str], measures: Sequence[str]) -> Row:
    if cells["status"] not in get_args(Status) or cells["role"] not in get_args(Role):
        raise ValueError(f"status {cells['status']!r}, role {cells['role']!r}")
    return Row(
        separator=cells["separator"],
        mixture_id=cells["mixture_id"],
        source=int(cells["source"]),
        n_sources=int(cells["n_sources"]),
        seconds=float(cells["seconds"]),
        sample_rate=int(cells["sample_rate"]),
        status=cells["status"],  # type: ignore[arg-type]
        reason=cells["reason"],
        permutation=int(cells["permutation"]) if cells["permutation"] else None,
        scores={measure: _number(cells[measure]) for measure in measures},
        mixture_scores={measure: _number(cells[f"{measure}_mixture"]) for measure in measures},
        compute_seconds=_optional(cells["compute_seconds"]),
        peak_memory_mb=_optional(cells["peak_memory_mb"]),
        parameters=int(cells["parameters"]),
        role=cells["role"],  # type: ignore[arg-type]
        sexes=cells["sexes"],
        overlap=_optional(cells["overlap"]),
        level_difference_db=_optional(cells["level_difference_db"]),
        two_thread_seconds=_optional(cells["two_thread_seconds"]),
        macs_per_second=_optional(cells["macs_per_second"]),
        n_estimated=int(cells["n_estimated"]) if cells["n_estimated"] else None,
        condition=cells["condition"],
    )


def _optional(cell: str) -> float | None:
    return float(cell) if cell else None


def _number(cell: str) -> float:
    return float(cell) if cell else math.nan
