"""Detection: thresholds against naive ones, segments with known edges, and scores that are not bimodal."""

from __future__ import annotations

import math
from itertools import pairwise

import jaxtyping
import pytest
import torch

from sepnet.query.detection.detector import PRESETS, Detector
from sepnet.query.detection.result import Detection
from sepnet.query.detection.segments import active_segments, interpolate, merge_segments
from sepnet.query.detection.thresholds import hysteresis_gate, otsu_split
from sepnet.query.tagging.tags import TagTrack, WindowTags
from sepnet.types import SepnetError

QUERY = torch.tensor([1.0, 0.0])


def track_of(
    scores: list[float] | torch.Tensor,
    cosines: list[float] | torch.Tensor | None = None,
    hop: float = 0.1,
) -> TagTrack:
    """Windows of 1 s with embeddings of these cosines to QUERY, and these scores (of class 1 of 2)."""
    score = torch.as_tensor(scores, dtype=torch.float32)
    c = torch.ones_like(score) if cosines is None else torch.as_tensor(cosines, dtype=torch.float32)
    p = score.square() / c
    starts = hop * torch.arange(len(score))
    embeddings = torch.stack([c, (1 - c.square()).clamp_min(0).sqrt()], dim=1)
    tags = WindowTags(torch.stack([1 - p, p], dim=1), embeddings, torch.zeros(len(p), 1, 1, 2))
    return TagTrack(torch.stack([starts, starts + 1], dim=1), tags)


def ramp(
    begin: float, end: float, low: float = 0.05, high: float = 0.9, seconds: float = 10.0
) -> torch.Tensor:
    """Per window the share of its second that lies in a segment, from ``low`` to ``high``: 91 windows."""
    starts = 0.1 * torch.arange(round((seconds - 1) * 10) + 1)
    share = (torch.minimum(starts + 1, torch.tensor(end)) - torch.maximum(starts, torch.tensor(begin))).clamp(
        0, 1
    )
    return low + (high - low) * share


def detect(
    track: TagTrack, detector: Detector | None = None, index: int | None = 1, seconds: float = 10.0
) -> Detection:
    return (detector or Detector(segment_padding_ms=0)).detect(track, QUERY, index=index, seconds=seconds)


def edges(found: Detection) -> list[float]:
    return [edge for segment in found.segments for edge in segment]


# ---------------------------------------------------------------- thresholds


def naive_otsu(values: list[float]) -> tuple[float, float]:
    """(largest between-class variance, all of it), from the definition."""
    n, mean = len(values), math.fsum(values) / len(values)
    best = 0.0
    for cut in sorted(values)[:-1]:
        low, high = [v for v in values if v <= cut], [v for v in values if v > cut]
        if high:
            means = [math.fsum(side) / len(side) for side in (low, high)]
            between = math.fsum(len(s) / n * (m - mean) ** 2 for s, m in zip((low, high), means, strict=True))
            best = max(best, between)
    return best, math.fsum((v - mean) ** 2 for v in values) / n


def test_otsu_is_the_best_of_all_splits() -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (2, 5, 30):
        values = torch.rand(n, generator=generator)
        best, power = naive_otsu(values.double().tolist())
        split = otsu_split(values)
        below = values[values <= split.threshold]
        assert split.eta == pytest.approx(best / power)
        assert split.low_mean == pytest.approx(float(below.mean()), abs=1e-6)
        assert split.high_mean == pytest.approx(float(values[values > split.threshold].mean()), abs=1e-6)


def test_two_levels_are_two_modes_and_one_is_not() -> None:
    two = otsu_split(torch.tensor([0.1, 0.8, 0.1, 0.8, 0.8]))
    assert (two.threshold, two.low_mean, two.high_mean) == pytest.approx((0.45, 0.1, 0.8))
    assert two.eta == pytest.approx(1.0)
    assert two.is_bimodal(0.15)
    assert not two.is_bimodal(0.75)
    assert otsu_split(torch.full((9,), 0.3)).eta == 0
    assert otsu_split(torch.tensor([0.3])).eta == 0
    even = otsu_split(torch.linspace(0, 1, 2001))
    assert even.eta == pytest.approx(0.75, abs=1e-3)
    normal = otsu_split(torch.distributions.Normal(0.5, 0.3).icdf(torch.linspace(0.0005, 0.9995, 1000)))
    assert normal.eta == pytest.approx(2 / math.pi, abs=1e-2)
    assert not normal.is_bimodal(0.1)


def test_otsu_moves_and_scales_with_its_values() -> None:
    values = torch.rand(20, generator=torch.Generator().manual_seed(1))
    one, other = otsu_split(values), otsu_split(3 * values + 2)
    assert other.threshold == pytest.approx(3 * one.threshold + 2, rel=1e-5)
    assert other.eta == pytest.approx(one.eta, rel=1e-5)


def test_hysteresis_keeps_runs_that_reach_the_high_threshold() -> None:
    values = torch.tensor([0.3, 0.5, 0.7, 0.5, 0.3, 0.5, 0.3, 0.7])
    gate = hysteresis_gate(values, low=0.4, high=0.6)
    assert gate.tolist() == [False, True, True, True, False, False, False, True]
    assert hysteresis_gate(values, low=0.4, high=0.4).equal(values >= 0.4)


