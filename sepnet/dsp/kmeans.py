"""K-means of weighted points: k-means++ starts, and the best of several restarts.

The inertia sum_i w_i |x_i - c(x_i)|^2 is minimised by Lloyd's two steps (IEEE Transactions on Information
Theory 28(2), 1982), neither of which increases it. To cluster by direction, normalise the points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sepnet.types import SepnetError

Points = Float[Tensor, "point feature"]
Centres = Float[Tensor, "cluster feature"]
Weights = Float[Tensor, " point"]

MAX_BLOCK_NUMBERS = 2**24  # points times features of which differences to a centre are computed at once


@dataclass(frozen=True)
class Clustering:
    """A clustering of points.

    Attributes:
        labels: (point,), the cluster of each point.
        centres: (cluster, feature).
        inertia: Weighted sum of squared distances to the centres.
        n_iterations: How many iterations it took.
    """

    labels: Tensor
    centres: Tensor
    inertia: float
    n_iterations: int


@torch.no_grad()
def kmeans(
    points: Points,
    n_clusters: int,
    *,
    weights: Weights | None = None,
    n_restarts: int = 10,
    n_iterations: int = 100,
    seed: int = 0,
) -> Clustering:
    """Cluster points; the best of several k-means++ starts.

    Args:
        points: (point, feature).
        n_clusters: How many; with fewer distinct points than that, some clusters stay empty.
        weights: Of the points, not negative; a point of weight zero gets a label but moves no centre.
            None: all are equal.
        n_restarts: How many starts.
        n_iterations: Most iterations from each.
        seed: Of the starts; the result is the same on every device.

    Returns:
        The clustering with the smallest inertia.

    Raises:
        SepnetError: There are fewer points than clusters, or NaN, infinity or negative weights.

    Example:
        >>> kmeans(torch.tensor([[0.0], [0.1], [5.0]]), 2).labels.unique().tolist()
        [0, 1]
    """
    if not 1 <= n_clusters <= len(points) or n_restarts < 1:
        raise SepnetError(
            f"{len(points)} points cannot form {n_clusters} clusters in {n_restarts} restarts: "
            "there have to be at least as many points as clusters, and 1 or more of each"
        )
    weights = points.new_ones(len(points)) if weights is None else weights
    if not bool(torch.isfinite(points).all() and torch.isfinite(weights).all() and (weights >= 0).all()):
        raise SepnetError("points and weights have to be finite, and weights not negative")
    if not bool(weights.any()):
        weights = torch.ones_like(weights)
    generator = torch.Generator().manual_seed(seed)
    clusterings = [
        lloyd(
            points,
            kmeans_plus_plus(points, n_clusters, weights, generator),
            weights=weights,
            n_iterations=n_iterations,
        )
        for _ in range(n_restarts)
    ]
    return min(clusterings, key=lambda clustering: clustering.inertia)


def kmeans_plus_plus(
    points: Points, n_clusters: int, weights: Weights, generator: torch.Generator
) -> Centres:
    """Draw initial centres among the points, which are far from each other.

    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007. A point is drawn with
    a probability proportional to its weight times its squared distance to the nearest centre; each centre is
    the best of 2 + log(n_clusters) draws (section 5 there).

    Args:
        points: (point, feature).
        n_clusters: How many centres.
        weights: Of the points, not all zero.
        generator: On the CPU, whatever the device of the points.

    Returns:
        The centres, (cluster, feature).
    """
    n_draws = 2 + n_clusters.bit_length()
    shares = weights.double()
    chosen: list[Tensor] = []
    closest = torch.full_like(shares, float("inf"))
    for number in range(n_clusters):
        uniform = torch.rand(n_draws, generator=generator, dtype=torch.float64).to(points.device)
        sums = (shares if number == 0 else shares * closest).cumsum(dim=0)
        # All points coincide with centres: it makes no difference which one is drawn.
        sums = sums if bool(sums[-1] > 0) else weights.double().cumsum(dim=0)
        drawn = torch.searchsorted(sums, uniform * sums[-1], right=True).clamp_max(len(points) - 1)
        candidates = points[drawn if number else drawn[:1]]  # (draw, feature)
        nearer = torch.minimum(closest[:, None], _distances(points, candidates).double())  # (point, draw)
        best = (shares[:, None] * nearer).sum(dim=0).argmin()
        closest = nearer[:, best]
        chosen.append(candidates[best])
    return torch.stack(chosen)


@torch.no_grad()
def lloyd(
    points: Points, centres: Centres, *, weights: Weights | None = None, n_iterations: int = 100
) -> Clustering:
    """Iterate from given centres until no label changes.

    A cluster that has lost all its points gets the point that is farthest from its centre.

    Args:
        points: (point, feature).
        centres: The initial centres, (cluster, feature).
        weights: Of the points, not negative; None: all are equal.
        n_iterations: Most iterations.

    Returns:
        The clustering.
    """
    weights = points.new_ones(len(points)) if weights is None else weights
    labels, distances = _nearest(points, centres)
    iteration = 0
    for iteration in range(1, n_iterations + 1):  # noqa: B007 (counted for the result)
        centres = _means(points, labels, distances, weights, centres)
        previous = labels
        labels, distances = _nearest(points, centres)
        if torch.equal(labels, previous):
            break
    inertia = float((weights.double() * distances.double()).sum())
    return Clustering(labels, centres, inertia, iteration)


def _means(points: Tensor, labels: Tensor, distances: Tensor, weights: Tensor, centres: Tensor) -> Tensor:
    """The weighted mean of each cluster; an empty cluster gets the farthest point."""
    totals = weights.new_zeros(len(centres)).index_add_(0, labels, weights)
    sums = torch.zeros_like(centres).index_add_(0, labels, weights[:, None] * points)
    tiny = torch.finfo(totals.dtype).tiny
    moved = torch.where(totals[:, None] > 0, sums / totals.clamp_min(tiny)[:, None], centres)
    remaining = (weights * distances).clone()
    for cluster in (totals == 0).nonzero().flatten().tolist():
        farthest = int(remaining.argmax())
        if remaining[farthest] > 0:
            moved[cluster], remaining[farthest] = points[farthest], 0.0
    return moved


def _nearest(points: Tensor, centres: Tensor) -> tuple[Int[Tensor, " point"], Weights]:
    """The nearest centre of each point, and the squared distance to it."""
    nearest = _distances(points, centres).min(dim=1)
    return nearest.indices, nearest.values


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (point, cluster), from differences: |x|^2 - 2 x c + |c|^2 cancels in float32."""
    size = max(1, MAX_BLOCK_NUMBERS // points.shape[1])
    columns = [
        torch.cat([(part - centre).square().sum(dim=1) for part in torch.split(points, size)])
        for centre in centres
    ]
    return torch.stack(columns, dim=1)
