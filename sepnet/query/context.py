"""The results of tagging and detection for one query, on which the first mask is built."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.query.detection.result import Detection
from sepnet.query.mel_masking import MelMasking
from sepnet.query.tagging.tagger import Tagger
from sepnet.query.tagging.tags import ClipTags, TagTrack
from sepnet.types import Query


@dataclass(frozen=True)
class QueryContext:
    """One mixture and one query, with the results of tagging and detection.

    Attributes:
        mixture: (time,), at the level of the tagger's input.
        mel_powers: Mel powers of the mixture, (frame, mel).
        query: The example, at the level of the tagger's input.
        query_tags: Tags of the example.
        mixture_tags: Tags of the mixture over time.
        detection: When the sound of the query occurs in the mixture.
        tagger: The tagger that made the tags.
        masking: The transform of masks.
    """

    mixture: Float[Tensor, " time"]
    mel_powers: Float[Tensor, "frame mel"]
    query: Query
    query_tags: ClipTags
    mixture_tags: TagTrack
    detection: Detection
    tagger: Tagger
    masking: MelMasking

    @property
    def frame_times(self) -> Float[Tensor, " frame"]:
        """The middle of each frame, in seconds; that of the first frames lies before the signal begins."""
        stft, rate = self.masking.stft, self.masking.sample_rate
        padding = stft.window_samples - stft.hop_samples  # see sepnet.dsp.filterbank
        middles = torch.arange(len(self.mel_powers)) * stft.hop_samples + stft.window_samples / 2 - padding
        return middles / rate

    def soft_gate(self) -> Float[Tensor, " frame"]:
        """The soft gate of the detection over frames, 0 to 1."""
        masking = self.masking
        gate = self.detection.time_mask(len(self.mel_powers), masking.stft.hop_samples, masking.sample_rate)
        return gate.to(self.mel_powers)
