"""What becomes of a query: the sound that was found, when, and how its mask came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sepnet.query.detection import Detection
from sepnet.query.dgmo import Optimised
from sepnet.query.tagger import Heard
from sepnet.types import Mixture, Query, Separator


@dataclass(frozen=True)
class Event:
    """What became of one query.

    name: its class, the label that it came with or, without one, what the tagger hears. query: the example
    as it was used, at the level that the tagger heard it at. heard: what the tagger makes of it; known:
    whether that is a class it is sure enough of, or else the detection went by similarity alone. mask:
    (frame, mel), as applied; optimised: None where nothing was optimised. target + residual = mixture, both
    (time,). seconds: of compute, by stage.
    """

    name: str
    query: Query
    heard: Heard
    known: bool
    detection: Detection
    start: Float[Tensor, "frame mel"]
    mask: Float[Tensor, "frame mel"]
    optimised: Optimised | None
    target: Float[Tensor, " time"]
    residual: Float[Tensor, " time"]
    seconds: Mapping[str, float]


@runtime_checkable
class EventFinder(Separator, Protocol):
    """A separator that also tells when it found the sound of each query, and how sure it is."""

    def find(self, mixture: Mixture) -> tuple[Event, ...]:
        """One event for each query. Raises as ``separate``."""
        ...
