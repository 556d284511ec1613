"""The result of a query: whether and when its sound occurs, the target, and the mask that extracts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sepnet.query.detection.result import Detection
from sepnet.query.optimisation.dgmo import OptimisedMask
from sepnet.query.tagging.tags import ClipTags
from sepnet.types import Mixture, Query, Separator


@dataclass(frozen=True)
class Event:
    """The result of one query; target and residual sum to the mixture.

    Attributes:
        name: The label of the query; without one, the class that the tagger assigns to it.
        query: The example as it was used, at the level of the tagger's input.
        tags: Tags of the example.
        class_known: Whether the tagger recognised the class of the example with enough confidence to search
            for it; otherwise the detection used only similarity.
        detection: When the sound occurs, and with what confidence.
        start_mask: The first mask, (frame, mel).
        mask: The final mask, (frame, mel).
        mask_linear: The final mask as it was applied, (bin, frame).
        optimisation: The optimisation of the mask; None if the mask was not optimised.
        target: The sound of the query, (time,).
        residual: The rest of the mixture, (time,).
        compute_seconds: {stage: duration}.
    """

    name: str
    query: Query
    tags: ClipTags
    class_known: bool
    detection: Detection
    start_mask: Float[Tensor, "frame mel"]
    mask: Float[Tensor, "frame mel"]
    mask_linear: Float[Tensor, "bin frame"]
    optimisation: OptimisedMask | None
    target: Float[Tensor, " time"]
    residual: Float[Tensor, " time"]
    compute_seconds: Mapping[str, float]


@runtime_checkable
class EventFinder(Separator, Protocol):
    """A separator that also detects when the sound of each query occurs, and with what confidence."""

    def find(self, mixture: Mixture) -> tuple[Event, ...]:
        """Find the sound of each query, one event for each. Raises as ``separate``."""
        ...
