"""Losses of embeddings: points of one source lie close together, points of different sources far apart.

V (point, dim) are embeddings, of which only the direction counts, and Y (point, source) one-hot labels, both
with rows scaled to the square root of a weight w. The affinities of N x N pairs of points are never computed:
by |A B'|^2 = tr(A'A B'B) the products are of the size of the embedding (Hershey et al. 2016, eq. 3).
They are float32 also under autocast: in bfloat16 their differences would be little but rounding errors.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Embeddings = Float[Tensor, "batch point dim"]
Labels = Float[Tensor, "batch point source"]
Weights = Float[Tensor, "batch point"]
MIN_SQUARED_NORM = 1e-12  # of an embedding, that its direction is computed from


def affinity_loss(embeddings: Embeddings, labels: Labels, weights: Weights) -> Float[Tensor, " batch"]:
    """Compute |V V' - Y Y'|^2 / (sum_i w_i)^2: from 0, where embeddings equal the labels, to 2.

    Hershey et al., "Deep clustering: discriminative embeddings for segmentation and separation", ICASSP
    2016, eq. 2; with weights as in Wang, Le Roux, Hershey, "Alternative objective functions for deep
    clustering", ICASSP 2018.

    Args:
        embeddings: (batch, point, dim), of any length.
        labels: One-hot, (batch, point, source).
        weights: The weight of each point, (batch, point).

    Returns:
        The loss of each item; 0 where all weights are zero.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        v, y = _scaled_rows(embeddings, weights), labels * weights.sqrt().unsqueeze(-1)
        total = weights.sum(dim=-1).square()
        loss = _squared_norm(v.mT @ v) - 2 * _squared_norm(v.mT @ y) + _squared_norm(y.mT @ y)
    return torch.where(total > 0, loss / total.clamp_min(_tiny(total)), 0.0)


def whitened_kmeans_loss(
    embeddings: Embeddings, labels: Labels, weights: Weights, *, ridge: float = 1e-3
) -> Float[Tensor, " batch"]:
    """Compute dim - tr((V'V)^-1 V'Y (Y'Y)^-1 Y'V), the k-means objective of whitened embeddings.

    Wang, Le Roux, Hershey 2018, section 2. It is taken at the true labels, and lies between dim - sources,
    the optimum, and dim. A source without points contributes nothing.

    Args:
        embeddings: (batch, point, dim), of any length.
        labels: One-hot, (batch, point, source).
        weights: The weight of each point, (batch, point).
        ridge: Added to (V'V) / sum w, whose trace is 1, so that it has an inverse.

    Returns:
        The loss of each item; dim where all weights are zero.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        v, y = _scaled_rows(embeddings, weights), labels * weights.sqrt().unsqueeze(-1)
        total = weights.sum(dim=-1).clamp_min(_tiny(weights))[:, None, None]
        covariance = v.mT @ v / total  # (batch, dim, dim)
        covariance = covariance + ridge * torch.eye(covariance.shape[-1]).to(covariance)
        joint = v.mT @ y / total  # (batch, dim, source)
    shares = y.square().sum(dim=-2) / total[..., 0]  # (batch, source), the diagonal of Y'Y
    inverse = torch.where(shares > 0, 1 / shares.clamp_min(_tiny(shares)), 0.0)
    explained = (torch.linalg.solve(covariance, joint) * joint).sum(dim=-2) * inverse
    loss: Tensor = embeddings.shape[-1] - explained.sum(dim=-1)
    return loss


def _scaled_rows(rows: Embeddings, weights: Weights) -> Embeddings:
    """Scale rows to the length sqrt(w) in one pass over them, in float32 at least."""
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    power = rows.square().sum(dim=-1)
    return rows * (weights.sqrt() * power.clamp_min(MIN_SQUARED_NORM).rsqrt()).unsqueeze(-1)


def _squared_norm(matrix: Float[Tensor, "batch row column"]) -> Float[Tensor, " batch"]:
    return matrix.square().sum(dim=(-2, -1))


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
