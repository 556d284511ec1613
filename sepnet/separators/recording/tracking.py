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
    n_blocks, n_orders = scores.shape
    best = scores[0] if first is None else scores[0] + first
    came_from = torch.zeros(n_blocks, n_orders, dtype=torch.long)
    for block in range(1, n_blocks):
        leader = int(best.argmax())
        moved = best[leader] - costs[block]
        stays = best >= moved
        came_from[block] = torch.where(stays, torch.arange(n_orders), torch.tensor(leader))
        best = torch.where(stays, best, moved) + scores[block]
    path = torch.zeros(n_blocks, dtype=torch.long)
    path[-1] = int(best.argmax())
    for block in range(n_blocks - 1, 0, -1):
        path[block - 1] = came_from[block, path[block]]
    return path
