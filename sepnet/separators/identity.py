"""The mixture itself as the estimate of each source: the floor of every table."""

from __future__ import annotations

from sepnet.separators.checks import require_n_sources
from sepnet.types import Mixture, Separation, SeparatorInfo


class Identity:
    """Returns channel 0 of the mixture once for each source; a method that scores below it does harm.

    Every improvement over the mixture (SI-SDRi, SDRi) is 0 dB by definition, so its row also checks the
    evaluation itself.
    """

    info = SeparatorInfo(needs=frozenset({"n_sources"}))

    def separate(self, mixture: Mixture) -> Separation:
        """Return (n_sources, time), each a copy of channel 0, in arbitrary order."""
        return Separation(sources=mixture.audio[:1].repeat(require_n_sources(mixture), 1))
