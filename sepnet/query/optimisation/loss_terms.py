"""The terms of the loss of a mask M (frame, mel): pure functions, each a scalar that is 0 at its optimum."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

TINY_POWER = 1e-20  # far below any sound; keeps logarithms and divisions finite

Cells = Float[Tensor, "frame mel"]
Embeddings = Float[Tensor, "window embedding"]
OtherEmbeddings = Float[Tensor, "#window embedding"]  # one for all windows, or one for each


def reference_distance(
    mask: Cells, mixture: Cells, reference: Cells, weights: Cells | None = None, *, floor_db: float = 60.0
) -> Float[Tensor, ""]:
    """Compute the weighted mean of |log(M^2 mixture) - log(reference)|.

    Args:
        mask: The mask M.
        mixture: Mel powers of the mixture.
        reference: Mel powers that the masked mixture should have.
        weights: Weight of each cell, not negative; None: all are equal.
        floor_db: A floor that is added to both powers, in dB below the loudest cell of the mixture: below it,
            everything is silence.

    Returns:
        The distance in units of natural log power.
    """
    floor = mixture.max() * 10 ** (-floor_db / 10) + TINY_POWER
    distance = (torch.log(mask.square() * mixture + floor) - torch.log(reference + floor)).abs()
    if weights is None:
        return distance.mean()
    return (weights * distance).sum() / weights.sum().clamp_min(TINY_POWER)


def total_variation(mask: Cells) -> Float[Tensor, ""]:
    """Add the mean absolute differences between neighbouring frames and between mels (Rudin et al. 1992)."""
    steps = [mask.diff(dim=axis).abs() for axis in (0, 1)]
    return torch.stack([step.mean() if step.numel() else step.sum() for step in steps]).sum()


def saturation(mask: Cells) -> Float[Tensor, ""]:
    """Compute the mean of M (1 - M): 0 for a mask of zeros and ones, 1/4 for one half everywhere."""
    return (mask * (1 - mask)).mean()


def proximity(mask: Cells, start: Cells) -> Float[Tensor, ""]:
    """Compute the mean of (M - start)^2."""
    return (mask - start).square().mean()


def dissimilarity(
    embeddings: Embeddings, other: OtherEmbeddings, weights: Float[Tensor, " window"]
) -> Float[Tensor, ""]:
    """Compute the weighted mean of 1 - cosine similarity: 0 where embeddings point as ``other`` does."""
    return _weighted_mean(1 - F.cosine_similarity(embeddings, other, dim=-1), weights)


def similarity(
    embeddings: Embeddings, other: OtherEmbeddings, weights: Float[Tensor, " window"]
) -> Float[Tensor, ""]:
    """Compute the weighted mean of the cosine similarity, where it is positive; else it is low enough."""
    return _weighted_mean(F.cosine_similarity(embeddings, other, dim=-1).clamp_min(0), weights)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (weights * values).sum() / weights.sum().clamp_min(TINY_POWER)
