"""A few steps of Adam on the parameters of a mask, with nothing else touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class MaskParameters(Protocol):
    """An nn.Module whose parameters are those of a mask."""

    def render(self) -> Float[Tensor, "frame mel"]:
        """The mask, in [0, 1], differentiable in the parameters."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As torch.nn.Module.parameters."""
        ...


def descend(
    parameters: MaskParameters,
    loss: Callable[[Float[Tensor, "frame mel"]], Tensor],
    *,
    steps: int,
    lr: float,
    decay: bool = True,
) -> tuple[float, ...]:
    """Minimise the loss of the mask in place by Adam (Kingma and Ba 2015); the losses before each step.

    decay: the rate falls linearly, to lr / steps in the last step. Gradients are taken of the mask's
    parameters alone, so those of networks that the loss goes through stay untouched. It ends before the step
    whose loss or gradient is not finite; the last loss is then NaN.
    """
    free = list(parameters.parameters())
    adam = torch.optim.Adam(free, lr=lr)
    losses = []
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = lr * (1 - step / steps if decay else 1.0)
        with torch.enable_grad():
            value = loss(parameters.render())
            slopes = torch.autograd.grad(value, free)
        finite = bool(torch.isfinite(value)) and all(bool(slope.isfinite().all()) for slope in slopes)
        losses.append(value.item() if finite else float("nan"))
        if not finite:
            break
        for parameter, slope in zip(free, slopes, strict=True):
            parameter.grad = slope
        adam.step()
    return tuple(losses)
