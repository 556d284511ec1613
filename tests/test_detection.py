"""F1 of segments: closed forms, and loops over a fine grid."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from sepnet.metrics import Counts, event_counts, segment_counts
from sepnet.metrics.detection import joined
from sepnet.types import SepnetError

Segments = list[tuple[float, float]]


def drawn(rng: np.random.Generator, step: float = 0.02) -> Segments:
    """Up to four segments on a grid, apart."""
    edges = np.sort(rng.choice(400, size=2 * int(rng.integers(5)), replace=False)) * step
    return [(float(a), float(b)) for a, b in edges.reshape(-1, 2)]


def test_f1_in_closed_form() -> None:
    counts = segment_counts([(1.0, 3.0)], [(2.0, 5.0)])
    assert counts == Counts(hits=10, false_alarms=10, misses=20)
    assert (counts.precision, counts.recall) == (0.5, pytest.approx(1 / 3))
    assert counts.f1 == pytest.approx(0.4)
    assert segment_counts([(0.3, 0.7)], [(0.3, 0.7)]) == Counts(4, 0, 0)  # 0.3 / 0.1 is not below 3
    assert segment_counts([(0.31, 0.39)], [(0.3, 0.4)]).f1 == 1.0
    assert segment_counts([(0.39, 0.41)], [(0.3, 0.4)]) == Counts(1, 1, 0)  # any part of a tenth counts


def test_nothing_found_and_nothing_there() -> None:
    assert segment_counts([], [(1.0, 2.0)]).f1 == 0.0
    assert math.isnan(segment_counts([], [(1.0, 2.0)]).precision)
    assert segment_counts([(1.0, 2.0)], []).f1 == 0.0
    assert math.isnan(segment_counts([], []).f1)
    assert event_counts([], [(1.0, 2.0)]) == Counts(0, 0, 1)
    assert event_counts([(1.0, 2.0)], []) == Counts(0, 1, 0)
    assert event_counts([], []) == Counts(0, 0, 0)


def test_segment_counts_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        found, truth = drawn(rng), drawn(rng)
        active = [
            {k for k in range(100) if any(b > k / 10 + 1e-9 and a < (k + 1) / 10 - 1e-9 for a, b in segments)}
            for segments in (found, truth)
        ]
        expected = Counts(len(active[0] & active[1]), len(active[0] - active[1]), len(active[1] - active[0]))
        assert segment_counts(found, truth) == expected
        swapped = segment_counts(truth, found)
        assert (swapped.hits, swapped.false_alarms, swapped.misses) == (
            expected.hits, expected.misses, expected.false_alarms,
        )  # fmt: skip


def test_event_counts_are_those_of_the_best_of_all_matchings() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        truth = [(a, b) for a, b in drawn(rng, 0.05) if b - a > 0.4][:4]
        found = joined((max(0.0, a + rng.uniform(-0.16, 0.16)), b + rng.uniform(-0.2, 0.2)) for a, b in truth)

        def fits(ours: tuple[float, float], theirs: tuple[float, float]) -> bool:
            late = max(0.1, 0.2 * (theirs[1] - theirs[0]))
            return abs(ours[0] - theirs[0]) <= 0.1 and abs(ours[1] - theirs[1]) <= late

        short, long = (found, truth) if len(found) <= len(truth) else (truth, found)
        best = max(
            sum(fits(x, y) if short is found else fits(y, x) for x, y in zip(short, order, strict=True))
            for order in permutations(long, len(short))
        )
        counts = event_counts(found, truth)
        assert counts == Counts(best, len(found) - best, len(truth) - best)
        hits += best
    assert hits > 50


def test_a_collar_is_a_tenth_and_for_ends_a_fifth_of_the_length() -> None:
    assert event_counts([(1.1, 2.0)], [(1.0, 2.0)]).hits == 1
    assert event_counts([(1.11, 2.0)], [(1.0, 2.0)]).hits == 0
    assert event_counts([(1.0, 2.2)], [(1.0, 2.0)]).hits == 1
    assert event_counts([(1.0, 2.21)], [(1.0, 2.0)]).hits == 0
    assert event_counts([(1.0, 1.31)], [(1.0, 1.2)]).hits == 0
    assert event_counts([(1.0, 1.3)], [(1.0, 1.2)]).hits == 1


def test_segments_that_touch_are_one_and_their_order_does_not_matter() -> None:
    split = [(2.0, 3.0), (1.0, 1.5), (1.5, 2.0), (2.5, 2.75)]
    assert joined(split) == [(1.0, 3.0)]
    assert segment_counts(split, [(1.0, 3.0)]) == Counts(20, 0, 0)
    assert event_counts(split, [(1.0, 3.0)]) == Counts(1, 0, 0)


def test_counts_of_recordings_are_added() -> None:
    together = Counts(1, 0, 3) + Counts(9, 1, 0)
    assert together == Counts(10, 1, 3)
    assert together.f1 == pytest.approx(20 / 24)


def test_what_is_no_segment_is_refused() -> None:
    for wrong in ((2.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(SepnetError, match="is none"):
            segment_counts([wrong], [])
    with pytest.raises(SepnetError, match="has to be positive"):
        segment_counts([], [], resolution_seconds=0.0)
