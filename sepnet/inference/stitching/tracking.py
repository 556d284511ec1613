"""Where the estimates of a chunk change places: the likeliest path through their possible orders (Viterbi).

An order gives for each source the estimate that is its. Block after block it is scored by how well the
estimates fit the sources; a change of the order costs ``CHANGE``, and less beside a pause, where networks
with a bounded view lose track.
"""

from __future__ import annotations

from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHANGE = 0.5  # in the units of the scores: independent frames, times nepers
PAUSED = 0.6  # of that, where one source pauses
SILENT = 0.2  # of that, where all do
MOST_TRACKED = 4  # sources: of more there are too many orders


def orders_of(n_sources: int) -> Int[Tensor, "order source"]:
    """All orders, the identity first."""
    return torch.tensor(list(permutations(range(n_sources))))


def score_orders(
    likeness: Float[Tensor, "*block estimate source"], orders: Int[Tensor, "order source"]
) -> Float[Tensor, "*block order"]:
    """The score of each order: the sum over the sources of how the estimate given to it fits."""
    sources = torch.arange(orders.shape[1])
    return likeness[..., orders, sources].sum(dim=-1)


def change_costs(active: Float[Tensor, "source block"], scale: float = CHANGE) -> Float[Tensor, " block"]:
    """What a change of the order right before each block costs. active: 1 where a source sounds, else 0."""
    before = torch.nn.functional.pad(active, (1, 0), value=1.0)[:, :-1]
    paused = torch.minimum(active, before) < 0.5  # in this block, or the one before
    costs = torch.full((active.shape[1],), scale, dtype=torch.float64)
    costs[paused.any(dim=0)] = PAUSED * scale
    costs[paused.all(dim=0)] = SILENT * scale
    return costs


def likeliest_path(
    scores: Float[Tensor, "block order"],
    costs: Float[Tensor, " block"],
    first: Float[Tensor, " order"] | None = None,
) -> Int[Tensor, " block"]:
    """The index of the order in each block. first: what speaks for each order at the beginning, besides."""
    rows, prices = scores.tolist(), costs.tolist()  # of so few numbers, lists are quicker than tensors
    best = rows[0] if first is None else (scores[0] + first).tolist()
    came_from = []
    for row, price in zip(rows[1:], prices[1:], strict=True):
        leader = best.index(max(best))
        moved = best[leader] - price
        came_from.append([order if value >= moved else leader for order, value in enumerate(best)])
        best = [max(value, moved) + score for value, score in zip(best, row, strict=True)]
    path = [best.index(max(best))]
    for back in reversed(came_from):
        path.append(back[path[-1]])
    return torch.tensor(path[::-1])
