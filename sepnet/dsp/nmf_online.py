"""Non-negative matrix factorisation frame by frame, with a dictionary that learns as frames come in.

A. Lefevre, F. Bach, C. Fevotte, "Online algorithms for nonnegative matrix factorization with the
Itakura-Saito divergence", WASPAA 2011. A frame x (bin) is described as v = W h: h is found by the updates of
sepnet.dsp.nmf_updates with W as it stands. The bound of that file, summed over all frames so far, is as a
function of the dictionary (with W~ and v of each frame as they were then)

    itakura_saito:     sum_fk A_fk / w_fk + B_fk w_fk,      A = W~^2 (x / v^2) h^T,  B = (1 / v) h^T
    kullback_leibler:  sum_fk B_fk w_fk - A_fk log w_fk,    A = W~ (x / v) h^T,      B = 1 h^T        (1)

so that all frames are in two sums of the size of W, and its minimum is

    W = (A / B)^(1/2)  and  W = A / B.                                                                (2)

The paper scales the sums of the past by r < 1 before each frame adds its own, to forget.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.nmf_updates import Divergence

FLOOR = 1e-6  # beside frames of mean 1
LEAST = 1e-12  # a divisor

Frames = Float[Tensor, "frame bin"]
Dictionary = Float[Tensor, "bin component"]
Activations = Float[Tensor, "frame component"]


def activate(X: Frames, W: Dictionary, divergence: Divergence, n_iterations: int) -> Activations:
    """The activations of frames of mean 1, each on its own, from a flat start."""
    H = X.mean(dim=1, keepdim=True) / W.mean(dim=0).sum() * torch.ones_like(W[0])
    X, sums = X + FLOOR, W.sum(dim=0).clamp_min(LEAST)
    for _ in range(n_iterations):
        V = H @ W.T + FLOOR
        if divergence == "kullback_leibler":
            H = H * ((X / V) @ W / sums)
        else:
            inverse = V.reciprocal()
            H = H * ((X * inverse.square()) @ W / (inverse @ W).clamp_min(LEAST)).sqrt()
    return H


def statistics(
    x: Float[Tensor, " bin"], W: Dictionary, h: Float[Tensor, " component"], divergence: Divergence
) -> tuple[Dictionary, Dictionary]:
    """What a frame adds to A and B, equation (1)."""
    v, x = W @ h + FLOOR, x + FLOOR
    if divergence == "kullback_leibler":
        return W * torch.outer(x / v, h), h.expand_as(W)
    return W.square() * torch.outer(x / v.square(), h), torch.outer(v.reciprocal(), h)


def renew(A: Dictionary, B: Dictionary, divergence: Divergence) -> tuple[Dictionary, Dictionary, Dictionary]:
    """The minimum of the bound, equation (2), with columns of sum 1; and A and B for that unit.

    Bringing w_k to w_k / s and all its activations to s h_k changes no frame, and (1) to A / s (of
    Kullback-Leibler A) and s B.
    """
    ratio = A / B.clamp_min(LEAST)
    W = ratio.sqrt() if divergence == "itakura_saito" else ratio
    sums = W.sum(dim=0).clamp_min(LEAST)
    return W / sums, A / sums if divergence == "itakura_saito" else A, B * sums