# ---------------------------------------------------------------- segments


def test_an_edge_is_where_a_window_is_half_full() -> None:
    """Otsu on the share of each window's second that is active: edges to within 80 ms, whatever they are."""
    for begin, end in ((2.0, 5.0), (2.37, 7.81), (3.14, 4.6)):
        found = detect(track_of(ramp(begin, end)))
        ((start, stop),) = found.segments
        assert start == pytest.approx(begin, abs=0.08)
        assert stop == pytest.approx(end, abs=0.08)
        assert found.confidence > 0.6
        assert found.nearest_miss is None


def test_edges_lie_between_windows() -> None:
    coarse = ramp(2.25, 6.4)[::5]
    ((start, stop),) = detect(track_of(coarse, hop=0.5)).segments
    assert start == pytest.approx(2.25, abs=0.15)
    assert stop == pytest.approx(6.4, abs=0.15)


def test_scores_reach_to_both_ends() -> None:
    assert detect(track_of(ramp(0.0, 4.0))).segments[0][0] == 0.0
    assert detect(track_of(ramp(6.0, 10.0))).segments[-1][1] == 10.0


@pytest.mark.parametrize("threshold", ["otsu", "hysteresis"])
def test_sounds_that_occur_always_and_never(threshold: str) -> None:
    """One mode: the level alone decides, and a wavering score is not torn in two."""
    detector = Detector(threshold=threshold)  # type: ignore[arg-type]
    waver = 0.05 * torch.sin(torch.arange(91) / 3)
    assert detect(track_of(0.85 + waver), detector).segments == ((0.0, 10.0),)
    half = 0.35 * (torch.arange(91) % 40 < 20)  # two modes, but both are sure
    assert detect(track_of(0.6 + half), detector).segments == ((0.0, 10.0),)
    never = detect(track_of(0.05 + 0.5 * waver), detector)
    assert never.segments == ()
    assert not never.found
    assert never.nearest_miss is not None
    best = int(never.score.argmax())
    assert never.nearest_miss.start == pytest.approx(0.1 * best)
    assert never.nearest_miss.probability == pytest.approx(float(never.score[best]) ** 2)
    assert never.confidence == pytest.approx(float(never.score.max()))
    assert not never.gate.any()
    assert never.time_mask(100, 160).eq(0).all()


def test_gaps_are_merged_then_short_segments_removed_then_padded() -> None:
    detector = Detector(threshold="fixed", probability_threshold=0.5, use_cosine_gate=False)
    centres = 0.5 + 0.1 * torch.arange(91)
    p = torch.zeros(91)
    for begin, end in (
        (2.0, 2.4),
        (2.5, 2.9),
        (4.0, 4.3),
        (6.0, 7.0),
    ):  # the first two together are long enough
        p[(centres >= begin - 0.01) & (centres <= end + 0.01)] = 1.0
    found = detect(track_of(p), detector)
    # Straight lines cross a half at half a hop beyond the last window that is high.
    assert edges(found) == pytest.approx([1.9, 3.0, 5.9, 7.1], abs=0.011)
    wide = detect(
        track_of(p), Detector(**{**vars(detector), "merge_gap_ms": 1700.0, "segment_padding_ms": 0})
    )
    assert edges(wide) == pytest.approx([1.95, 7.05], abs=0.011)
    short = detect(track_of(p), Detector(**{**vars(detector), "min_duration_ms": 2000.0}))
    assert short.segments == ()


def test_the_faithful_percentile_passes_the_same_number_whatever_the_truth() -> None:
    detector = Detector(
        threshold="percentile", min_duration_ms=0, segment_padding_ms=0, use_cosine_gate=False
    )
    generator = torch.Generator().manual_seed(0)
    for scale in (0.01, 0.9):
        p = scale * torch.rand(19, generator=generator)
        found = detect(track_of(p, hop=0.5), detector)
        assert int((p.square() >= found.threshold).sum()) == 2


def test_the_cosine_gate_closes_for_other_sounds() -> None:
    c = torch.ones(91)
    c[45:] = 0.2
    gated = detect(track_of(c.sqrt(), c), Detector(threshold="fixed", segment_padding_ms=0))
    assert edges(gated) == pytest.approx([0.0, 4.96], abs=0.03)
    free = detect(track_of(c.sqrt(), c), Detector(threshold="fixed", use_cosine_gate=False))
    assert free.segments == ((0.0, 10.0),)


def test_an_unknown_class_is_found_by_its_similarity() -> None:
    c = ramp(3.0, 6.0, low=0.1, high=0.8)
    found = detect(track_of(torch.full((91,), 0.01), c), index=None)
    assert found.probability is None
    ((start, stop),) = found.segments
    assert (start, stop) == pytest.approx((3.0, 6.0), abs=0.06)


