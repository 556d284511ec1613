"""Precision, recall and F1 of the detection of a sound in time, by two definitions.

Both are those of Mesaros, Heittola and Virtanen, "Metrics for polyphonic sound event detection", Applied
Sciences 6(6), 2016, for one class. The first counts segments of fixed length, the second whole events, which
a detector with windows of a second rarely gets right to a tenth of a second.

Spans are (begin, end) in seconds; those that touch or overlap are merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from sepnet.types import SepnetError

RESOLUTION_SECONDS = 0.1
COLLAR_SECONDS = 0.1
OFFSET_TOLERANCE = 0.2  # of an event's length, by which its end may be off
ROUNDING_SECONDS = 1e-6  # tolerance for floating point: 0.3 s are three tenths

Segment = tuple[float, float]


@dataclass(frozen=True)
class Counts:
    """Counts of correct and wrong detections.

    Those of several recordings are added up before F1 is computed; else a short recording would weigh as
    much as a long one.

    Attributes:
        hits: Detected and true.
        false_alarms: Detected, but not true.
        misses: True, but not detected.
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
        """Share of the detections that are true; nan without detections."""
        return _ratio(self.hits, self.hits + self.false_alarms)

    @property
    def recall(self) -> float:
        """Share of the true ones that are detected; nan without true ones."""
        return _ratio(self.hits, self.hits + self.misses)

    @property
    def f1(self) -> float:
        """2 hits / (2 hits + false alarms + misses); nan without detections and true ones."""
        return _ratio(2 * self.hits, 2 * self.hits + self.false_alarms + self.misses)


def segment_counts(
    detected: Iterable[Segment],
    truth: Iterable[Segment],
    *,
    resolution_seconds: float = RESOLUTION_SECONDS,
) -> Counts:
    """Count segments of ``resolution_seconds``, active where any part of them is (section 3.1).

    Raises:
        SepnetError: The resolution is not positive, or a span ends before it begins.
    """
    if resolution_seconds <= 0:
        raise SepnetError(f"the resolution is {resolution_seconds} s, but has to be positive")
    active, true = (_active_cells(merge_spans(spans), resolution_seconds) for spans in (detected, truth))
    return Counts(len(active & true), len(active - true), len(true - active))


def event_counts(
    detected: Iterable[Segment], truth: Iterable[Segment], *, collar_seconds: float = COLLAR_SECONDS
) -> Counts:
    """Count events: a hit begins within the collar, and ends within it or a fifth of the true length.

    Each event is matched with one other at most, so that the number of matches is largest (section 3.2; there
    the first match is taken).

    Raises:
        SepnetError: A span ends before it begins.
    """
    events, true_events = merge_spans(detected), merge_spans(truth)
    fits = np.zeros((len(events), len(true_events)), dtype=bool)
    for i, (begin, end) in enumerate(events):
        for j, (true_begin, true_end) in enumerate(true_events):
            tolerance = max(collar_seconds, OFFSET_TOLERANCE * (true_end - true_begin))
            fits[i, j] = (
                abs(begin - true_begin) <= collar_seconds + ROUNDING_SECONDS
                and abs(end - true_end) <= tolerance + ROUNDING_SECONDS
            )
    hits = int(fits[scipy.optimize.linear_sum_assignment(fits, maximize=True)].sum())
    return Counts(hits, len(events) - hits, len(true_events) - hits)


def merge_spans(spans: Iterable[Segment]) -> list[Segment]:
    """Sort spans, and merge those that touch or overlap.

    Raises:
        SepnetError: A span ends before it begins, or begins before 0 s.
    """
    merged: list[Segment] = []
    for begin, end in sorted(spans):
        if not 0 <= begin <= end < math.inf:
            raise SepnetError(f"a segment from {begin} to {end} s is none: give its begin, then its end")
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif end > begin:
            merged.append((begin, end))
    return merged


def _active_cells(spans: Sequence[Segment], resolution: float) -> set[int]:
    return {
        cell
        for begin, end in spans
        for cell in range(
            math.floor(begin / resolution + ROUNDING_SECONDS), math.ceil(end / resolution - ROUNDING_SECONDS)
        )
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
