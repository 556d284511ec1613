"""From the tags of windows to segments in which the sound of a query occurs.

For each window the probability p of the query's class and the cosine similarity c of its embedding to that of
the query are known. The score is the square root of their product (c alone for a class that the tagger does
not know). It belongs to the centre of the window; between two centres it is interpolated linearly, and before
the first and after the last it is constant. Segments are where it is above a threshold, so their edges may
lie between two windows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from sepnet.query.detection.result import Detection, NearestMiss
from sepnet.query.detection.segments import (
    GRID_SECONDS,
    Segment,
    active_segments,
    interpolate,
    merge_segments,
)
from sepnet.query.detection.thresholds import hysteresis_gate, otsu_split
from sepnet.query.tagging.tags import TagTrack
from sepnet.types import SepnetError

ThresholdMethod = Literal["otsu", "hysteresis", "percentile", "fixed"]
HYSTERESIS_SHARE = 0.2  # of the distance between the two modes: the thresholds lie this far from Otsu's


@dataclass(frozen=True, kw_only=True)
class Detector:
    """How a score becomes segments. ``Detector.preset`` offers three sets of numbers.

    Attributes:
        threshold: How the threshold is chosen. ``otsu`` and ``hysteresis`` choose it from the score, between
            ``min_threshold`` and ``max_threshold``. The faithful modes compare the probability (without one
            the similarity): ``percentile`` with its own ``percentile``, ``fixed`` with
            ``probability_threshold`` (or ``cosine_threshold``).
        probability_threshold: The threshold of ``fixed``.
        percentile: The percentile of ``percentile``, 0 to 100.
        use_cosine_gate: Whether in the faithful modes the similarity has to reach ``cosine_threshold``, too.
        cosine_threshold: See ``use_cosine_gate`` and ``threshold``.
        min_threshold: Lowest threshold of the score, and its threshold if the score is not bimodal.
        max_threshold: Highest threshold of the score.
        min_mode_gap: Least difference between the means of low and high scores that are called bimodal.
        min_duration_ms: Shortest segment.
        merge_gap_ms: Longest gap between two segments that become one.
        segment_padding_ms: The time by which a segment is extended at both ends.
        time_mask_sharpening: Exponent of the soft gate.

    Raises:
        SepnetError: A number is out of range.
    """

    threshold: ThresholdMethod = "otsu"
    probability_threshold: float = 0.3
    percentile: float = 92.0
    use_cosine_gate: bool = True
    cosine_threshold: float = 0.45
    min_threshold: float = 0.12
    max_threshold: float = 0.5
    min_mode_gap: float = 0.2
    min_duration_ms: float = 500.0
    merge_gap_ms: float = 200.0
    segment_padding_ms: float = 50.0
    time_mask_sharpening: float = 1.2

    def __post_init__(self) -> None:
        if self.threshold not in get_args(ThresholdMethod):
            raise SepnetError(
                f"threshold={self.threshold!r} is none of {', '.join(get_args(ThresholdMethod))}"
            )
        if not 0 <= self.percentile <= 100:
            raise SepnetError(f"percentile={self.percentile} has to be between 0 and 100")
        if not 0 < self.min_threshold <= self.max_threshold:
            raise SepnetError(
                f"min_threshold={self.min_threshold} has to be above 0 and at most "
                f"max_threshold={self.max_threshold}"
            )
        not_negative = {
            "min_duration_ms": self.min_duration_ms,
            "merge_gap_ms": self.merge_gap_ms,
            "segment_padding_ms": self.segment_padding_ms,
            "time_mask_sharpening": self.time_mask_sharpening,
            "min_mode_gap": self.min_mode_gap,
        }
        for name, value in not_negative.items():
            if value < 0:
                raise SepnetError(f"{name}={value} must not be negative")

    @classmethod
    def preset(cls, name: str = "balanced", **numbers: Any) -> Detector:
        """Make a detector from a preset.

        Args:
            name: ``balanced``, ``selective`` (fewer segments, with more confidence) or ``inclusive``.
            **numbers: Attributes that replace those of the preset.

        Raises:
            SepnetError: There is no preset or attribute of this name, or a number is out of range.
        """
        if name not in PRESETS:
            raise SepnetError(f"the preset {name!r} is none of {', '.join(PRESETS)}")
        try:
            return replace(PRESETS[name], **numbers)
        except TypeError as error:
            settings = ", ".join(cls.__dataclass_fields__)
            raise SepnetError(
                f"the detector has no setting {sorted(numbers)}: its settings are {settings}"
            ) from error

    def detect(
        self,
        track: TagTrack,
        embedding: Float[Tensor, " dim"],
        *,
        index: int | None,
        seconds: float,
        own_probability: float = 1.0,
    ) -> Detection:
        """Detect where a sound occurs.

        Args:
            track: The tags of the mixture over time.
            embedding: The embedding of the query, (embedding,).
            index: The index of the query's class in the tagger; None for a class that it does not know.
            seconds: Length of the mixture.
            own_probability: The probability of that class in the query itself, which scales the confidence.

        Returns:
            The segments, and all numbers from which they follow.
        """
        similarity = functional.cosine_similarity(track.tags.embeddings, embedding[None], dim=-1)
        probability = None if index is None else track.tags.probabilities[:, index]
        score = similarity.clamp_min(0)
        if probability is not None:
            score = (score * probability).sqrt()  # on the scale of both: weak windows do not vanish near 0
        centres = track.times.mean(dim=1)
        at = torch.arange(0, seconds, GRID_SECONDS) + GRID_SECONDS / 2
        active, threshold = self._active(centres, probability, similarity, score, at)
        segments = self._segments(active, seconds)
        level = interpolate(centres, score, at)
        reached = float(level[_within(segments, at)].mean() if segments else score.max())
        own_score = 1.0 if probability is None else max(own_probability, 1e-6) ** 0.5
        best = int(score.argmax())
        miss = NearestMiss(
            float(track.times[best, 0]),
            float(track.times[best, 1]),
            None if probability is None else float(probability[best]),
            float(similarity[best]),
        )
        return Detection(
            times=track.times,
            probability=probability,
            similarity=similarity,
            score=score,
            gate=_within(segments, centres),
            threshold=threshold,
            segments=segments,
            confidence=min(1.0, reached / own_score),
            nearest_miss=None if segments else miss,
            seconds=seconds,
            sharpening=self.time_mask_sharpening,
        )

    def _active(
        self, centres: Tensor, probability: Tensor | None, similarity: Tensor, score: Tensor, at: Tensor
    ) -> tuple[Bool[Tensor, " point"], float]:
        """Whether the sound occurs at each of the times ``at``, and the threshold."""
        if self.threshold in ("percentile", "fixed"):
            compared = similarity if probability is None else probability
            threshold = self.cosine_threshold if probability is None else self.probability_threshold
            if self.threshold == "percentile":
                threshold = float(torch.quantile(compared, self.percentile / 100))
            active = interpolate(centres, compared, at) >= threshold
            if self.use_cosine_gate:
                active &= interpolate(centres, similarity, at) >= self.cosine_threshold
            return active, threshold
        split, level = otsu_split(score), interpolate(centres, score, at)
        is_bimodal = split.is_bimodal(self.min_mode_gap)
        threshold = split.threshold if is_bimodal else self.min_threshold
        threshold = min(max(threshold, self.min_threshold), self.max_threshold)
        if self.threshold == "otsu":
            return level >= threshold, threshold
        reach = HYSTERESIS_SHARE * (split.high_mean - split.low_mean) if is_bimodal else 0.0
        return hysteresis_gate(level, low=threshold - reach, high=threshold + reach), threshold

    def _segments(self, active: Bool[Tensor, " point"], seconds: float) -> tuple[Segment, ...]:
        """Runs of active points: small gaps are closed first, then short runs removed, then runs padded."""
        merged = merge_segments(active_segments(active), max_gap_seconds=self.merge_gap_ms / 1000)
        min_seconds = min(self.min_duration_ms / 1000, seconds) - 1e-6
        padding = self.segment_padding_ms / 1000
        padded = [
            (max(0.0, start - padding), min(seconds, end + padding))
            for start, end in merged
            if end - start >= min_seconds
        ]
        return tuple(
            (round(start, 4), round(end, 4)) for start, end in merge_segments(padded, max_gap_seconds=0.0)
        )


PRESETS = {
    "balanced": Detector(),
    "selective": Detector(
        probability_threshold=0.5, percentile=96.0, cosine_threshold=0.6, min_threshold=0.25,
        max_threshold=0.65, min_duration_ms=600.0, merge_gap_ms=100.0, segment_padding_ms=20.0,
        time_mask_sharpening=1.6,
    ),
    "inclusive": Detector(
        probability_threshold=0.15, percentile=80.0, cosine_threshold=0.3, min_threshold=0.06,
        max_threshold=0.35, min_duration_ms=250.0, merge_gap_ms=400.0, segment_padding_ms=150.0,
        time_mask_sharpening=0.8,
    ),
}  # fmt: skip


def _within(segments: tuple[Segment, ...], at: Float[Tensor, " point"]) -> Bool[Tensor, " point"]:
    """Whether each time lies in one of the segments."""
    inside = torch.zeros(len(at), dtype=torch.bool)
    for start, end in segments:
        inside |= (at >= start) & (at <= end)
    return inside
