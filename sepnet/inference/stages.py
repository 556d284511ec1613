"""The stages between a recording and a separator: each is a separator wrapped around another one.

``Pipeline`` puts them together; nothing else should.
"""

from __future__ import annotations

import math
from dataclasses import replace

from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.resample import resample, resample_query
from sepnet.inference.full_band import extend_to_full_band
from sepnet.types import Mixture, Separation, Separator, SeparatorInfo

MAX_PEAK = 1e8  # of full scale: in float32 there is no room for the sums of high powers of much more


class Stage:
    """A separator around another one, of which it says the same."""

    def __init__(self, separator: Separator) -> None:
        self.separator = separator

    @property
    def info(self) -> SeparatorInfo:
        """That of the separator inside."""
        return self.separator.info


class Levelled(Stage):
    """Takes a mixture of absurd level, as some files of floats have it, below ``MAX_PEAK``, and back."""

    def separate(self, mixture: Mixture) -> Separation:
        """Separate at a level that leaves room for sums of powers. Raises as the separator inside."""
        peak = float(mixture.audio.abs().max())
        if peak <= MAX_PEAK:
            return self.separator.separate(mixture)
        scale = math.ldexp(1.0, 16 - math.frexp(peak)[1])  # a power of two, which rounds nothing
        references = mixture.references
        separation = self.separator.separate(
            replace(
                mixture,
                audio=mixture.audio * scale,
                references=None if references is None else references * scale,
            )
        )
        return replace(separation, sources=separation.sources / scale)


class Resampled:
    """Takes a mixture of any rate to the separator's rate, and its estimates back.

    Estimates have the length of the mixture, and nothing above half the separator's rate.
    """

    def __init__(self, separator: Separator, *, sample_rate: int) -> None:
        self.separator, self.sample_rate = separator, sample_rate

    @property
    def info(self) -> SeparatorInfo:
        """That of the separator inside, at any rate."""
        return replace(self.separator.info, sample_rate=None)

    def separate(self, mixture: Mixture) -> Separation:
        """Separate at the rate of the separator inside, whose errors it raises."""
        outer, inner = mixture.sample_rate, self.sample_rate
        queries = mixture.queries and tuple(resample_query(query, inner) for query in mixture.queries)
        if outer == inner:
            same = all(query.sample_rate == inner for query in mixture.queries or ())
            return self.separator.separate(mixture if same else replace(mixture, queries=queries))
        references = mixture.references
        separation = self.separator.separate(
            replace(
                mixture,
                audio=resample(mixture.audio, outer, inner),
                sample_rate=inner,
                queries=queries,
                references=None if references is None else resample(references, outer, inner),
            )
        )
        sources = resample(separation.sources, inner, outer)[..., : mixture.audio.shape[-1]]
        return replace(separation, sources=sources)


class FullBand(Stage):
    """Gives each estimate of a ``Resampled`` separator its share of what lies above the separator's band."""

    def __init__(self, separator: Resampled) -> None:
        super().__init__(separator)
        self.model_rate = separator.sample_rate

    def separate(self, mixture: Mixture) -> Separation:
        """Separate up to half the mixture's rate. Raises as the separator inside."""
        separation = self.separator.separate(mixture)
        if mixture.sample_rate <= self.model_rate:
            return separation
        sources = extend_to_full_band(
            separation.sources,
            mixture.audio[0],
            sample_rate=mixture.sample_rate,
            edge_hz=self.model_rate / 2,
        )
        return replace(separation, sources=sources)


class Consistent(Stage):
    """Shares what the estimates lack of channel 0 equally among them, so that they sum to it.

    The targets of several queries are not all that there is in a mixture: they are left as they are.
    """

    def separate(self, mixture: Mixture) -> Separation:
        """Separate, and sum to the mixture. Raises as the separator inside."""
        separation = self.separator.separate(mixture)
        if mixture.queries is not None and len(mixture.queries) > 1:
            return separation
        return replace(separation, sources=make_consistent(separation.sources, mixture.audio[0]))
