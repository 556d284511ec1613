"""All that is known of a mixture and a query before there is a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.query.applying import MelMasking
from sepnet.query.detection import Detection
from sepnet.query.tagger import Heard, Tagger, Track
from sepnet.types import Query


@dataclass(frozen=True)
class Scene:
    """One mixture and one query.

    signal: the mixture, (time,). powers: its mel powers, (frame, mel). query: what to find; heard: what the
    tagger makes of it. track: what the tagger makes of the mixture, window by window; detection: when the
    query is heard there. tagger and masking are those of the separator.
    """

    signal: Float[Tensor, " time"]
    powers: Float[Tensor, "frame mel"]
    query: Query
    heard: Heard
    track: Track
    detection: Detection
    tagger: Tagger
    masking: MelMasking

    @property
    def frame_seconds(self) -> Float[Tensor, " frame"]:
        """When each frame has its middle: the first lies under the beginning of the signal."""
        stft, rate = self.masking.stft, self.masking.sample_rate
        left = stft.window_samples - stft.hop_samples  # of padding, see sepnet.dsp.filterbank
        middles = torch.arange(len(self.powers)) * stft.hop_samples + stft.window_samples / 2 - left
        return middles / rate

    def gate(self) -> Float[Tensor, " frame"]:
        """The soft gate of the detection, 0 to 1."""
        masking = self.masking
        gate = self.detection.time_mask(len(self.powers), masking.stft.hop_samples, masking.sample_rate)
        return gate.to(self.powers)


@dataclass(frozen=True)
class Ear:
    """What the optimisation may hear through: an embedding of windows of the mixture's rate, (window, sample)
    to (window, embedding), and that of the query."""

    embed: Callable[[Tensor], Tensor]
    query: Float[Tensor, " embedding"]


@runtime_checkable
class Listening(Protocol):
    """A start that has an ear of its own, as a network that was trained on examples."""

    def ear(self, scene: Scene) -> Ear: ...


@runtime_checkable
class Start(Protocol):
    """Where a mask starts, (frame, mel) in [0, 1].

    Its attribute ``needs_detection``, true where it has none, says whether it is empty if nothing was found.
    """

    def __call__(self, scene: Scene) -> Float[Tensor, "frame mel"]: ...