def test_one_window_is_all_or_nothing() -> None:
    assert detect(track_of([0.9]), seconds=0.4).segments == ((0.0, 0.4),)
    assert detect(track_of([0.01]), seconds=0.4).segments == ()


def test_confidence_is_measured_by_the_query_itself() -> None:
    track = track_of(ramp(2.0, 8.0, high=0.4))
    sure = Detector().detect(track, QUERY, index=1, seconds=10.0, own_probability=0.2)
    doubtful = Detector().detect(track, QUERY, index=1, seconds=10.0, own_probability=0.4)
    assert sure.confidence == pytest.approx(math.sqrt(2) * doubtful.confidence)
    assert 0 <= doubtful.confidence < sure.confidence <= 1


# ---------------------------------------------------------------- the soft gate


def test_the_soft_gate_follows_the_score_and_is_closed_outside() -> None:
    p = ramp(2.0, 8.0)
    found = detect(track_of(p), Detector(segment_padding_ms=0, time_mask_sharpening=2.0))
    mask = found.time_mask(1000, 160)
    at = 0.01 * torch.arange(1000)
    ((start, stop),) = found.segments
    inside = (at >= start) & (at <= stop)
    wanted = (interpolate(0.5 + 0.1 * torch.arange(91), p, at) / 0.9) ** 2
    torch.testing.assert_close(mask[inside], wanted[inside], atol=1e-3, rtol=0)
    assert mask[(at < start - 0.1) | (at > stop + 0.1)].eq(0).all()
    assert mask.min() >= 0
    assert mask.max() <= 1
    half = found.time_mask(500, 320)
    torch.testing.assert_close(half, mask[::2])


def test_the_soft_gate_is_open_in_each_of_several_segments() -> None:
    score = torch.maximum(ramp(1.0, 3.5), ramp(6.0, 9.0))
    found = detect(track_of(score), Detector(segment_padding_ms=0))
    assert len(found.segments) == 2
    mask = found.time_mask(1000, 160)
    assert mask[[225, 750]].min() > 0.9  # in the middle of each
    assert mask[475] == 0  # between them


def test_sharpening_leaves_the_top_and_lowers_the_rest() -> None:
    track = track_of(ramp(2.0, 8.0))
    masks = [
        detect(track, Detector(time_mask_sharpening=power)).time_mask(1000, 160)
        for power in (0.0, 1.0, 1.2, 3.0)
    ]
    for flat, sharp in pairwise(masks):
        assert (sharp <= flat + 1e-6).all()
        assert float(sharp.max()) == pytest.approx(1.0, abs=1e-4)


# ---------------------------------------------------------------- parts and presets


def test_interpolation_between_centres() -> None:
    centres, values = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 1.0, 0.0])
    at = torch.tensor([0.0, 1.0, 1.25, 2.0, 3.0, 9.0])
    assert interpolate(centres, values, at).tolist() == pytest.approx([0, 0, 0.25, 1, 0.5, 0])


def test_active_runs_and_merged_segments() -> None:
    active = torch.tensor([True, False, True, True])
    assert active_segments(active) == [(0.0, 0.01), (0.02, 0.04)]
    assert active_segments(torch.zeros(3, dtype=torch.bool)) == []
    assert merge_segments([(3, 4), (0, 2), (1, 1.5), (4.2, 5)], max_gap_seconds=0.2) == [(0, 2), (3, 5)]
    assert merge_segments([(0, 1), (1, 2)], max_gap_seconds=0.0) == [(0, 2)]


def test_presets_are_ordered_and_each_number_can_be_replaced() -> None:
    assert Detector.preset() == Detector() == PRESETS["balanced"]
    balanced = vars(Detector())
    numbers = {
        "percentile": 92, "cosine_threshold": 0.45, "min_duration_ms": 500, "merge_gap_ms": 200,
        "segment_padding_ms": 50, "time_mask_sharpening": 1.2,
    }  # fmt: skip
    assert numbers.items() <= balanced.items()
    scores = ramp(2.0, 4.0, high=0.55) + ramp(6.0, 8.0, low=0, high=0.25)
    lengths = []
    for name in ("selective", "balanced", "inclusive"):
        found = detect(track_of(scores), Detector.preset(name))
        lengths.append(sum(end - start for start, end in found.segments))
    assert lengths[0] < lengths[1] < lengths[2]
    assert Detector.preset("selective", min_duration_ms=10.0).min_duration_ms == 10.0
    with pytest.raises(SepnetError, match="'strict' is none of balanced"):
        Detector.preset("strict")
    with pytest.raises(SepnetError, match=r"no setting \['min_dur'\]"):
        Detector.preset("balanced", min_dur=1)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"threshold": "kmeans"}, "kmeans"),
        ({"percentile": 101}, "between 0 and 100"),
        ({"min_threshold": 0.6}, "at most max_threshold"),
        ({"min_duration_ms": -1}, "min_duration_ms=-1"),
    ],
)
def test_impossible_numbers_are_refused(numbers: dict[str, object], says: str) -> None:
    with pytest.raises((SepnetError, jaxtyping.TypeCheckError), match=says):
        Detector(**numbers)  # type: ignore[arg-type]
