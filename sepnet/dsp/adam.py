"""Adam on a whole array of small problems at once, without autograd (Kingma and Ba 2015)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BETA_1, BETA_2 = 0.8, 0.95  # see adam


def adam(
    start: Tensor,
    gradient: Callable[[Tensor], Tensor],
    *,
    steps: int,
    rate: float,
    settled: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Adam (Kingma and Ba 2015) from ``start``, each number on its own, the rate falling to zero.

    Its memory is short (0.8 and 0.95, for 0.9 and 0.999): in 50 steps a longer one runs past the end, and
    through zero, where a gain would turn the phase round.

    settled: which rows of (..., row, number) have arrived, and are left there; all: it ends early. Its
    epsilon, 1e-4, is large beside rounding, so that a gradient of rounding noise moves nothing.
    """
    x, first, second = start, torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, steps + 1):
        slope = gradient(x)
        first = torch.lerp(first, slope, 1 - BETA_1)
        second = torch.lerp(second, slope.square(), 1 - BETA_2)
        size = (second / (1 - BETA_2**step)).sqrt() + 1e-4
        moved = x - rate * (1 - (step - 1) / steps) * first / (1 - BETA_1**step) / size
        if settled is None:
            x = moved
            continue
        there = settled(x).unsqueeze(-1)
        if bool(there.all()):
            break
        x = torch.where(there, x, moved)
    return x
