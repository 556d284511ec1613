"""When a sound is there: closed forms of the rule; loops without seams; bursts that last what they should."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from conftest import white_noise

from sepnet.data.activity import Cut, active_stretches, draw_bursts, fade, loop_stretches, spans
from sepnet.dsp.activity import active_frames, active_runs, active_samples
from sepnet.types import SepnetError

RATE = 8000


def sounding(*stretches: tuple[float, float], seconds: float = 5.0, floor: float = 0.0) -> np.ndarray:
    """Noise in these stretches, and ``floor`` times as loud elsewhere."""
    samples = white_noise(round(seconds * RATE))
    there = np.zeros(len(samples), dtype=bool)
    for begin, end in stretches:
        there[round(begin * RATE) : round(end * RATE)] = True
    return np.where(there, samples, np.float32(floor) * samples).astype(np.float32)


def test_a_stretch_is_where_the_sound_is_and_a_tenth_of_a_second_more() -> None:
    found = active_stretches(sounding((1.0, 1.4), (3.0, 3.2)), RATE)
    np.testing.assert_allclose(found, [(1.0, 1.5), (3.0, 3.3)], atol=1e-9)
    (last,) = active_stretches(sounding((4.0, 5.0)), RATE)
    assert last == pytest.approx((4.0, 5.0))  # the file ends there


def test_pauses_of_half_a_second_belong_to_the_sound_and_longer_ones_do_not() -> None:
    assert len(active_stretches(sounding((1.0, 1.4), (1.88, 2.4)), RATE)) == 1
    assert len(active_stretches(sounding((1.0, 1.4), (1.94, 2.4)), RATE)) == 2


@pytest.mark.parametrize(("floor_db", "n_seconds"), [(-40.0, 0.5), (-20.0, 5.0)])
def test_thirty_decibels_below_the_loudest_is_silence(floor_db: float, n_seconds: float) -> None:
    found = active_stretches(sounding((2.0, 2.4), floor=10 ** (floor_db / 20)), RATE)
    assert sum(b - a for a, b in found) == pytest.approx(n_seconds)


def test_a_click_counts_only_where_there_is_nothing_else() -> None:
    (found,) = active_stretches(sounding((1.0, 1.04), (3.0, 3.5)), RATE)
    assert found == pytest.approx((3.0, 3.6))
    (alone,) = active_stretches(sounding((1.0, 1.04)), RATE)
    assert alone == pytest.approx((1.0, 1.14))
    assert active_stretches(np.zeros(RATE, dtype=np.float32), RATE) == []
    assert not active_samples(np.zeros(100, dtype=np.float32), RATE).any()


def test_activity_does_not_know_the_level() -> None:
    samples = sounding((0.5, 0.9), (2.0, 4.0), floor=0.02)
    for gain in (1e-4, 1e3):
        assert active_stretches(np.float32(gain) * samples, RATE) == active_stretches(samples, RATE)
        np.testing.assert_array_equal(
            active_samples(np.float32(gain) * samples, RATE), active_samples(samples, RATE)
        )


def test_frames_and_runs_agree_with_loops() -> None:
    samples = sounding((0.3, 0.5), (0.7, 0.71), (0.9, 1.3), seconds=1.7, floor=0.01)
    frames = [samples[k : k + 160] for k in range(0, len(samples), 160)]
    loudest = max(float((frame**2).mean()) for frame in frames)
    expected = [float((frame**2).mean()) > loudest / 1000 for frame in frames]
    active = active_frames(samples, 160)
    assert active.tolist() == expected
    assert active_runs(active, 0) == [(15, 25), (35, 36), (45, 65)]
    assert active_runs(active, 10) == [(15, 65)]


def test_a_loop_of_a_constant_has_no_seam() -> None:
    ones = np.ones(RATE, dtype=np.float32)
    cuts = loop_stretches([("a", (0.1, 0.4)), ("b", (0.0, 0.25))], 2.0, at=0.5)
    assert [cut.path for cut in cuts[:4]] == ["a", "b", "a", "b"]
    signal = np.zeros(3 * RATE, dtype=np.float32)
    for cut in cuts:
        piece = fade(ones[round(cut.start * RATE) :][: round(cut.seconds * RATE)], RATE)
        signal[round(cut.at * RATE) :][: len(piece)] += piece
    ((begin, end),) = spans(cuts)
    assert begin == 0.5
    assert 2.48 <= end <= 2.5
    inside = signal[round(begin * RATE) + 80 : round(end * RATE) - 80]
    np.testing.assert_allclose(inside, 1.0, atol=1e-6)
    assert not signal[: RATE // 2].any()
    assert not signal[round(end * RATE) :].any()


def test_what_can_t_be_looped_is_refused() -> None:
    with pytest.raises(SepnetError, match="none of 1 stretches is longer than"):
        loop_stretches([("a", (0.0, 0.01))], 1.0)


def test_spans_are_unions() -> None:
    cuts = [Cut("a", 0, 1.0, 4.0), Cut("a", 0, 0.5, 1.0), Cut("a", 0, 0.7, 1.4), Cut("b", 0, 0.2, 5.0)]
    np.testing.assert_allclose(spans(cuts), [(1.0, 2.1), (4.0, 5.2)])


def test_bursts_last_the_share_apart_and_inside() -> None:
    rng = np.random.default_rng(0)
    counts = []
    for share in rng.uniform(0.05, 1.0, 400):
        bursts = draw_bursts(rng, 10.0, float(share))
        counts.append(len(bursts))
        lengths = [b - a for a, b in bursts]
        assert sum(lengths) == pytest.approx(10 * share, abs=0.004)
        assert min(lengths) >= min(1.0, 10 * share) - 0.002
        assert bursts[0][0] >= 0
        assert bursts[-1][1] <= 10.0
        gaps = [later[0] - earlier[1] for earlier, later in pairwise(bursts)]
        assert min(gaps, default=1.0) >= 0.5 - 0.002
    assert {*counts} == {1, 2, 3}
    with pytest.raises(SepnetError, match=r"a share of 0\.0 of the time"):
        draw_bursts(rng, 10.0, 0.0)
