"""A start of a factorisation by least squares, for Kullback-Leibler and Itakura-Saito.

Where v is near x, both divergences are nearly weighted squares:

    d(x | v) = (x - v)^2 / (2 x^p) + third order,   p = 1 for Kullback-Leibler, 2 for Itakura-Saito.   (1)

With weights of rank one, x_fn^p ~ (a_f b_n)^2, weighted least squares of X = W H are plain least squares of
the scaled matrix x_fn / (a_f b_n), whose factors are w_fk / a_f and h_kn / b_n. These are solved many times
sooner (sepnet.dsp.nmf_hals) than the divergences are minimised, and their solution is so near that few
iterations of the divergence remain. For a and b serve the levels of the bins and of the frames to the power
0.4. By (1) it would be 0.5, or 1 for Itakura-Saito; but weights of rank one overrate what is weak in a loud
bin or frame, and near these exponents pure tones over silence end in a worse minimum.

A few multiplicative updates come first, which lead to a better minimum, and of the factors before least
squares a small share is kept, because a zero that they set would remain zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sepnet.dsp.nmf_hals import HierarchicalLeastSquares
from sepnet.dsp.nmf_updates import MultiplicativeUpdates, Problem

N_MULTIPLICATIVE, N_LEAST_SQUARES = 10, 15
EXPONENT = 0.4  # of the levels; chosen on music, speech and pure tones
MIN_LEVEL = 1e-6  # of a bin and of a frame, relative to the mean of X
KEPT_SHARE = 0.05  # of the factors before least squares


@torch.no_grad()
def start_by_least_squares(problem: Problem) -> None:
    """Improve the factors of a problem in place; the objective of no item rises, and zeros stay zero.

    Args:
        problem: Of Kullback-Leibler or Itakura-Saito, without sparsity, not cut into parts, and with at least
            one spectrum that is not fixed.
    """
    given = problem.objective()
    first = MultiplicativeUpdates(problem)
    for _ in range(N_MULTIPLICATIVE):
        first.iterate()
    W, H = problem.W.clone(), problem.H.clone()
    bins, frames = (_levels(problem.X, dim) for dim in (2, 1))
    scaled = Problem(
        problem.X / (bins * frames),
        problem.dictionary / bins,
        problem.H / frames,
        "frobenius",
        0.0,
        problem.n_fixed,
    )
    squares = HierarchicalLeastSquares(scaled)
    for _ in range(N_LEAST_SQUARES):
        squares.iterate()
    squares.settle()
    problem.W[:, problem.n_fixed :].lerp_((scaled.W * bins.mT)[:, problem.n_fixed :], 1 - KEPT_SHARE)
    problem.H.lerp_(scaled.activations * frames, 1 - KEPT_SHARE)
    has_risen = ~(problem.objective() <= given)[:, None, None]
    problem.W.copy_(torch.where(has_risen, W, problem.W))
    problem.H.copy_(torch.where(has_risen, H, problem.H))


def _levels(X: Tensor, dim: int) -> Tensor:
    """Means over a dimension, relative to the mean of X, to the power: (item, bin, 1) or (item, 1, frame)."""
    means = X.mean(dim=dim, keepdim=True) / X.mean(dim=(1, 2), keepdim=True)
    return means.clamp_min(MIN_LEVEL).pow(EXPONENT)
