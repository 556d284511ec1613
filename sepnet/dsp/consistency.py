"""Mixture consistency: estimates that sum to the mixture."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def make_consistent(
    estimates: Float[Tensor, "*batch source time"], mixture: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch source time"]:
    """Make estimates sum to the mixture: the difference is added to them in equal shares.

    This is the smallest change in the least-squares sense: Wisdom et al., "Differentiable consistency
    constraints for improved deep speech enhancement", ICASSP 2019, eq. 7.

    Args:
        estimates: (..., source, time).
        mixture: (..., time).

    Returns:
        The consistent estimates.
    """
    missing = mixture - estimates.sum(dim=-2)
    return estimates + missing.unsqueeze(-2) / estimates.shape[-2]
