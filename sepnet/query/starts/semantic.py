"""Semantic masking: windows are kept as far as they resemble the query, in the bands of its kind of sound.

    s(t) = the windows' similarity, smoothed, relative to its minimum and maximum;                   (1)
    M(t, f) = (b s(t) + (1 - b) gate(t)) w(f),                                                       (2)

with b the blending and w the band weights of the class: voices lie between 100 Hz and 8 kHz, music uses all
bands equally, and for other sounds the spectrum of the query tells which bands they use.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.mel import mel_centres_hz
from sepnet.query.context import QueryContext
from sepnet.query.detection.segments import interpolate
from sepnet.types import SepnetError

VOICE_HZ = (100.0, 8000.0)
WEIGHT_OUTSIDE_VOICE = 0.1
VOICE_WORDS = (
    "speech", "speaker", "voice", "conversation", "laughter", "baby", "cry", "sneez", "cough", "singing",
)  # fmt: skip
MUSIC_WORDS = ("music", "guitar", "piano", "violin", "drum", "instrument", "orchestra", "song")


class SemanticMask:
    """The mask of equation (2).

    Args:
        semantic_blending: b, from 0 (the gate of the detection alone) to 1 (the similarity alone).
        similarity_smoothing: Standard deviation of the smoothing in (1), in windows; 0: none.
        depth: How strongly the spectrum of the query weights the bands of other sounds, 0 to 1.

    Raises:
        SepnetError: A number is out of range.
    """

    needs_detection = True

    def __init__(
        self, *, semantic_blending: float = 0.7, similarity_smoothing: float = 1.0, depth: float = 0.5
    ) -> None:
        if not (0 <= semantic_blending <= 1 and 0 <= depth <= 1) or similarity_smoothing < 0:
            raise SepnetError(
                f"semantic_blending={semantic_blending} and depth={depth} have to be between 0 and 1, and "
                f"similarity_smoothing={similarity_smoothing} 0 or more"
            )
        self.semantic_blending, self.similarity_smoothing = semantic_blending, similarity_smoothing
        self.depth = depth

    def __call__(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Make the mask, (frame, mel)."""
        detection = context.detection
        smooth = gaussian_smooth(detection.similarity, self.similarity_smoothing)
        span = (smooth.max() - smooth.min()).clamp_min(1e-6)
        relative = (smooth - smooth.min()) / span
        similarity = interpolate(detection.centres, relative, context.frame_times)  # (1)
        over_time = self.semantic_blending * similarity + (1 - self.semantic_blending) * context.soft_gate()
        return over_time[:, None] * self.band_weights(context)

    def band_weights(self, context: QueryContext) -> Float[Tensor, " mel"]:
        """Compute w, 0 to 1: by the class of the query for voices and music, else by its spectrum."""
        masking, name = context.masking, (context.query.label or context.query_tags.label).lower()
        hz = mel_centres_hz(masking.n_mels, masking.sample_rate)
        if any(word in name for word in MUSIC_WORDS):
            return torch.ones_like(hz)
        if any(word in name for word in VOICE_WORDS):
            is_voice = (hz >= VOICE_HZ[0]) & (hz <= VOICE_HZ[1])
            return is_voice.float().clamp_min(WEIGHT_OUTSIDE_VOICE)
        spectrum = masking.mel_powers(context.query.audio).mean(dim=0)
        relative = (spectrum / spectrum.max().clamp_min(1e-12)).pow(0.25)
        return (1 - self.depth) + self.depth * relative


def gaussian_smooth(values: Float[Tensor, " window"], standard_deviation: float) -> Float[Tensor, " window"]:
    """Smooth values with a Gaussian kernel, which is renormalised at both ends.

    Args:
        values: One for each window.
        standard_deviation: Of the kernel, in windows; 0 returns the values.
    """
    if standard_deviation == 0 or len(values) == 1:
        return values
    distance = torch.arange(len(values))[:, None] - torch.arange(len(values))
    weights = torch.exp(-0.5 * (distance / standard_deviation).square())
    return (weights @ values) / weights.sum(dim=1)
