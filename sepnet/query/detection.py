"""When a query is heard in a mixture: from the tags of windows to segments, and to a soft gate over frames.

For each window the probability p of the query's class and the cosine similarity c of its embedding to the
query's are known. The root of their product (c alone for a class that the tagger does not know) is the score,
taken to be that of the window's centre; between centres it runs straight, before the first and behind the
last it stays. Segments are where it is above a threshold, so edges may lie between two windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from sepnet.query.tagger import Track
from sepnet.query.thresholds import hysteresis, otsu
from sepnet.types import SepnetError

Threshold = Literal["otsu", "hysteresis", "percentile", "fixed"]
Segment = tuple[float, float]
"""Beginning and end, in seconds."""
GRID_SECONDS = 0.01  # how finely the score is looked at between windows


@dataclass(frozen=True)
class Miss:
    """The window that came nearest where nothing was found: its times in seconds, and what it scored."""

    start: float
    end: float
    probability: float | None
    similarity: float


@dataclass(frozen=True)
class Detection:
    """What was heard, when, and how sure.

    times: (window, 2) in seconds. probability: (window,), None for a class that the tagger does not know.
    similarity, score: (window,). gate: (window,), whether the query is heard at the window's centre.
    threshold: of the score. segments: in order, apart. confidence: 0 to 1, the mean score within the segments
    over that of the query itself; the highest score so measured where there are none. nearest_miss: None
    where something was found. seconds: of the mixture. sharpening: see ``time_mask``.
    """

    times: Tensor
    probability: Tensor | None
    similarity: Tensor
    score: Tensor
    gate: Tensor
    threshold: float
    segments: tuple[Segment, ...]
    confidence: float
    nearest_miss: Miss | None
    seconds: float
    sharpening: float

    @property
    def found(self) -> bool:
        """Whether the query is heard anywhere."""
        return bool(self.segments)

    def time_mask(
        self, n_frames: int, hop_samples: int, sample_rate: int = 16000, *, edge_seconds: float = 0.1
    ) -> Float[Tensor, " frame"]:
        """A soft gate, 0 to 1, over frames that begin every ``hop_samples``; zero where nothing was found.

        Within a segment r^sharpening, r the score over its highest; at a segment's edges it falls to 0 over
        ``edge_seconds`` under half a Hann window, outside.
        """
        at = torch.arange(n_frames) * (hop_samples / sample_rate)
        if not self.segments:
            return torch.zeros(n_frames)
        level = interpolated(self.times.mean(dim=1), self.score, at)
        relative = (level / level.max().clamp_min(1e-9)).clamp(0, 1) ** self.sharpening
        away = torch.stack([torch.maximum(start - at, at - end) for start, end in self.segments]).amin(dim=0)
        fall = 0.5 * (1 + torch.cos(torch.pi * (away / edge_seconds).clamp(0, 1)))
        return relative * fall


@dataclass(frozen=True, kw_only=True)
class Detector:
    """Thresholds and the rules for segments; see ``detect``. ``preset`` has three sets of numbers.

    threshold: ``otsu`` or ``hysteresis`` (of the score, from the data, kept between ``least_score`` and
    ``sure_score``), or the faithful ``percentile`` (the probability's ``cls_percentile``) or ``fixed``
    (``cls_threshold``). use_cosine_gate: with these two, whether the similarity has to reach
    ``cosine_threshold``, too. sharpening of the soft gate: ``time_mask_sharpening``. Raises SepnetError for
    numbers out of range.
    """

    threshold: Threshold = "otsu"
    cls_threshold: float = 0.3
    cls_percentile: float = 92.0
    use_cosine_gate: bool = True
    cosine_threshold: float = 0.45
    least_score: float = 0.12
    sure_score: float = 0.5
    least_gap: float = 0.2
    min_dur_ms: float = 500.0
    merge_gap_ms: float = 200.0
    segment_padding_ms: float = 50.0
    time_mask_sharpening: float = 1.2

    def __post_init__(self) -> None:
        if self.threshold not in get_args(Threshold):
            raise SepnetError(f"threshold={self.threshold!r} is none of {', '.join(get_args(Threshold))}")
        if not 0 <= self.cls_percentile <= 100:
            raise SepnetError(f"cls_percentile={self.cls_percentile} has to be between 0 and 100")
        if not 0 < self.least_score <= self.sure_score:
            raise SepnetError(
                f"least_score={self.least_score} has to be above 0 and at most sure_score={self.sure_score}"
            )
        for name in ("min_dur_ms", "merge_gap_ms", "segment_padding_ms", "time_mask_sharpening", "least_gap"):
            if getattr(self, name) < 0:
                raise SepnetError(f"{name}={getattr(self, name)} must not be negative")

    @classmethod
    def preset(cls, name: str = "balanced", **numbers: Any) -> Detector:
        """balanced, selective or inclusive, with numbers of one's own in place of the preset's."""
        if name not in PRESETS:
            raise SepnetError(f"the preset {name!r} is none of {', '.join(PRESETS)}")
        try:
            return replace(PRESETS[name], **numbers)
        except TypeError as error:
            known = ", ".join(cls.__dataclass_fields__)
            raise SepnetError(f"the detector has no number {sorted(numbers)}: it has {known}") from error

    def detect(
        self,
        track: Track,
        embedding: Float[Tensor, " dim"],
        *,
        index: int | None,
        seconds: float,
        own_probability: float = 1.0,
    ) -> Detection:
        """Where the sound of ``embedding``, of the class ``index``, is heard in a track of ``seconds``.

        index: of the tagger's classes; None for one that it does not know. own_probability: of that class in
        the query itself, which the confidence is measured by.
        """
        similarity = functional.cosine_similarity(track.tags.embeddings, embedding[None], dim=-1)
        probability = None if index is None else track.tags.probabilities[:, index]
        score = similarity.clamp_min(0)
        if probability is not None:
            score = (score * probability).sqrt()  # on the scale of both: weak windows are not lost near 0
        centres = track.times.mean(dim=1)
        at = torch.arange(0, seconds, GRID_SECONDS) + GRID_SECONDS / 2
        active, threshold = self._active(centres, probability, similarity, score, at)
        segments = self._segments(active, seconds)
        within = torch.stack([(at >= start) & (at <= end) for start, end in segments] or [at < 0]).any(dim=0)
        level = interpolated(centres, score, at)
        reached = float(level[within].mean() if segments else score.max())
        inside = torch.stack(
            [(centres >= start) & (centres <= end) for start, end in segments] or [at[:1] < 0]
        )
        best = int(score.argmax())
        miss = Miss(
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
            gate=inside.any(dim=0).expand(len(centres)).clone(),
            threshold=threshold,
            segments=segments,
            confidence=min(
                1.0, reached / (1.0 if probability is None else max(own_probability, 1e-6) ** 0.5)
            ),
            nearest_miss=None if segments else miss,
            seconds=seconds,
            sharpening=self.time_mask_sharpening,
        )

    def _active(
        self, centres: Tensor, probability: Tensor | None, similarity: Tensor, score: Tensor, at: Tensor
    ) -> tuple[Bool[Tensor, " point"], float]:
        """Whether the query is heard at each of the times ``at``, and the threshold that says so."""
        if self.threshold in ("percentile", "fixed"):
            judged = similarity if probability is None else probability
            wanted = self.cls_threshold if probability is not None else self.cosine_threshold
            if self.threshold == "percentile":
                wanted = float(torch.quantile(judged, self.cls_percentile / 100))
            active = interpolated(centres, judged, at) >= wanted
            if self.use_cosine_gate:
                active &= interpolated(centres, similarity, at) >= self.cosine_threshold
            return active, wanted
        split, level = otsu(score), interpolated(centres, score, at)
        middle = split.threshold if split.has_two_modes(self.least_gap) else self.least_score
        threshold = min(max(middle, self.least_score), self.sure_score)
        if self.threshold == "otsu":
            return level >= threshold, threshold
        reach = 0.2 * (split.high - split.low) if split.has_two_modes(self.least_gap) else 0.0
        return hysteresis(level, low=threshold - reach, high=threshold + reach), threshold

    def _segments(self, active: Bool[Tensor, " point"], seconds: float) -> tuple[Segment, ...]:
        """Stretches: those with small gaps between them merged, then short ones left out, then padded."""
        merged = joined(stretches(active), gap=self.merge_gap_ms / 1000)
        long = [
            (start, end)
            for start, end in merged
            if end - start >= min(self.min_dur_ms / 1000, seconds) - 1e-6
        ]
        pad = self.segment_padding_ms / 1000
        padded = [(max(0.0, start - pad), min(seconds, end + pad)) for start, end in long]
        return tuple((round(start, 4), round(end, 4)) for start, end in joined(padded, gap=0.0))


PRESETS = {
    "balanced": Detector(),
    "selective": Detector(
        cls_threshold=0.5, cls_percentile=96.0, cosine_threshold=0.6, least_score=0.25, sure_score=0.65,
        min_dur_ms=600.0, merge_gap_ms=100.0, segment_padding_ms=20.0, time_mask_sharpening=1.6,
    ),
    "inclusive": Detector(
        cls_threshold=0.15, cls_percentile=80.0, cosine_threshold=0.3, least_score=0.06, sure_score=0.35,
        min_dur_ms=250.0, merge_gap_ms=400.0, segment_padding_ms=150.0, time_mask_sharpening=0.8,
    ),
}  # fmt: skip


def interpolated(
    centres: Float[Tensor, " window"], values: Float[Tensor, " window"], at: Float[Tensor, " point"]
) -> Float[Tensor, " point"]:
    """Values at times between centres (in order), on straight lines; outside the first and the last stay."""
    if len(centres) == 1:
        return values.expand(len(at)).clone()
    right = torch.searchsorted(centres.contiguous(), at.contiguous()).clamp(1, len(centres) - 1)
    left = right - 1
    share = ((at - centres[left]) / (centres[right] - centres[left])).clamp(0, 1)
    return values[left] + share * (values[right] - values[left])


def stretches(active: Bool[Tensor, " point"]) -> list[Segment]:
    """Beginning and end of each run of true points, GRID_SECONDS wide each, in seconds."""
    edges = torch.diff(
        active.int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int)
    )
    starts, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten()
    return [
        (start * GRID_SECONDS, end * GRID_SECONDS)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def joined(segments: Iterable[Segment], *, gap: float) -> list[Segment]:
    """Segments in order, those that overlap or are at most ``gap`` seconds apart made one."""
    merged: list[Segment] = []
    for start, end in sorted(segments):
        if merged and start - merged[-1][1] <= gap + 1e-9:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
