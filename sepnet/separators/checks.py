"""What separators check of a mixture before they begin."""

from __future__ import annotations

from sepnet.types import CannotSeparate, Mixture


def require_rate(mixture: Mixture, sample_rate: int, *, made: str) -> None:
    """Refuse a mixture at another rate than the separator's.

    Args:
        mixture: The mixture to separate.
        sample_rate: The separator's rate in Hz.
        made: The subject of the message, such as "the network was".

    Raises:
        CannotSeparate: The rates differ.
    """
    if mixture.sample_rate != sample_rate:
        raise CannotSeparate(
            f"{made} made for {sample_rate} Hz, but the mixture is at {mixture.sample_rate} Hz: "
            "separate it through sepnet.inference.Pipeline, which resamples"
        )
