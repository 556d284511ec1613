"""Mixture consistency: estimates that sum to the mixture."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def make_consistent(
    estimates: Float[Tensor, "*batch source time"], mixture: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch source time"]:
    """Share what the estimates lack of the mixture equally among them.

    The smallest change, in the sense of least squares, after which they sum to the mixture: Wisdom et
    al., "Differentiable consistency constraints for improved deep speech enhancement", ICASSP 2019, eq. 7.
    """
    missing = mixture - estimates.sum(dim=-2)
    return estimates + missing.unsqueeze(-2) / estimates.shape[-2]
