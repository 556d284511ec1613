"""K-means: weighted points in Euclidean space, k-means++ starts, the best of several restarts.

Minimised is the inertia sum_i w_i |x_i - c(x_i)|^2, by Lloyd's two steps (IEEE Transactions on
Information Theory 28(2), 1982), neither of which raises it. To cluster by direction, bring the points
to unit length.
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

NUMBERS_AT_ONCE = 2**24  # of points times features, beside the points themselves


@dataclass(frozen=True)
class Clustering:
    """Where each point belongs: labels (point,), centres (cluster, feature), and the inertia reached."""

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
    """The best clustering of ``n_restarts`` k-means++ starts.

    weights: how much each point counts, none negative; a point of weight zero is labelled but moves no
    centre. seed: of the starts, the same on every device. With fewer distinct points than clusters, some
    clusters stay empty. Raises SepnetError where there are fewer points than clusters, and for NaN.
    """
    if not 1 <= n_clusters <= len(points) or n_restarts < 1:
        raise SepnetError(
            f"{len(points)} points can't be put into {n_clusters} clusters in {n_restarts} restarts: "
            "there have to be as many points as clusters, and 1 or more of each"
        )
    weights = points.new_ones(len(points)) if weights is None else weights
    if not bool(torch.isfinite(points).all() and torch.isfinite(weights).all() and (weights >= 0).all()):
        raise SepnetError("points and weights have to be finite numbers, and no weight negative")
    if not bool(weights.any()):
        weights = torch.ones_like(weights)
    generator = torch.Generator().manual_seed(seed)
    found = [
        lloyd(
            points, spread(points, n_clusters, weights, generator), weights=weights, n_iterations=n_iterations
        )
        for _ in range(n_restarts)
    ]
    return min(found, key=lambda each: each.inertia)


def spread(points: Points, n_clusters: int, weights: Weights, generator: torch.Generator) -> Centres:
    """A k-means++ start: each centre is a point drawn by its weight times its squared distance so far.

    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; greedy as there
    in section 5, that is the best of 2 + log(n_clusters) draws for each centre.
    """
    n_draws = 2 + n_clusters.bit_length()
    shares = weights.double()
    chosen: list[Tensor] = []
    closest = torch.full_like(shares, float("inf"))
    for number in range(n_clusters):
        uniform = torch.rand(n_draws, generator=generator, dtype=torch.float64).to(points.device)
        sums = (shares if number == 0 else shares * closest).cumsum(dim=0)
        # All points lie on centres already: whichever is drawn, it adds nothing.
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
    """Lloyd's iterations from given centres, until no label changes.

    A cluster that lost all of its points takes the one that is farthest from its centre.
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
    """The weighted mean of each cluster; an empty one gets the farthest point."""
    totals = weights.new_zeros(len(centres)).index_add_(0, labels, weights)
    sums = torch.zeros_like(centres).index_add_(0, labels, weights[:, None] * points)
    tiny = torch.finfo(totals.dtype).tiny
    moved = torch.where(totals[:, None] > 0, sums / totals.clamp_min(tiny)[:, None], centres)
    left = (weights * distances).clone()
    for cluster in (totals == 0).nonzero().flatten().tolist():
        farthest = int(left.argmax())
        if left[farthest] > 0:
            moved[cluster], left[farthest] = points[farthest], 0.0
    return moved


def _nearest(points: Tensor, centres: Tensor) -> tuple[Int[Tensor, " point"], Weights]:
    """The nearest centre of each point, and the squared distance to it."""
    nearest = _distances(points, centres).min(dim=1)
    return nearest.indices, nearest.values


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (point, cluster), by differences: |x|^2 - 2 x c + |c|^2 cancels in float32."""
    size = max(1, NUMBERS_AT_ONCE // points.shape[1])
    columns = [
        torch.cat([(part - centre).square().sum(dim=1) for part in torch.split(points, size)])
        for centre in centres
    ]
    return torch.stack(columns, dim=1)
