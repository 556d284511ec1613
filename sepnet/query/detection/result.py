"""The result of the detection: when a sound occurs in a mixture, and with what confidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.query.detection.segments import Segment, interpolate


@dataclass(frozen=True)
class NearestMiss:
    """The window with the highest score, if nothing was detected.

    Attributes:
        start: Its start in seconds.
        end: Its end in seconds.
        probability: The probability of the query's class; None for a class that the tagger does not know.
        similarity: Cosine similarity of its embedding to that of the query.
    """

    start: float
    end: float
    probability: float | None
    similarity: float


@dataclass(frozen=True)
class Detection:
    """When a sound occurs in a mixture, and with what confidence.

    Attributes:
        times: (window, 2), the start and end of each window in seconds.
        probability: (window,), that of the query's class; None for a class that the tagger does not know.
        similarity: (window,), cosine similarity to the query.
        score: (window,), see sepnet.query.detection.detector.
        gate: (window,), whether the centre of the window lies in a segment.
        threshold: The threshold of the score; in the faithful modes that of the probability or the
            similarity.
        segments: The segments in which the sound occurs, in order, without overlap.
        confidence: 0 to 1, the mean score within the segments relative to that of the query itself; without
            segments the highest score.
        nearest_miss: The most similar window; None if something was detected.
        seconds: Length of the mixture.
        sharpening: Exponent of the soft gate, see ``time_mask``.
    """

    times: Tensor
    probability: Tensor | None
    similarity: Tensor
    score: Tensor
    gate: Tensor
    threshold: float
    segments: tuple[Segment, ...]
    confidence: float
    nearest_miss: NearestMiss | None
    seconds: float
    sharpening: float

    @property
    def found(self) -> bool:
        """Whether the sound occurs anywhere."""
        return bool(self.segments)

    @property
    def centres(self) -> Float[Tensor, " window"]:
        """The centre of each window, in seconds."""
        return self.times.mean(dim=1)

    def time_mask(
        self, n_frames: int, hop_samples: int, sample_rate: int = 16000, *, edge_seconds: float = 0.1
    ) -> Float[Tensor, " frame"]:
        """Make a soft gate over frames.

        Args:
            n_frames: The number of frames.
            hop_samples: Distance between their starts, in samples.
            sample_rate: In Hz.
            edge_seconds: The time in which the gate closes outside a segment, along half a Hann window.

        Returns:
            0 to 1 for each frame: r^sharpening within a segment, with r the score relative to its maximum;
            all 0 if nothing was detected.
        """
        at = torch.arange(n_frames) * (hop_samples / sample_rate)
        if not self.segments:
            return torch.zeros(n_frames)
        level = interpolate(self.centres, self.score, at)
        relative = (level / level.max().clamp_min(1e-9)).clamp(0, 1) ** self.sharpening
        distance = torch.stack([torch.maximum(start - at, at - end) for start, end in self.segments])
        fade = 0.5 * (1 + torch.cos(torch.pi * (distance.amin(dim=0) / edge_seconds).clamp(0, 1)))
        return relative * fade
