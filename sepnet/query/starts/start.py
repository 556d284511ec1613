"""The interface of the methods that make a first mask, and what some of them offer besides the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sepnet.query.context import QueryContext


@runtime_checkable
class Start(Protocol):
    """A way to make the first mask of a query."""

    @property
    def needs_detection(self) -> bool:
        """Whether the mask has to be empty if nothing was detected."""
        ...

    def __call__(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Make the mask, (frame, mel) in [0, 1]."""
        ...


@dataclass(frozen=True)
class QueryEmbedder:
    """An embedding in which separated signals are compared with the query.

    Attributes:
        embed: From windows (window, sample) of the mixture's rate to embeddings (window, embedding).
        query: The embedding of the query, (embedding,).
    """

    embed: Callable[[Tensor], Tensor]
    query: Float[Tensor, " embedding"]


@runtime_checkable
class HasEmbedder(Protocol):
    """A start with an embedding of its own, such as a network that was trained with examples."""

    @property
    def provides_embedder(self) -> bool:
        """Whether it has one; a blend of starts has one only if one of its parts has."""
        ...

    def embedder(self, context: QueryContext) -> QueryEmbedder:
        """Return the embedder with the embedding of the query. Raises SepnetError if there is none."""
        ...


@runtime_checkable
class HasReference(Protocol):
    """A start with mel powers that the target should have."""

    def reference(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Compute these mel powers, (frame, mel)."""
        ...


def provides_embedder(start: Start) -> bool:
    """Tell whether a start has an embedding of its own."""
    return isinstance(start, HasEmbedder) and start.provides_embedder
