"""Where the estimates of a chunk change places: the best path through their possible orders (Viterbi).

An order assigns an estimate to each source. In each block it is scored by how well the estimates fit the
sources. A change of the order costs ``CHANGE_COST``, and less at a pause, where networks with a bounded
receptive field lose track.
"""

from __future__ import annotations

from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHANGE_COST = 0.5  # in the units of the scores: nepers of independent frames
PAUSE_FACTOR = 0.6  # of the cost, where one source pauses
SILENCE_FACTOR = 0.2  # of the cost, where all sources pause
MAX_TRACKED_SOURCES = 4  # with more there are too many orders


def orders_of(n_sources: int) -> Int[Tensor, "order source"]:
    """All orders of so many sources, the identity first."""
    return torch.tensor(list(permutations(range(n_sources))))


def score_orders(
    fits: Float[Tensor, "*block estimate source"], orders: Int[Tensor, "order source"]
) -> Float[Tensor, "*block order"]:
    """Sum, for each order, how well the estimates fit the sources that they are assigned to."""
    sources = torch.arange(orders.shape[1])
    return fits[..., orders, sources].sum(dim=-1)


def change_costs(
    active: Float[Tensor, "source block"], scale: float = CHANGE_COST
) -> Float[Tensor, " block"]:
    """Compute the cost of a change of the order right before each block.

    Args:
        active: 1 where a source sounds, else 0.
        scale: The cost where all sources sound.
    """
    before = torch.nn.functional.pad(active, (1, 0), value=1.0)[:, :-1]
    paused = torch.minimum(active, before) < 0.5  # in this block, or the one before
    costs = torch.full((active.shape[1],), scale, dtype=torch.float64)
    costs[paused.any(dim=0)] = PAUSE_FACTOR * scale
    costs[paused.all(dim=0)] = SILENCE_FACTOR * scale
    return costs


def best_path(
    scores: Float[Tensor, "block order"],
    costs: Float[Tensor, " block"],
    first: Float[Tensor, " order"] | None = None,
) -> Int[Tensor, " block"]:
    """Find the sequence of orders with the highest score.

    Args:
        scores: Of each order in each block.
        costs: Of a change right before each block.
        first: Added to the scores of the first block.

    Returns:
        The index of the order in each block.
    """
    rows, prices = scores.tolist(), costs.tolist()  # with so few numbers, lists are faster than tensors
    best = rows[0] if first is None else (scores[0] + first).tolist()
    predecessors = []
    for row, price in zip(rows[1:], prices[1:], strict=True):
        leader = best.index(max(best))
        moved = best[leader] - price
        predecessors.append([order if value >= moved else leader for order, value in enumerate(best)])
        best = [max(value, moved) + score for value, score in zip(best, row, strict=True)]
    path = [best.index(max(best))]
    for back in reversed(predecessors):
        path.append(back[path[-1]])
    return torch.tensor(path[::-1])
