"""Separators around a separator: what a method does not know, wrapped about it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.resample import resample
from sepnet.types import CannotSeparate, Mixture, Query, Separation, Separator


def require_rate(mixture: Mixture, sample_rate: int, *, made: str) -> None:
    """Raises CannotSeparate for a mixture at another rate. made: what was made for that rate, in words."""
    if mixture.sample_rate != sample_rate:
        raise CannotSeparate(
            f"{made} made for {sample_rate} Hz, but the mixture is at {mixture.sample_rate} Hz: "
            "wrap it in sepnet.separators.wrappers.Resampled"
        )


class Resampled:
    """Takes a mixture at any rate to the rate of a separator, and its estimates back.

    What lies above half of ``sample_rate`` is lost on the way; estimates have the length of the mixture.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, separator: Separator, *, sample_rate: int) -> None:
        self.separator, self.sample_rate = separator, sample_rate
        self.needs = separator.needs  # type: ignore[misc]  # those of the one inside

    def separate(self, mixture: Mixture) -> Separation:
        """As the separator inside, at the mixture's own rate."""
        own, inner = mixture.sample_rate, self.sample_rate
        if own == inner and all(query.sample_rate == inner for query in mixture.queries or ()):
            return self.separator.separate(mixture)
        inside = Mixture(
            audio=resample(mixture.audio, own, inner),
            sample_rate=inner,
            n_sources=mixture.n_sources,
            queries=None if mixture.queries is None else tuple(self._query(q) for q in mixture.queries),
            references=None if mixture.references is None else resample(mixture.references, own, inner),
        )
        separation = self.separator.separate(inside)
        sources = resample(separation.sources, inner, own)[..., : mixture.audio.shape[-1]]
        return replace(separation, sources=sources)

    def _query(self, query: Query) -> Query:
        return replace(
            query,
            audio=resample(query.audio, query.sample_rate, self.sample_rate),
            sample_rate=self.sample_rate,
        )


class Consistent:
    """Moves the estimates by equal shares so that they sum to channel 0 of the mixture."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, separator: Separator) -> None:
        self.separator = separator
        self.needs = separator.needs  # type: ignore[misc]  # those of the one inside

    def separate(self, mixture: Mixture) -> Separation:
        """As the separator inside, and level-faithful."""
        separation = self.separator.separate(mixture)
        if mixture.queries is not None and len(mixture.queries) > 1:
            return separation  # the targets of several queries are not all that there is
        return replace(separation, sources=make_consistent(separation.sources, mixture.audio[0]))
