"""Written lists of mixtures with a query: a target, its times, an interference, and examples of both.

A list is a CSV with a row for each piece of sound: the mixture, what the piece is for (``role``), the file,
which part of it (``start_seconds``, ``seconds``), where it begins in the mixture (``at_seconds``), and its
linear ``gain``. Roles: ``target``, ``interference``, and three examples of which a test uses one: ``query``
of the target's class, ``query_other`` of the interference's, ``query_absent`` of a class that is not in the
mixture. So the list alone says what a mixture is, and when exactly its target is active.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sepnet.data.activity import Cut, Stretch, fade, spans
from sepnet.data.table import check_unique, read_table, write_table
from sepnet.ranges import Seconds
from sepnet.types import SepnetError

ROLES = ("target", "interference", "query", "query_other", "query_absent")
NUMBERS = ("level_db", "length_seconds", "start_seconds", "seconds", "at_seconds", "gain")
COLUMNS = ("mixture_ID", "level_db", "length_seconds", "role", "path", *NUMBERS[2:])
Reader = Callable[[str], Float[np.ndarray, " time"]]
"""Path in the list -> samples at the rate of the mixtures."""


@dataclass(frozen=True)
class QueryMixture:
    """One mixture of a list.

    Attributes:
        id: The mixture_ID.
        seconds: Its length.
        level_db: Power of the target over that of the interference, both where the target is active.
        target: The pieces of the target.
        target_gain: Their linear gain.
        interference: The pieces of the interference.
        interference_gain: Their linear gain.
        queries: An example for each of the roles query, query_other and query_absent.
    """

    id: str
    seconds: Seconds
    level_db: float
    target: tuple[Cut, ...]
    target_gain: float
    interference: tuple[Cut, ...]
    interference_gain: float
    queries: tuple[Cut, Cut, Cut]

    @cached_property
    def segments(self) -> tuple[Stretch, ...]:
        """When the target is active: (begin, end) in seconds, in order and apart."""
        return spans(self.target)

    @property
    def paths(self) -> frozenset[str]:
        """All files of the mixture and its queries."""
        return frozenset(cut.path for cut in (*self.target, *self.interference, *self.queries))


def render(cuts: Sequence[Cut], seconds: float, sample_rate: int, read: Reader) -> Float[np.ndarray, " time"]:
    """Place cuts in silence, each faded in and out.

    Args:
        cuts: The pieces.
        seconds: Length of the signal.
        sample_rate: In Hz.
        read: Reads a file of the list.

    Returns:
        (time,), float32.
    """
    signal = np.zeros(round(seconds * sample_rate), dtype=np.float32)
    for cut in cuts:
        begin, place = round(cut.start * sample_rate), round(cut.at * sample_rate)
        piece = read(cut.path)[begin : begin + round(cut.seconds * sample_rate)]
        piece = fade(piece[: len(signal) - place], sample_rate)
        signal[place : place + len(piece)] += piece
    return signal


def write_query_list(csv: str | Path, mixtures: Sequence[QueryMixture]) -> None:
    """Write what ``read_query_list`` reads, whole or not at all.

    Args:
        csv: The file to write.
        mixtures: The list.
    """
    rows = [
        (m.id, f"{m.level_db:g}", f"{m.seconds:g}", role, cut.path,
         *map(_format_seconds, (cut.start, cut.seconds, cut.at)), f"{gain:g}")
        for m in mixtures
        for role, gain, cut in _pieces(m)
    ]  # fmt: skip
    write_table(csv, COLUMNS, rows)


def _pieces(mixture: QueryMixture) -> Iterator[tuple[str, float, Cut]]:
    """The role, the gain and the cut of each row."""
    yield from (("target", mixture.target_gain, cut) for cut in mixture.target)
    yield from (("interference", mixture.interference_gain, cut) for cut in mixture.interference)
    yield from ((role, 1.0, cut) for role, cut in zip(ROLES[2:], mixture.queries, strict=True))


def _format_seconds(seconds: float) -> str:
    return f"{round(seconds, 6):.10g}"


def read_query_list(csv: str | Path) -> list[QueryMixture]:
    """Read a list.

    Args:
        csv: The file.

    Raises:
        SepnetError: The file, a column or a role is missing, a cell is not a number where it has to be, or
            an id occurs twice.
    """
    rows = read_table(csv, COLUMNS)
    mixtures = [
        _parse_mixture(csv, name, list(group))
        for name, group in groupby(rows, key=lambda row: row[1]["mixture_ID"])
    ]
    check_unique(csv, [mixture.id for mixture in mixtures])
    return mixtures


def _parse_mixture(csv: str | Path, name: str, rows: Sequence[tuple[int, dict[str, str]]]) -> QueryMixture:
    """The mixture of the rows (line number, cells) with one mixture_ID."""
    cuts: defaultdict[str, list[Cut]] = defaultdict(list)
    gains: dict[str, float] = {}
    for line, row in rows:
        role = row["role"]
        if role not in ROLES:
            raise SepnetError(f"{csv}, line {line}: the role {role!r} is none of {', '.join(ROLES)}")
        try:
            level, length, start, seconds, at, gains[role] = (float(row[column]) for column in NUMBERS)
        except ValueError as error:
            raise SepnetError(f"{csv}, line {line}: {error}; give numbers") from error
        cuts[role].append(Cut(row["path"], start, seconds, at))
    if missing := [role for role in ROLES if role not in cuts]:
        raise SepnetError(f"{csv}: {name} has no {' and no '.join(missing)}; make the list again")
    queries = (cuts["query"][0], cuts["query_other"][0], cuts["query_absent"][0])
    target, other = tuple(cuts["target"]), tuple(cuts["interference"])
    return QueryMixture(name, length, level, target, gains["target"], other, gains["interference"], queries)
