"""Initial factors for non-negative matrix factorisation: random ones, and NNDSVD."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.types import SepnetError

Matrices = Float[Tensor, "item bin frame"]


def random_start(X: Matrices, n_components: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw both factors from |N(0, 1)|, at the level of X.

    Args:
        X: (item, bin, frame), not negative.
        n_components: How many components.
        generator: On the CPU, whatever the device of X.

    Returns:
        The dictionaries (item, bin, component) and the activations (item, component, frame).
    """
    n_items, n_bins, n_frames = X.shape
    level = (X.mean(dim=(1, 2), keepdim=True) / n_components).sqrt()
    level = torch.where(level > 0, level, 1.0)
    shapes = ((n_items, n_bins, n_components), (n_items, n_components, n_frames))
    draws = [torch.randn(shape, generator=generator, dtype=torch.float64).abs() for shape in shapes]
    dictionary, activations = (draw.to(X) * level for draw in draws)
    return dictionary, activations


def nndsvd(X: Matrices, n_components: int) -> tuple[Tensor, Tensor]:
    """Derive both factors from singular vectors, without random numbers.

    Boutsidis and Gallopoulos, "SVD based initialization: a head start for nonnegative matrix
    factorization", Pattern Recognition 41(4), 2008: of each pair of singular vectors the positive or the
    negative part is used, whichever is larger. As in their NNDSVDa, zeros are replaced by the mean of X:
    multiplicative updates would leave them zero.

    Args:
        X: (item, bin, frame), not negative.
        n_components: How many components.

    Returns:
        The dictionaries (item, bin, component) and the activations (item, component, frame).

    Raises:
        SepnetError: There are more components than X has bins or frames.
    """
    if n_components > min(X.shape[1:]):
        raise SepnetError(
            f"an NNDSVD start has at most as many components as X has bins and frames, but n_components="
            f"{n_components} for {X.shape[1]} bins and {X.shape[2]} frames: take fewer, or a random start"
        )
    U, S, Vh = torch.linalg.svd(X.double(), full_matrices=False)
    U, S, V = U[..., :n_components], S[:, :n_components], Vh[:, :n_components].mT
    halves = [(U.clamp_min(0), V.clamp_min(0)), ((-U).clamp_min(0), (-V).clamp_min(0))]
    norms = [(u.norm(dim=1), v.norm(dim=1)) for u, v in halves]  # (item, component) each
    sizes = [u * v for u, v in norms]
    positive = (sizes[0] >= sizes[1])[:, None]
    mean = X.double().mean(dim=(1, 2), keepdim=True)
    factors = []
    for side in (0, 1):
        units = [
            half[side] / norm[side][:, None].clamp_min(1e-300)
            for half, norm in zip(halves, norms, strict=True)
        ]
        factor = (S * torch.maximum(*sizes)).sqrt()[:, None] * torch.where(positive, *units)
        factors.append(torch.where(factor < 1e-6 * mean.sqrt(), mean, factor))
    return factors[0].to(X), factors[1].mT.to(X)
