"""Semantic masking: as much of each window as it is like the query, in the bands that its sort of sound has.

    s(t) = the windows' similarity, smoothed, between its lowest and highest value;                  (1)
    M(t, f) = (b s(t) + (1 - b) gate(t)) w(f),                                                       (2)

with b the blending and w the band weights of the class: voices live between 100 Hz and 8 kHz, music wants all
bands alike, and of other sounds the query's own spectrum tells where they are.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.mel import centres_hz
from sepnet.query.detection import interpolated
from sepnet.query.scene import Scene
from sepnet.types import SepnetError

VOICE_HZ = (100.0, 8000.0)
SPEECH = (
    "speech",
    "speaker",
    "voice",
    "conversation",
    "laughter",
    "baby",
    "cry",
    "sneez",
    "cough",
    "singing",
)
MUSIC = ("music", "guitar", "piano", "violin", "drum", "instrument", "orchestra", "song")


class SemanticMask:
    """(2). semantic_blending: b. similarity_smoothing: standard deviation of (1), in windows; 0: none.

    depth: how much the query's spectrum weighs the bands of a sound that is neither speech nor music, 0 to 1.
    """

    def __init__(
        self, *, semantic_blending: float = 0.7, similarity_smoothing: float = 1.0, depth: float = 0.5
    ) -> None:
        if not (0 <= semantic_blending <= 1 and 0 <= depth <= 1) or similarity_smoothing < 0:
            raise SepnetError(
                f"semantic_blending={semantic_blending} and depth={depth} lie between 0 and 1, and "
                f"similarity_smoothing={similarity_smoothing} is 0 or above"
            )
        self.semantic_blending, self.similarity_smoothing = semantic_blending, similarity_smoothing
        self.depth = depth

    def __call__(self, scene: Scene) -> Float[Tensor, "frame mel"]:
        """The mask."""
        found = scene.detection
        smooth = smoothed(found.similarity, self.similarity_smoothing)
        span = (smooth.max() - smooth.min()).clamp_min(1e-6)
        at = scene.frame_seconds
        likeness = interpolated(found.times.mean(dim=1), (smooth - smooth.min()) / span, at)  # (1)
        over_time = self.semantic_blending * likeness + (1 - self.semantic_blending) * scene.gate()
        return over_time[:, None] * self.band_weights(scene)

    def band_weights(self, scene: Scene) -> Float[Tensor, " mel"]:
        """w, 0 to 1, by what the query is: speech, music, or anything else."""
        masking, name = scene.masking, (scene.query.label or scene.heard.label).lower()
        hz = centres_hz(masking.n_mels, masking.sample_rate)
        if any(word in name for word in MUSIC):
            return torch.ones_like(hz)
        if any(word in name for word in SPEECH):
            return ((hz >= VOICE_HZ[0]) & (hz <= VOICE_HZ[1])).float().clamp_min(0.1)
        profile = masking.powers(scene.query.audio).mean(dim=0)
        relative = (profile / profile.max().clamp_min(1e-12)).pow(0.25)
        return (1 - self.depth) + self.depth * relative


def smoothed(values: Float[Tensor, " window"], deviation: float) -> Float[Tensor, " window"]:
    """Under a Gaussian of this standard deviation in windows, cut off and renewed at the ends."""
    if deviation == 0 or len(values) == 1:
        return values
    apart = torch.arange(len(values))[:, None] - torch.arange(len(values))
    weights = torch.exp(-0.5 * (apart / deviation).square())
    return (weights @ values) / weights.sum(dim=1)
