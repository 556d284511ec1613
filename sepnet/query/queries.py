"""The examples that a mixture comes with: checked, and named."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.types import CannotSeparate, Mixture, Query

SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 30.0
SILENT_RMS = 1e-6


def checked_queries(mixture: Mixture) -> tuple[Query, ...]:
    """The queries of a mixture.

    Raises CannotSeparate for none, and for one that is shorter than 0.1 s, longer than 30 s, silent, not
    finite, of several channels, or of another rate than the mixture.
    """
    if not mixture.queries:
        raise CannotSeparate(
            "the method needs queries, of which this mixture gives none: say query=example.wav"
        )
    for number, query in enumerate(mixture.queries, start=1):
        what = f"query {number}"
        if query.audio.ndim != 1:
            raise CannotSeparate(f"{what} is {tuple(query.audio.shape)}, but has to be one channel (time,)")
        seconds = query.audio.shape[-1] / query.sample_rate
        if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
            raise CannotSeparate(
                f"{what} has {seconds:.2f} s, but is to have {SHORTEST_SECONDS:g} to {LONGEST_SECONDS:g} s: "
                "give 1 to 3 s of the sound alone"
            )
        if query.sample_rate != mixture.sample_rate:
            raise CannotSeparate(
                f"{what} is at {query.sample_rate} Hz, but the mixture at {mixture.sample_rate} Hz: "
                "resample one of them"
            )
        if not bool(torch.isfinite(query.audio).all()) or query.audio.square().mean().sqrt() < SILENT_RMS:
            raise CannotSeparate(f"{what} is silent or not finite: give another example")
    return mixture.queries


def names_of(queries: Sequence[Query]) -> tuple[str, ...]:
    """A label for each query, its class or its number; of a single one also that of the residual."""
    names = tuple(query.label or f"query {number}" for number, query in enumerate(queries, start=1))
    return (*names, "residual") if len(names) == 1 else names


def loudest_part(
    audio: Float[Tensor, " time"], seconds: float, sample_rate: int
) -> Float[Tensor, " excerpt"]:
    """The stretch of so many seconds with the most energy, or all of what is no longer."""
    n_samples = round(seconds * sample_rate)
    if len(audio) <= n_samples:
        return audio
    energy = torch.cat([torch.zeros(1, dtype=torch.float64), audio.double().square().cumsum(0).cpu()])
    start = int((energy[n_samples:] - energy[:-n_samples]).argmax())
    return audio[start : start + n_samples]
