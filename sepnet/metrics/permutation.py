"""Scores of all pairs of estimates and references, and the best assignment.

There may be more estimates than references, but never fewer.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sepnet.metrics.sdr import Metric
from sepnet.types import SepnetError

MAX_EXHAUSTIVE_SOURCES = 3  # whose 3! orders are scored at once, on the tensor's device


def pairwise(
    metric: Metric,
    estimates: Float[Tensor, "batch estimate *item"],
    references: Float[Tensor, "batch reference *item"],
) -> Float[Tensor, "batch estimate reference"]:
    """Compute the metric of each estimate with each reference, in one call by broadcasting.

    Args:
        metric: Compares two items: (time,) for ``si_sdr``, (bin, frame) for ``magnitude_mse``.
        estimates: (batch, estimate, *item).
        references: (batch, reference, *item).
    """
    shape = (estimates.shape[0], estimates.shape[1], references.shape[1])
    return metric(
        estimates.unsqueeze(2).expand(*shape, *estimates.shape[2:]),  # (batch, estimate, 1, *item)
        references.unsqueeze(1).expand(*shape, *references.shape[2:]),  # (batch, 1, reference, *item)
    )


def best_permutation(
    scores: Float[Tensor, "batch estimate reference"], maximise: bool = True
) -> Int[Tensor, "batch reference"]:
    """Find the estimate for each reference, none used twice, with the best mean score.

    Up to three estimates all orders are compared, on the device of ``scores`` and for the whole batch;
    for more, the Hungarian algorithm runs on a copy on the CPU. No gradient flows through the choice.

    Args:
        scores: The score of each pair.
        maximise: Whether a higher score is better.

    Returns:
        The index of the estimate for each reference.

    Raises:
        SepnetError: A score is NaN or infinite, or there are more references than estimates.
    """
    scores = scores.detach()
    n_estimates, n_references = scores.shape[1:]
    if n_estimates < n_references:
        raise SepnetError(f"{n_references} references can't each have one of {n_estimates} estimates")
    if not bool(torch.isfinite(scores).all()):
        items = (~torch.isfinite(scores)).flatten(1).any(dim=1).nonzero().flatten().tolist()
        raise SepnetError(
            f"scores of batch items {items} are NaN or infinite, so no order is best: "
            "look for NaN in the estimates and the references"
        )
    gains = scores if maximise else -scores
    return _exhaustive(gains) if n_estimates <= MAX_EXHAUSTIVE_SOURCES else _hungarian(gains)


def permute(
    estimates: Float[Tensor, "batch estimate *item"], indices: Int[Tensor, "batch reference"]
) -> Float[Tensor, "batch reference *item"]:
    """Put estimates in the order of the references, by the indices from ``best_permutation``."""
    rows = torch.arange(estimates.shape[0], device=estimates.device)
    return estimates[rows[:, None], indices]


def _exhaustive(gains: Tensor) -> Tensor:
    n_estimates, n_references = gains.shape[1:]
    orders = torch.tensor(list(permutations(range(n_estimates), n_references)), device=gains.device)
    references = torch.arange(n_references, device=gains.device)
    totals = gains[:, orders, references].sum(dim=-1)  # (batch, order, reference) -> (batch, order)
    return orders[totals.argmax(dim=1)]


def _hungarian(gains: Tensor) -> Tensor:
    # The columns come back as rows of the transpose: sorted by reference, each with its estimate.
    matrices = gains.transpose(1, 2).double().cpu().numpy()
    chosen = [scipy.optimize.linear_sum_assignment(matrix, maximize=True)[1] for matrix in matrices]
    return torch.from_numpy(np.stack(chosen)).to(gains.device)
