"""The examples that come with a mixture: which ones can be used, and how the sources are labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sepnet.types import CannotSeparate, Mixture, Query, missing_hint

RESIDUAL_LABEL = "residual"
SILENCE_RMS = 1e-6  # an example below this level is silent


def checked_examples(
    mixture: Mixture, *, min_seconds: float = 0.0, max_seconds: float = math.inf
) -> tuple[Query, ...]:
    """Return the examples of a mixture once all of them are known to be usable.

    Args:
        mixture: The mixture with its queries.
        min_seconds: The shortest example that the method can use.
        max_seconds: The longest example that the method can use.

    Returns:
        The queries of the mixture, one at least.

    Raises:
        CannotSeparate: There is no query; or one is shorter or longer than the method can use, is at another
            rate than the mixture, or is silent.
    """
    if not mixture.queries:
        raise missing_hint("queries")
    for number, query in enumerate(mixture.queries, start=1):
        name = f"query {number}"
        if query.sample_rate != mixture.sample_rate:
            raise CannotSeparate(
                f"{name} is at {query.sample_rate} Hz, but the mixture at {mixture.sample_rate} Hz: "
                "resample one of them"
            )
        seconds = len(query.audio) / query.sample_rate
        if not min_seconds <= seconds <= max_seconds:
            raise CannotSeparate(
                f"{name} lasts {seconds:.2f} s, but the method needs {min_seconds:g} to {max_seconds:g} s: "
                "give 1 to 3 s of the sound alone"
            )
        if query.audio.square().mean().sqrt() < SILENCE_RMS:
            raise CannotSeparate(f"{name} is silent: give an example in which the sound is heard")
    return mixture.queries


def example_labels(queries: Sequence[Query]) -> tuple[str, ...]:
    """Name the estimates: after each query's class or number, and after a single query the residual."""
    names = tuple(query.label or f"query {number}" for number, query in enumerate(queries, start=1))
    return (*names, RESIDUAL_LABEL) if len(names) == 1 else names
