"""The terms of the loss of a mask M (frame, mel), each a scalar, 0 where it is content; pure functions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-20  # a power, beside which all sound is large

Cells = Float[Tensor, "frame mel"]
Embeddings = Float[Tensor, "window embedding"]
Other = Float[Tensor, "#window embedding"]  # one for all windows, or one for each


def reference_distance(
    mask: Cells, mixture: Cells, reference: Cells, weights: Cells | None = None, *, floor_db: float = 60.0
) -> Tensor:
    """The weighted mean of |log(M^2 mixture) - log(reference)|, in nepers of power.

    mixture, reference: mel powers. Both logarithms stand on a floor, ``floor_db`` under the loudest cell of
    the mixture: what lies under it is silence, however deep. weights: not negative; None: all cells alike.
    """
    floor = mixture.max() * 10 ** (-floor_db / 10) + TINY
    apart = (torch.log(mask.square() * mixture + floor) - torch.log(reference + floor)).abs()
    if weights is None:
        return apart.mean()
    return (weights * apart).sum() / weights.sum().clamp_min(TINY)


def total_variation(mask: Cells) -> Tensor:
    """The mean of |M - M of the next frame|, plus that of |M - M of the next mel| (Rudin et al. 1992)."""
    steps = [mask.diff(dim=axis).abs() for axis in (0, 1)]
    return torch.stack([step.mean() if step.numel() else step.sum() for step in steps]).sum()


def saturation(mask: Cells) -> Tensor:
    """The mean of M (1 - M): 0 where all is 0 or 1, and 1/4 where all is one half."""
    return (mask * (1 - mask)).mean()


def proximity(mask: Cells, start: Cells) -> Tensor:
    """The mean of (M - start)^2."""
    return (mask - start).square().mean()


def away_from(embeddings: Embeddings, other: Other, weights: Float[Tensor, " window"]) -> Tensor:
    """The weighted mean of the cosine similarity, 0 where it is negative: that is far enough away."""
    return _mean(F.cosine_similarity(embeddings, other, dim=-1).clamp_min(0), weights)


def towards(embeddings: Embeddings, other: Other, weights: Float[Tensor, " window"]) -> Tensor:
    """The weighted mean of 1 - cosine similarity."""
    return _mean(1 - F.cosine_similarity(embeddings, other, dim=-1), weights)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (weights * values).sum() / weights.sum().clamp_min(TINY)
