"""Online non-negative matrix factorisation: a dictionary that is updated frame by frame.

A. Lefevre, F. Bach, C. Fevotte, "Online algorithms for nonnegative matrix factorization with the
Itakura-Saito divergence", WASPAA 2011. A frame x (bin) is approximated by v = W h; h is estimated by the
updates of sepnet.dsp.nmf_updates with the current W. The bound of that file, summed over all frames so far,
is as a function of the dictionary (where W~ and v of each frame are those at its time)

    itakura_saito:     sum_fk A_fk / w_fk + B_fk w_fk,      A = W~^2 (x / v^2) h^T,  B = (1 / v) h^T
    kullback_leibler:  sum_fk B_fk w_fk - A_fk log w_fk,    A = W~ (x / v) h^T,      B = 1 h^T        (1)

so all frames are represented by two sums of the size of W, and its minimum is

    W = (A / B)^(1/2)  and  W = A / B.                                                                (2)

To forget, the paper multiplies the sums by r < 1 before each frame is added.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.nmf_updates import Divergence

FLOOR = 1e-6  # is added to frames of mean 1 and to their model
MIN_DIVISOR = 1e-12

Frames = Float[Tensor, "frame bin"]
Dictionary = Float[Tensor, "bin component"]
Activations = Float[Tensor, "frame component"]


def activate(X: Frames, W: Dictionary, divergence: Divergence, n_iterations: int) -> Activations:
    """Estimate the activations of frames, each independent of the others.

    Args:
        X: Frames of mean 1.
        W: The dictionary.
        divergence: Itakura-Saito or Kullback-Leibler.
        n_iterations: How many iterations, from equal activations of all components.

    Returns:
        The activations.
    """
    H = X.mean(dim=1, keepdim=True) / W.mean(dim=0).sum() * torch.ones_like(W[0])
    X, sums = X + FLOOR, W.sum(dim=0).clamp_min(MIN_DIVISOR)
    for _ in range(n_iterations):
        V = H @ W.T + FLOOR
        if divergence == "kullback_leibler":
            H = H * ((X / V) @ W / sums)
        else:
            inverse = V.reciprocal()
            H = H * ((X * inverse.square()) @ W / (inverse @ W).clamp_min(MIN_DIVISOR)).sqrt()
    return H


def frame_statistics(
    x: Float[Tensor, " bin"], W: Dictionary, h: Float[Tensor, " component"], divergence: Divergence
) -> tuple[Dictionary, Dictionary]:
    """Compute what a frame adds to A and B, equation (1).

    Args:
        x: The frame, of mean 1.
        W: The dictionary.
        h: Its activations.
        divergence: Itakura-Saito or Kullback-Leibler.

    Returns:
        The summands of A and B.
    """
    v, x = W @ h + FLOOR, x + FLOOR
    if divergence == "kullback_leibler":
        return W * torch.outer(x / v, h), h.expand_as(W)
    return W.square() * torch.outer(x / v.square(), h), torch.outer(v.reciprocal(), h)


def update_dictionary(
    A: Dictionary, B: Dictionary, divergence: Divergence
) -> tuple[Dictionary, Dictionary, Dictionary]:
    """Minimise the bound, equation (2), and normalise the columns to sum 1.

    Scaling w_k to w_k / s and all its activations to s h_k changes no frame. It scales A to A / s (with
    Kullback-Leibler A stays) and B to s B.

    Args:
        A: The first sum of equation (1).
        B: The second sum of equation (1).
        divergence: Itakura-Saito or Kullback-Leibler.

    Returns:
        The dictionary, and A and B in its new scale.
    """
    ratio = A / B.clamp_min(MIN_DIVISOR)
    W = ratio.sqrt() if divergence == "itakura_saito" else ratio
    sums = W.sum(dim=0).clamp_min(MIN_DIVISOR)
    return W / sums, A / sums if divergence == "itakura_saito" else A, B * sums
