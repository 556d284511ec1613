"""Adam for many small problems at once, without autograd (Kingma and Ba 2015)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BETA_1, BETA_2 = 0.8, 0.95  # see adam
EPSILON = 1e-4  # see adam


def adam(
    start: Tensor,
    gradient: Callable[[Tensor], Tensor],
    *,
    steps: int,
    lr: float,
    has_converged: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Minimise by Adam; each number has a step size of its own, and the learning rate falls to zero.

    The moments decay fast (0.8 and 0.95, not 0.9 and 0.999): in 50 steps slow ones overshoot the minimum, and
    a gain that passes zero inverts the phase. Epsilon is large compared with rounding, so that a gradient of
    rounding errors moves nothing.

    Args:
        start: Where to start, of any shape.
        gradient: From the numbers to the gradient at them.
        steps: How many steps.
        lr: Learning rate of the first step.
        has_converged: From the numbers (..., row, number) to whether each row (..., row) has converged. Rows
            that have are not changed any more; once all have, it stops.

    Returns:
        The numbers after the last step.
    """
    x, first, second = start, torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, steps + 1):
        g = gradient(x)
        first = torch.lerp(first, g, 1 - BETA_1)
        second = torch.lerp(second, g.square(), 1 - BETA_2)
        scale = (second / (1 - BETA_2**step)).sqrt() + EPSILON
        moved = x - lr * (1 - (step - 1) / steps) * first / (1 - BETA_1**step) / scale
        if has_converged is None:
            x = moved
            continue
        converged = has_converged(x).unsqueeze(-1)
        if bool(converged.all()):
            break
        x = torch.where(converged, x, moved)
    return x
