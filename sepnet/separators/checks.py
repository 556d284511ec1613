"""Checks of mixtures and settings that several separators share."""

from __future__ import annotations

from torch import Tensor

from sepnet.types import CannotSeparate, Mixture, SepnetError, missing_hint


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


def require_n_sources(mixture: Mixture) -> int:
    """Return the given number of sources.

    Raises:
        CannotSeparate: The mixture does not give it.
    """
    if mixture.n_sources is None:
        raise missing_hint("n_sources")
    return mixture.n_sources


def require_references(mixture: Mixture) -> Tensor:
    """Return the true sources (source, time), which only oracles see.

    Raises:
        CannotSeparate: The mixture does not give them.
    """
    if mixture.references is None:
        raise missing_hint("references")
    return mixture.references


def require_positive(**settings: float) -> None:
    """Refuse settings that are not positive.

    Args:
        settings: The values by name, for the message.

    Raises:
        SepnetError: One or more are zero or negative.
    """
    if wrong := [f"{name}={value}" for name, value in settings.items() if value <= 0]:
        raise SepnetError(f"{', '.join(wrong)}: give positive numbers")
