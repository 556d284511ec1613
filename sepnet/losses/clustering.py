"""Losses of embeddings: points of the same source are to lie together, points of different ones apart.

V (point, dim) are embeddings, of which the direction alone counts, and Y (point, source) one-hot labels, both
with rows of the length of the square root of a weight w. In all of these the affinities of N x N pairs of
points are never formed: by |A B'|^2 = tr(A'A B'B) the products are of the size of the embedding (Hershey et
al. 2016, eq. 3).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Embeddings = Float[Tensor, "batch point dim"]
Labels = Float[Tensor, "batch point source"]
Weights = Float[Tensor, "batch point"]
EPS = 1e-12


def affinity_loss(embeddings: Embeddings, labels: Labels, weights: Weights) -> Float[Tensor, " batch"]:
    """|V V' - Y Y'|^2 / (sum_i w_i)^2: from 0, where embeddings are labels, to 2.

    Hershey et al., "Deep clustering: discriminative embeddings for segmentation and separation", ICASSP
    2016, eq. 2; with weights as in Wang, Le Roux, Hershey, "Alternative objective functions for deep
    clustering", ICASSP 2018. Without any weight the loss is 0.
    """
    v, y = _of_length(embeddings, weights), labels * weights.sqrt().unsqueeze(-1)
    total = weights.sum(dim=-1).square()
    loss = _squared(v.mT @ v) - 2 * _squared(v.mT @ y) + _squared(y.mT @ y)
    return torch.where(total > 0, loss / total.clamp_min(_tiny(total)), 0.0)


def whitened_kmeans_loss(
    embeddings: Embeddings, labels: Labels, weights: Weights, *, ridge: float = 1e-3
) -> Float[Tensor, " batch"]:
    """dim - tr((V'V)^-1 V'Y (Y'Y)^-1 Y'V): the k-means objective at the true labels, of whitened embeddings.

    Wang, Le Roux, Hershey 2018, section 2. From dim - sources, the best that can be, to dim. ridge: added
    to (V'V) / sum w, whose trace is 1, so that embeddings in a plane have an inverse; a source without
    points counts for nothing. Without any weight the loss is dim.
    """
    v, y = _of_length(embeddings, weights), labels * weights.sqrt().unsqueeze(-1)
    total = weights.sum(dim=-1).clamp_min(_tiny(weights))[:, None, None]
    covariance = v.mT @ v / total  # (batch, dim, dim)
    covariance = covariance + ridge * torch.eye(covariance.shape[-1]).to(covariance)
    joint = v.mT @ y / total  # (batch, dim, source)
    shares = y.square().sum(dim=-2) / total[..., 0]  # (batch, source), the diagonal of Y'Y
    inverse = torch.where(shares > 0, 1 / shares.clamp_min(_tiny(shares)), 0.0)
    explained = (torch.linalg.solve(covariance, joint) * joint).sum(dim=-2) * inverse
    loss: Tensor = embeddings.shape[-1] - explained.sum(dim=-1)
    return loss


def _of_length(rows: Embeddings, weights: Weights) -> Embeddings:
    """The rows, brought to the length sqrt(w) in one pass over them."""
    power = rows.square().sum(dim=-1)
    return rows * (weights.sqrt() * power.clamp_min(EPS).rsqrt()).unsqueeze(-1)


def _squared(matrix: Float[Tensor, "batch row column"]) -> Float[Tensor, " batch"]:
    return matrix.square().sum(dim=(-2, -1))


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
