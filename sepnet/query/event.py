"""The result of a query: whether and when its sound was found, and the target with the mask that gave it."""

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
        name: The label of the query; without one the class that the tagger gives it.
        query: The example as it was used, at the level that the tagger was given.
        tags: Tags of the example.
        class_known: Whether the tagger was sure enough of the example's class to search for it; otherwise the
            detection used similarity alone.
        detection: When the sound occurs, and with what confidence.
        start_mask: The first mask, (frame, mel).
        mask: The final mask, (frame, mel).
        mask_linear: The final mask as it was applied, (bin, frame).
        optimisation: How the mask was optimised; None where it was not.
        target: The sound of the query, (time,).
        residual: The rest of the mixture, (time,).
        compute_seconds: Time that each stage took.
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
    """A separator that also tells when the sound of each query occurs, and with what confidence."""

    def find(self, mixture: Mixture) -> tuple[Event, ...]:
        """Find the sound of each query, one event for each. Raises as ``separate``."""
        ...
