"""How well a sound was found in time: precision, recall and F1 of segments, by two definitions.

Both are those of Mesaros, Heittola and Virtanen, "Metrics for polyphonic sound event detection", Applied
Sciences 6(6), 2016, for one class. The first counts stretches of time, the second whole events, which a
detector that works in windows of a second rarely gets right to a tenth of one.

Segments are (begin, end) in seconds; those that touch or overlap are one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from sepnet.types import SepnetError

RESOLUTION_SECONDS = 0.1
COLLAR_SECONDS = 0.1
COLLAR_SHARE = 0.2  # of an event's length, that its end may be off
ROUNDING = 1e-6  # 0.3 s are three tenths, whatever floating point makes of them

Segment = tuple[float, float]


@dataclass(frozen=True)
class Counts:
    """Hits (found and there), false alarms (found alone) and misses (there alone).

    Counts of several recordings are added up before F1 is taken, or a short one would weigh as a long one.
    """

    hits: int
    false_alarms: int
    misses: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits, self.false_alarms + other.false_alarms, self.misses + other.misses
        )

    @property
    def precision(self) -> float:
        """The share of what was found that is there; nan where nothing was found."""
        return _ratio(self.hits, self.hits + self.false_alarms)

    @property
    def recall(self) -> float:
        """The share of what is there that was found; nan where nothing is there."""
        return _ratio(self.hits, self.hits + self.misses)

    @property
    def f1(self) -> float:
        """2 hits / (2 hits + false alarms + misses); nan where nothing is there and nothing was found."""
        return _ratio(2 * self.hits, 2 * self.hits + self.false_alarms + self.misses)


def segment_counts(
    found: Iterable[Segment],
    truth: Iterable[Segment],
    *,
    resolution_seconds: float = RESOLUTION_SECONDS,
) -> Counts:
    """Counts of stretches of ``resolution_seconds``: one is active where any part of it is (section 3.1)."""
    if resolution_seconds <= 0:
        raise SepnetError(f"the resolution is {resolution_seconds} s, but has to be positive")
    ours, theirs = (_cells(joined(segments), resolution_seconds) for segments in (found, truth))
    return Counts(len(ours & theirs), len(ours - theirs), len(theirs - ours))


def event_counts(
    found: Iterable[Segment], truth: Iterable[Segment], *, collar_seconds: float = COLLAR_SECONDS
) -> Counts:
    """Counts of events: a hit begins within the collar, and ends within it or a fifth of the true length.

    Each event is matched with one other at most, so that as many as possible are (section 3.2; there the
    first that fits is taken).
    """
    ours, theirs = joined(found), joined(truth)
    fits = np.zeros((len(ours), len(theirs)), dtype=bool)
    for i, (begin, end) in enumerate(ours):
        for j, (true_begin, true_end) in enumerate(theirs):
            late = max(collar_seconds, COLLAR_SHARE * (true_end - true_begin))
            fits[i, j] = (
                abs(begin - true_begin) <= collar_seconds + ROUNDING
                and abs(end - true_end) <= late + ROUNDING
            )
    hits = int(fits[linear_sum_assignment(fits, maximize=True)].sum())
    return Counts(hits, len(ours) - hits, len(theirs) - hits)


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """In order, those that touch or overlap as one. Raises SepnetError for one that ends before it begins."""
    found: list[Segment] = []
    for begin, end in sorted(segments):
        if not 0 <= begin <= end < math.inf:
            raise SepnetError(f"a segment from {begin} to {end} s is none: give its begin, then its end")
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif end > begin:
            found.append((begin, end))
    return found


def _cells(segments: Sequence[Segment], resolution: float) -> set[int]:
    return {
        cell
        for begin, end in segments
        for cell in range(math.floor(begin / resolution + ROUNDING), math.ceil(end / resolution - ROUNDING))
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
