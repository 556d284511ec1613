"""Muon for the matrices of a network, AdamW for the rest, in one optimizer.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024
(https://kellerjordan.github.io/posts/muon). The size of the steps is that of J. Liu et al., "Muon is scalable
for LLM training", 2025, eq. 4. Unlike torch.optim.Muon, which takes two-dimensional parameters only, this one
treats the kernel of a convolution as the matrix (out channels, in channels x taps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sepnet.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, Probability
from sepnet.training.precision import has_fast_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic by Jordan et al., which is steep at zero


class Muon(Optimizer):
    """Optimizer whose steps are orthogonal matrices: the momentum U S V' of a weight becomes U V'.

    Biases, scales, and kernels with one input or output channel (such as depthwise ones) take the steps of
    AdamW. A step of Muon is scaled to the RMS of a step of AdamW, so both share the learning rate.

    Args:
        params: The parameters.
        lr: Learning rate of both.
        weight_decay: Decoupled weight decay of both.
        momentum: Nesterov momentum of Muon.
        n_iterations: Newton-Schulz iterations of Muon.
        betas: Decay rates of AdamW's averages.
        eps: Added to AdamW's denominator.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 1e-2,
        momentum: Probability = 0.95,
        n_iterations: NonNegativeInt = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        parameters = list(params)
        matrices = [parameter for parameter in parameters if _is_matrix(parameter)]
        others = [parameter for parameter in parameters if not _is_matrix(parameter)]
        common = {"lr": lr, "weight_decay": weight_decay}
        groups: list[dict[str, Any]] = [
            {"params": matrices, "momentum": momentum, "n_iterations": n_iterations},
            {"params": others, "betas": betas, "eps": eps},
        ]
        super().__init__([group for group in groups if group["params"]], common)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Computes the gradients and returns the loss; None if the gradients are computed already.

        Returns:
            The loss of the closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            take_step = self._orthogonal_step if "momentum" in group else self._adamw_step
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    take_step(parameter, parameter.grad, group)
        return loss

    def _orthogonal_step(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
        scale = 0.2 * max(update.shape) ** 0.5
        update = orthogonalise(update, n_iterations=group["n_iterations"])
        parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * scale)

    def _adamw_step(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        n_steps = float(state["step"])
        denominator = (state["square"] / (1 - second**n_steps)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(state["mean"], denominator, value=-group["lr"] / (1 - first**n_steps))


def orthogonalise(
    matrix: Float[Tensor, "row column"], *, n_iterations: int = 5
) -> Float[Tensor, "row column"]:
    """Replace a matrix U S V' by approximately U V'.

    Singular values that differ by a factor of up to a hundred become values from 0.7 to 1.2. Smaller ones are
    multiplied by about 3.4^n_iterations. Computed in bfloat16 on devices where that is fast; the precision
    suffices.

    Args:
        matrix: (row, column).
        n_iterations: Newton-Schulz iterations.

    Returns:
        (row, column).
    """
    a, b, c = COEFFICIENTS
    x = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = x.bfloat16() if has_fast_bfloat16(matrix.device) else x.float()
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(n_iterations):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if matrix.shape[0] > matrix.shape[1] else x).to(matrix)


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and min(parameter.shape[:2]) > 1
