"""Gradient descent by Adam on the parameters of a mask; nothing else receives a gradient."""

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
        """The mask, in [0, 1], differentiable with respect to the parameters."""
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
    lr_decay: bool = True,
) -> tuple[float, ...]:
    """Minimise the loss of a mask in place by Adam (Kingma and Ba 2015).

    Gradients are computed for the mask's parameters only, so networks inside the loss stay untouched. The
    descent stops before the step whose loss or gradient is not finite.

    Args:
        parameters: The parameters of the mask; they are changed.
        loss: A scalar, as a function of the mask (frame, mel).
        steps: The number of steps.
        lr: Learning rate.
        lr_decay: Whether it decreases linearly, to lr / steps in the last step.

    Returns:
        The loss before each step; the last one is NaN if the descent stopped early.
    """
    free = list(parameters.parameters())
    adam = torch.optim.Adam(free, lr=lr)
    losses = []
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = lr * (1 - step / steps if lr_decay else 1.0)
        with torch.enable_grad():
            value = loss(parameters.render())
            gradients = torch.autograd.grad(value, free)
        finite = bool(torch.isfinite(value)) and all(
            bool(gradient.isfinite().all()) for gradient in gradients
        )
        losses.append(value.item() if finite else float("nan"))
        if not finite:
            break
        for parameter, gradient in zip(free, gradients, strict=True):
            parameter.grad = gradient
        adam.step()
    return tuple(losses)
