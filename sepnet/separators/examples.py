"""What separators that are told by example share: which examples will do, and what the sources are called."""

from __future__ import annotations

import torch

from sepnet.types import CannotSeparate, Mixture, Query

RESIDUAL = "residual"


def checked(mixture: Mixture) -> tuple[Query, ...]:
    """The queries. Raises CannotSeparate for those that can't be used."""
    if not mixture.queries:
        raise CannotSeparate("the method needs queries, of which this mixture gives none")
    for number, query in enumerate(mixture.queries, start=1):
        if query.sample_rate != mixture.sample_rate:
            raise CannotSeparate(
                f"query {number} is at {query.sample_rate} Hz, but the mixture at {mixture.sample_rate} Hz: "
                "resample one of them"
            )
        if not bool(torch.isfinite(query.audio).all() and query.audio.any()):
            raise CannotSeparate(f"query {number} is silent or not finite: give another example")
    return mixture.queries


def labels(queries: tuple[Query, ...]) -> tuple[str, ...]:
    """Of the estimates: one for each query, and after a single one the rest."""
    names = tuple(query.label or f"query {k + 1}" for k, query in enumerate(queries))
    return (*names, RESIDUAL) if len(names) == 1 else names
